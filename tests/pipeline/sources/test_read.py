import json
from collections import Counter

import pytest
from PIL import Image

from pipeline.mix import Mix
from pipeline.sources.read import read_examples


@pytest.fixture
def read(tmp_path):
    """Write lines to a JSONL file beside two images and read it."""
    Image.new("RGB", (8, 6), "red").save(tmp_path / "red.png")
    Image.new("L", (8, 6), 128).save(tmp_path / "grey.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    data = (tmp_path / "red.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[:50])
    Image.new("RGB", (8, 6)).save(tmp_path / "picture.bmp")

    def read(*records, **source):
        lines = [r if isinstance(r, bytes) else json.dumps(r).encode() for r in records]
        (tmp_path / "data.jsonl").write_bytes(b"\n".join(lines))
        config = {"name": "s", "path": tmp_path / "data.jsonl", "licence": "CC0-1.0", **source}
        mix = Mix(name="m", sources=[config], translation={"model": "x"}, memory="y")
        return read_examples(mix)[:3]

    return read


def caption(own_id="a", image="red.png", **more):
    return {"id": own_id, "image": image, "task": "captioning", "caption": "A square.", **more}


def test_good_records_of_every_task_are_read(read):
    records = [
        caption("c"),
        {"id": "v", "image": "grey.jpg", "task": "vqa", "question": "Red?", "answer": "no"},
        {"id": "q", "image": "red.png", "task": "question_generation", "question": "Red?", "answer": "yes"},
        {
            "id": "r",
            "image": "red.png",
            "task": "reasoning",
            "question": "Red?",
            "answer": "yes",
            "rationale": "It is.",
        },
        {"id": "m", "image": "red.png", "task": "matching", "caption": "blue", "label": "no"},
        {"id": "i", "image": "red.png", "task": "instruction", "turns": [{"instruction": "Hi", "response": "Yo"}] * 2},
    ]
    examples, ledger, counts = read(*records)
    assert ledger.num_rows == 0 and counts == {"s": 6}
    by_id = {e["id"]: e for e in examples.to_pylist()}
    assert list(by_id) == sorted(by_id) and set(by_id) == {f"s:{x}" for x in "cvqrmi"}
    assert [f["role"] for f in by_id["s:i"]["fields"]] == ["instruction", "response"] * 2
    assert by_id["s:v"]["image_format"] == "jpg" and by_id["s:v"]["image_width"] == 8


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        (b'{"id": "a", ', "not_json", "line 2"),
        (b'{"id": "\xff"}', "not_json", "line 2"),
        ([], "not_an_object", "line 2"),
        ({"image": "red.png", "task": "captioning", "caption": "x"}, "bad_id", "line 2"),
        (caption("a b"), "bad_id", "line 2"),
        (caption("a@deu"), "bad_id", "line 2"),
        (caption(task="caption"), "bad_task", "captioning, vqa"),
        (caption(text="x"), "unknown_key", "text"),
        ({"id": "a", "image": "red.png", "task": "vqa", "question": "Red?"}, "bad_fields", "question, answer"),
        (caption(caption=" "), "bad_fields", "empty"),
        (caption(caption=5), "bad_fields", "string"),
        (caption(caption="\ud800"), "bad_unicode", "surrogate"),
        (
            {"id": "a", "image": "red.png", "task": "matching", "caption": "x", "label": "maybe"},
            "bad_fields",
            "yes or no",
        ),
        (
            {"id": "a", "image": "red.png", "task": "instruction", "turns": [{"instruction": "x"}]},
            "bad_fields",
            "response",
        ),
        ({"id": "a", "image": "red.png", "task": "instruction", "turns": []}, "bad_fields", "none"),
        (caption(image="nowhere.png"), "image_missing", "nowhere.png"),
        (caption(image="/etc/passwd"), "bad_image", "below the image folder"),
        (caption(image="a/../../red.png"), "bad_image", "below the image folder"),
        (caption(image="broken.jpg"), "image_broken", "broken.jpg"),
        (caption(image="cut.png"), "image_broken", "cut.png"),
        (caption(image="picture.bmp"), "image_format", "BMP"),
        (caption("first"), "duplicate_id", "record 1"),
    ],
)
def test_a_bad_record_goes_to_the_ledger_with_place_and_reason_and_costs_only_itself(read, record, reason, detail):
    examples, ledger, counts = read(caption("first"), record, caption("last"))
    assert examples["id"].to_pylist() == ["s:first", "s:last"]
    assert ledger["reason"].to_pylist() == [reason]
    assert detail in ledger["detail"][0].as_py() and "data.jsonl" in ledger["detail"][0].as_py()
    assert counts == {"s": 3}


def test_a_record_without_a_licence_is_refused(read):
    _, ledger, _ = read(caption(), licence=None)
    assert ledger["reason"].to_pylist() == ["no_licence"]


def test_a_limit_takes_the_same_examples_in_any_order_of_the_file(read):
    records = [caption(str(i)) for i in range(20)]
    few, _, counts = read(*records, limit=5)
    again, _, _ = read(*records[::-1], limit=5)
    assert few.equals(again) and few.num_rows == 5
    assert counts == {"s": 20, "s:beyond_limit": 15}
    more, _, _ = read(*records, limit=6)
    assert set(few["id"].to_pylist()) < set(more["id"].to_pylist())


def test_records_read_are_all_accounted_for(read):
    records = [caption(str(i), image=("red.png", "nowhere.png")[i % 2]) for i in range(10)]
    examples, ledger, counts = read(*records, b"no json")
    assert counts["s"] == 11 == examples.num_rows + ledger.num_rows
    assert Counter(ledger["reason"].to_pylist()) == {"image_missing": 5, "not_json": 1}
