"""Readers, on small files written by hand in each owner's format."""

import json

import pytest
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

from evaluation import benchmarks
from evaluation.benchmarks.chair import read_synonyms
from evaluation.records import BenchmarkError, language_name, nllb_code


def put(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def test_xgqa_is_read_from_the_test_split_of_few_shot(tmp_path):
    root = tmp_path / "iglue" / "datasets"
    question = {"imageId": "n1", "question": "Ist es bewölkt?", "answer": "no", "semantic": []}
    put(root / "xGQA/annotations/few_shot/de/test.json", {"201": question})
    put(root / "xGQA/annotations/few_shot/de/dev.json", {"999": question})
    put(root / "xGQA/annotations/zero_shot/testdev_balanced_questions_de.json", {"201": question, "999": question})
    (item,) = benchmarks.read("xgqa", tmp_path, ["de"])
    assert (item.id, item.text, item.answers, item.group) == ("de/201", "Ist es bewölkt?", ("no",), "n1")
    assert item.images == (root / "gqa/images/n1.jpg",)


def test_xvnli_asks_the_hypothesis_and_leaves_pairs_without_a_label_out(tmp_path):
    row = {"gold_label": "neutral", "sentence1": "premise", "sentence2": "hypothesis", "captionID": "7.jpg#2",
           "pairID": "7.jpg#2r1n", "Flikr30kID": "7"}  # fmt: skip
    path = tmp_path / "iglue/datasets/XVNLI/annotations/fr/test.jsonl"
    put(path, row, {**row, "gold_label": "-", "pairID": "b"}, {**row, "gold_label": "contradiction", "pairID": "c"})
    items = benchmarks.read("xvnli", tmp_path, ["fr"])
    assert [(x.text, x.answers) for x in items] == [("hypothesis", ("maybe",)), ("hypothesis", ("no",))]
    assert items[0].images[0].name == "7.jpg" and items[0].images[0].parent.name == "flickr_images"
    put(path, {**row, "gold_label": "hidden"})
    with pytest.raises(BenchmarkError, match=r"line 1.*hidden"):
        benchmarks.read("xvnli", tmp_path, ["fr"])


def test_marvl_has_a_left_and_a_right_image_whose_names_may_be_decomposed(tmp_path):
    import unicodedata

    root = tmp_path / "iglue/datasets/marvl"
    concept = unicodedata.normalize("NFC", "12-Çorba")
    row = {"concept": concept, "language": "tr", "caption": "İki kase.", "left_img": "12-0.jpg", "right_img": "12-11.jpg",
           "annotator_info": {}, "chapter": "Food", "id": "tr-0", "label": True}  # fmt: skip
    put(root / "zero_shot/annotations/marvl-tr.jsonl", row, {**row, "id": "tr-1", "label": False})
    stored = root / "images/tr/images" / unicodedata.normalize("NFKD", concept)
    stored.mkdir(parents=True)
    for name in ("12-0.jpg", "12-11.jpg"):
        (stored / name).write_bytes(b"")
    items = benchmarks.read("marvl", tmp_path, ["tr"])
    assert [x.answers for x in items] == [("yes",), ("no",)]
    assert [path.name for path in items[0].images] == ["12-0.jpg", "12-11.jpg"]
    assert all(path.is_file() for path in items[0].images) and items[0].group == concept


def test_xflickrco_has_ids_of_two_kinds(tmp_path):
    put(tmp_path / "iglue/datasets/xFlickrCO/annotations/ja/test.jsonl",
        {"sentences": ["犬", "白い犬"], "id": "1007", "img_path": "1007.jpg"},
        {"sentences": ["矢印"], "id": 369771, "img_path": "COCO_val2014_000000369771.jpg"})  # fmt: skip
    items = benchmarks.read("xflickrco", tmp_path, ["ja"])
    assert [(x.id, x.answers) for x in items] == [("ja/1007", ("犬", "白い犬")), ("ja/369771", ("矢印",))]
    folder = tmp_path / "iglue/datasets/flickr30k/flickr_images"
    assert [x.images for x in items] == [(folder / "1007.jpg",), (folder / "COCO_val2014_000000369771.jpg",)]


def test_xm3600_takes_captions_as_they_are_and_not_the_tokenized_ones(tmp_path):
    def captions(*texts):
        return {"caption": list(texts), "caption/tokenized": ["x"], "caption/tokenized/lowercase": ["x"]}

    put(tmp_path / "xm3600/captions.jsonl",
        {"image/key": "a1", "image/locale": "he", "he": captions("כלב", "כלב רץ"), "quz": captions("allqu")},
        {"image/key": "a2", "image/locale": "cs", "he": captions("חתול")})  # fmt: skip
    items = benchmarks.read("xm3600", tmp_path, ["he", "quz"])
    assert [(x.id, x.answers) for x in items] == [
        ("he/a1", ("כלב", "כלב רץ")),
        ("he/a2", ("חתול",)),
        ("quz/a1", ("allqu",)),
    ]
    with pytest.raises(BenchmarkError, match=r"no caption in de"):
        benchmarks.read("xm3600", tmp_path, ["de"])


def test_maxm_takes_the_processed_answers_and_refuses_another_split(tmp_path):
    pair = {
        "question_id": "q1",
        "question": "Qui ?",
        "answers": ["Un chat"],
        "processed_answers": ["un chat", "chat"],
        "is_collection": False,
    }
    content = {
        "dataset": "maxm_v1",
        "version": "1",
        "split": "fr",
        "annotations": [{"image_id": "k", "image_url": "", "qa_pairs": [pair]}],
    }
    put(tmp_path / "maxm/maxm_v1_release/maxm_v1_fr.json", content)
    (item,) = benchmarks.read("maxm", tmp_path, ["fr"])
    assert item.answers == ("un chat", "chat") and item.images == (tmp_path / "xm3600/images/k.jpg",)
    put(tmp_path / "maxm/maxm_v1_release/maxm_v1_en.json", content)
    with pytest.raises(BenchmarkError, match=r"split 'fr'"):
        benchmarks.read("maxm", tmp_path, ["en"])


def test_pope_has_three_settings_and_chair_only_the_chosen_images(tmp_path):
    row = {"question_id": 1, "image": "COCO_val2014_1.jpg", "text": "Is there a dog in the image?", "label": "yes"}
    for setting in ("random", "popular", "adversarial"):
        put(tmp_path / f"pope/output/coco/coco_pope_{setting}.json", row, {**row, "question_id": 2, "label": "no"})
    items = benchmarks.read("pope", tmp_path)
    assert [x.id for x in items][::2] == ["en/random/1", "en/popular/1", "en/adversarial/1"]
    assert [x.answers for x in items[:2]] == [("yes",), ("no",)]
    assert items[0].images == (tmp_path / "pope/val2014/COCO_val2014_1.jpg",)
    path = tmp_path / "chair/segmentation/coco_ground_truth_segmentation.json"
    put(path, {"image": "a.jpg", "objects": ["dog"]}, {"image": "b.jpg", "objects": []})
    assert len(benchmarks.read("chair", tmp_path)) == 2
    (tmp_path / "chair/images.txt").write_text("b.jpg\n")
    assert [x.id for x in benchmarks.read("chair", tmp_path)] == ["en/b.jpg"]
    (tmp_path / "chair/images.txt").write_text("b.jpg\nc.jpg\n")
    with pytest.raises(BenchmarkError, match=r"c\.jpg"):
        benchmarks.read("chair", tmp_path)


def test_chair_s_synonyms_lead_to_their_class(tmp_path):
    with pytest.raises(BenchmarkError, match=r"synonyms.txt is not there"):
        read_synonyms(tmp_path)
    (tmp_path / "chair").mkdir()
    (tmp_path / "chair" / "synonyms.txt").write_text("person, girl, young man\nbench, pew\n")
    wanted = {"person": "person", "girl": "person", "young man": "person", "bench": "bench", "pew": "bench"}
    assert read_synonyms(tmp_path) == wanted


def test_the_same_item_twice_is_an_error(tmp_path):
    row = {"sentences": ["x"], "id": "1", "img_path": "1.jpg"}
    put(tmp_path / "iglue/datasets/xFlickrCO/annotations/de/test.jsonl", row, row)
    with pytest.raises(BenchmarkError, match=r"de/1 is there twice"):
        benchmarks.read("xflickrco", tmp_path, ["de"])


def test_a_damaged_line_and_a_lacking_field_are_named(tmp_path):
    path = tmp_path / "iglue/datasets/xFlickrCO/annotations/de/test.jsonl"
    put(path, {"sentences": ["x"], "id": "1"})
    with pytest.raises(BenchmarkError, match=r"line 1 has no 'img_path'"):
        benchmarks.read("xflickrco", tmp_path, ["de"])
    path.write_text('{"sentences": ["x"], "id": "1", "img_path": "1.jpg"}\n{"sent')
    with pytest.raises(BenchmarkError, match=r"line 2 is not JSON"):
        benchmarks.read("xflickrco", tmp_path, ["de"])


def test_check_says_which_languages_files_images_and_records_are_missing(written):
    out, codes = written
    found, missing = benchmarks.check("xvnli", out, ["ar", "fr"])
    kinds = {(entry.kind, entry.code) for entry in missing}
    assert found == 8 and ("file", "fr") in kinds and ("records", "ar") in kinds and ("image", "ar") not in kinds
    assert codes["xm3600"] == ["en", "de", "zh", "he", "ar", "th"] and "iw" in codes["maxm"]
    image = next((out / "xm3600" / "images").iterdir())
    moved = image.with_suffix(".gone")
    image.rename(moved)
    try:
        found, missing = benchmarks.check("xm3600", out, ["en"])
        assert found == 3 and any(entry.kind == "image" and image.name in entry.what for entry in missing)
    finally:
        moved.rename(image)


def test_every_owner_s_code_has_a_name_and_a_code_of_nllb():
    from evaluation.records import facts

    for name, fact in facts().items():
        if "languages" in fact:
            assert all(language_name(code) for code in fact["languages"]), name
            assert all(nllb_code(code) in FAIRSEQ_LANGUAGE_CODES for code in fact["languages"]), name
    assert language_name("iw") == language_name("he") == "Hebrew" and language_name("hr") == "Croatian"
    assert (nllb_code("iw"), nllb_code("hr"), nllb_code("quz")) == ("heb_Hebr", "hrv_Latn", "quy_Latn")
    with pytest.raises(BenchmarkError, match=r"no language 'xx'"):
        nllb_code("xx")
