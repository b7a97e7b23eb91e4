"""Selection and cleaning of English data."""

import io
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from pipeline.mix import ExcludeConfig, Mix
from pipeline.sources.config import NounPhrases
from pipeline.sources.read import missing_sources, read_examples
from pipeline.sources.select import Exclusion, duplicate_key, main, noun_phrases, select_by_noun_phrases
from tests.pipeline.sources import published


@pytest.mark.parametrize(
    ("kind", "one", "other", "same"),
    [
        ("exact", "A dog on a beach.", "a dog  on a beach", True),
        ("exact", "A dog on a beach.", "The dog on a beach.", False),
        ("near", "A man riding a wave.", "the man is riding the waves", True),
        ("near", "A man riding a wave on top of a surfboard.", "A man on a surfboard riding on top of a wave", True),
        ("near", "A red car.", "A blue car.", False),
        ("near", "A man without a hat.", "A man with a hat.", False),
        ("near", "Two dogs.", "Three dogs.", False),
        ("near", "the", "a", False),
        ("near", "犬", "猫", False),
        ("exact", "犬", "猫", False),
        ("exact", "?!", "!!", False),
    ],
)
def test_what_says_the_same_is_a_duplicate(kind, one, other, same):
    assert (duplicate_key([one], kind) == duplicate_key([other], kind)) == same


def test_two_fields_are_not_one():
    assert duplicate_key(["a b", "c"], "exact") != duplicate_key(["a", "b c"], "exact")


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("a wooden chair in the old house", ["wooden chair", "old house"]),
        ("Two young men riding a big wave on their surfboards.", ["two young men", "big wave", "surfboards"]),
        ("the woman is wearing a long blue dress", ["woman", "long blue dress"]),
        ("A dog and a dog", ["dog"]),
        ("", []),
        ("!!! ...", []),
    ],
)
def test_noun_phrases_of_captions(caption, phrases):
    assert noun_phrases(caption) == phrases


def test_captions_are_balanced_by_their_noun_phrases():
    captions = [f"a red dog number {i}" for i in range(50)] + ["a green boat"] * 12 + ["a rare quetzal"] * 9
    random = np.random.default_rng(0)
    order = random.permutation(len(captions)).astype(np.uint64)
    kept = select_by_noun_phrases(captions, order, NounPhrases(min=10, max=30))
    assert Counter(np.asarray([c.split()[1] for c in captions])[kept].tolist()) == {"red": 30, "green": 12}
    assert set(order[:50][kept[:50]]) == set(np.sort(order[:50])[:30])  # the first by their hashes
    place = random.permutation(len(captions))
    again = select_by_noun_phrases([captions[i] for i in place], order[place], NounPhrases(min=10, max=30))
    assert set(np.flatnonzero(kept)) == set(place[again])
    assert not select_by_noun_phrases([], order[:0], NounPhrases()).any()


def test_a_list_can_be_shortened_before_its_download(tmp_path, capsys):
    published.capfilt(tmp_path)
    source, target = tmp_path / "capfilt/ccs_synthetic_filtered_large.json", tmp_path / "short.json"
    assert main([str(source), str(target), "--min", "3", "--max", "4", "--duplicates", "near"]) == 0
    records, kept = json.loads(source.read_text()), json.loads(target.read_text())
    assert f"{len(kept)} of 60" in capsys.readouterr().out
    assert 10 < len(kept) < 60 and all(r in records for r in kept)
    source.write_text(json.dumps(records[::-1]))
    main([str(source), str(tmp_path / "again.json"), "--min", "3", "--max", "4", "--duplicates", "near"])
    assert json.loads((tmp_path / "again.json").read_text()) == kept[::-1]
    source.write_text(json.dumps([*records, {"url": "x"}]))
    with pytest.raises(ValueError, match="record 61"):
        main([str(source), str(target)])


@pytest.fixture
def data(tmp_path):
    for i in range(4):
        published.write(tmp_path / f"{i}.jpg", published.picture(i))
    published.write(tmp_path / "COCO_train2014_000000000042.jpg", published.picture(42))
    lines = [
        "0.jpg,A red dog.",
        "0.jpg,a red dog",
        "1.jpg,A red dog",
        "1.jpg,The red dogs!",
        "2.jpg,A boat.",
        "3.jpg,A cat.",
    ]
    (tmp_path / "a.csv").write_text(
        "\n".join(["image,caption", *lines, "COCO_train2014_000000000042.jpg,A kite."]), encoding="utf-8"
    )
    return tmp_path


def read(data, exclude=None, **more):
    sources = [{"name": "s", "reader": "csv", "path": data / "a.csv", "licence": "CC0-1.0", **more}]
    corpus = read_examples(
        Mix(name="m", sources=sources, translation={"model": "x"}, memory="y", exclude=exclude or {})
    )
    left_out = sum(n for k, n in corpus.counts.items() if ":" in k)
    assert corpus.counts["s"] == corpus.examples.num_rows + corpus.ledger.num_rows + left_out
    return corpus


def test_duplicates_are_counted_by_kind_on_the_image_or_in_the_source(data):
    assert read(data).examples.num_rows == 7
    assert read(data, duplicates="exact").counts["s:duplicate_exact"] == 1
    assert read(data, duplicates="near").counts["s:duplicate_near"] == 2
    assert read(data, duplicates="exact", duplicates_within="source").counts["s:duplicate_exact"] == 2
    assert read(data, duplicates="near", duplicates_within="source").counts["s:duplicate_near"] == 3


def test_selection_by_noun_phrases_is_counted(data):
    corpus = read(data, noun_phrases={"min": 2, "max": 3})
    assert corpus.counts["s:noun_phrases"] == 4 and corpus.examples.num_rows == 3


def test_images_of_evaluation_sets_are_excluded_by_name(data):
    (data / "flickr.txt").write_text("# test images\n3  # a stem\n2.jpg\n", encoding="utf-8")
    (data / "coco.txt").write_text("coco:42\ncoco:3\n", encoding="utf-8")
    corpus = read(data, exclude={"ids": [data / "flickr.txt", data / "coco.txt"]})
    assert sorted(e["image"] for e in corpus.examples.to_pylist()) == ["0.jpg", "0.jpg", "1.jpg", "1.jpg"]
    assert corpus.ledger["reason"].to_pylist() == ["evaluation_image"] * 3
    assert any("coco:42 is in coco.txt" in d for d in corpus.ledger["detail"].to_pylist())


def test_images_of_evaluation_sets_are_excluded_by_look_even_when_resized(data):
    with Image.open(io.BytesIO(published.picture(2))) as original:
        published.write(data / "evaluation/other-name.png", b"")
        original.resize((96, 72)).save(data / "evaluation/other-name.png")
    corpus = read(data, exclude={"images": [data / "evaluation"]})
    assert [(r["id"].split(":")[0], r["reason"]) for r in corpus.ledger.to_pylist()] == [("s", "evaluation_image")]
    assert "looks like evaluation/other-name.png" in corpus.ledger["detail"][0].as_py()
    assert "2.jpg" not in corpus.examples["image"].to_pylist() and corpus.examples.num_rows == 6


def test_pictures_that_are_different_are_not_taken_for_each_other(data):
    for i in range(100, 140):
        published.write(data / f"evaluation/{i}.jpg", published.picture(i))
    assert read(data, exclude={"images": [data / "evaluation"]}).ledger.num_rows <= 1


def test_an_exclusion_list_that_is_not_there_is_named_before_any_work(data):
    exclude = {"ids": [data / "nowhere.txt"]}
    mix = Mix(
        name="m",
        sources=[{"name": "s", "path": data / "a.csv", "reader": "csv"}],
        translation={"model": "x"},
        memory="y",
        exclude=exclude,
    )
    assert any("nowhere.txt" in c for c in missing_sources(mix))
    with pytest.raises(ValueError, match=r"nowhere\.txt"):
        Exclusion(ExcludeConfig(ids=[data / "nowhere.txt"]))
