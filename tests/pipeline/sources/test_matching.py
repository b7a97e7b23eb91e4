"""True and false captions: hard, never of the same picture, half yes and half no, in every language."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from pipeline.mix import LanguagesConfig, Mix
from pipeline.plan import plan_languages
from pipeline.sources.config import MatchingSource
from pipeline.sources.matching import POOL, Caption, hard_negatives, normalise, pools, read
from pipeline.sources.read import read_examples
from tests.pipeline.sources import published


def caption(number, text, image=None):
    return Caption(
        f"c:{number}",
        f"{number}.jpg",
        f"{(number if image is None else image) * 2654435761 % 2**32:08x}" + "0" * 56,
        text,
        "CC0-1.0",
        "",
    )


def source(**more):
    return MatchingSource(name="match", reader="matching", of="c", licence="CC0-1.0", **more)


CAPTIONS = [
    caption(0, "A brown dog runs on the beach."),
    caption(1, "A brown dog runs on the sand."),
    caption(2, "A black dog runs in the snow."),
    caption(3, "a brown dog runs on the beach", image=4),  # says the same as 0, on another picture
    caption(5, "Two cups of coffee on a table."),
    caption(6, "A cup of tea on a table."),
    caption(7, "A dog that is brown runs on the beach.", image=0),  # of the same picture as 0
]


def false_caption_of(number, encode=None, **more):
    return next(iter(hard_negatives(CAPTIONS, [number], source(**more), encode)))


def test_the_nearest_caption_of_another_picture_is_taken():
    assert false_caption_of(0, ranks=[1]).text == "A brown dog runs on the sand."
    assert false_caption_of(4, ranks=[1]).text == "A cup of tea on a table."


def test_it_is_never_a_caption_of_the_same_picture_nor_says_the_same():
    for rank in range(1, 8):
        false = false_caption_of(0, ranks=[rank])
        assert false.image_sha256 != CAPTIONS[0].image_sha256 and normalise(false.text) != normalise(CAPTIONS[0].text)


def test_what_is_too_near_may_be_true_and_is_left_out():
    assert false_caption_of(0, ranks=[1], max_similarity=0.3).text == "A black dog runs in the snow."


def test_an_embedding_decides_when_one_is_given():
    vectors = np.eye(7)
    vectors[5] = vectors[0] * 0.8 + vectors[5] * 0.6  # the tea is "near" the dog
    assert false_caption_of(0, encode=lambda texts: vectors[: len(texts)], ranks=[1]).text == "A cup of tea on a table."


def test_an_embedding_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match="polyalign\\[embedding\\]"):
        list(read(source(embedding="some/model"), CAPTIONS))


def test_a_source_of_one_picture_has_no_false_captions_and_says_so():
    alone = [caption(i, f"Text {i}.", image=1) for i in range(3)]
    assert [e.reason for e in read(source(), alone)] == ["no_false_caption"] * 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    data = published.write_all(tmp_path_factory.mktemp("data"))
    sources = [
        {"name": "coco", "reader": "coco_karpathy", "path": data / "coco/dataset_coco.json", "licence": "CC-BY-4.0"},
        {"name": "match", "reader": "matching", "of": "coco", "limit": 60},
    ]
    return read_examples(Mix(name="m", sources=sources, translation={"model": "x"}, memory="y"))


def test_half_is_true_and_half_is_false_in_every_language(corpus):
    examples = corpus.examples.filter(pa.compute.equal(corpus.examples["source"], "match"))
    assert examples.num_rows == 60 == corpus.counts["match"] and corpus.ledger.num_rows == 0
    label = {e["id"]: e["fields"][1]["text"] for e in examples.to_pylist()}
    assert Counter(label.values()) == {"yes": 30, "no": 30}
    plan = plan_languages(examples, LanguagesConfig(include=["de", "sw", "hi"], per_example=2))
    for language in set(plan["language"].to_pylist()):
        counts = Counter(label[r["example"]] for r in plan.to_pylist() if r["language"] == language)
        assert counts["yes"] == counts["no"] > 0


def test_a_false_caption_is_one_of_another_picture_with_the_licence_of_its_source(corpus):
    captions = {}
    for e in corpus.examples.to_pylist():
        if e["source"] == "coco":
            captions.setdefault(e["image"], set()).add(normalise(e["fields"][0]["text"]))
    for e in corpus.examples.to_pylist():
        if e["source"] == "match":
            text, label = normalise(e["fields"][0]["text"]), e["fields"][1]["text"]
            assert (text in captions[e["image"]]) == (label == "yes")
            assert e["licence"] == "CC-BY-4.0"


def test_the_pairs_do_not_depend_on_the_order_of_the_captions():
    def pairs(captions):
        return {(e.id, e.fields) for e in read(source(ranks=[1, 2, 3]), captions)}

    assert pairs(CAPTIONS) == pairs(CAPTIONS[::-1])


def test_a_nearer_caption_makes_a_new_example_and_changes_no_old_one():
    before = {e.id: e.fields for e in read(source(ranks=[1]), CAPTIONS)}
    after = {
        e.id: e.fields for e in read(source(ranks=[1]), [*CAPTIONS, caption(9, "A brown dog runs on the sandy beach.")])
    }
    assert any(i not in after for i in before)
    assert all(before[i] == after[i] for i in before.keys() & after.keys())


def test_many_captions_are_cut_into_pools_with_the_captions_of_one_picture_together():
    many = [caption(i, "x", image=i // 2) for i in range(2 * POOL + 2)]
    parts = pools(many)
    assert sum(map(len, parts)) == len(many) and max(map(len, parts)) <= POOL * 1.1
    assert all(len({c.image_sha256 for c in p}) * 2 == len(p) for p in parts)
