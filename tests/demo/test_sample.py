"""The embedded sample keeps what its README says: enough of every task, every image readable, nothing orphaned."""

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

SAMPLE = Path(__file__).parents[2] / "demo" / "sample"
SOURCES = ("photos", "emoji", "easy_vqa")
TASKS = ("captioning", "vqa", "question_generation", "instruction", "reasoning", "matching")
ROLES = {
    "captioning": {"caption"},
    "vqa": {"question", "answer"},
    "question_generation": {"question", "answer"},
    "instruction": {"turns"},
    "reasoning": {"question", "answer", "rationale"},
    "matching": {"caption", "label"},
}


def read(source: str) -> list[dict]:
    return [json.loads(line) for line in (SAMPLE / f"{source}.jsonl").read_text("utf-8").splitlines()]


def read_all() -> list[dict]:
    return [example for source in SOURCES for example in read(source)]


def test_has_150_images_400_examples_and_every_task():
    examples = read_all()
    assert len({example["image"] for example in examples}) >= 150
    assert len(examples) >= 400
    assert {example["task"] for example in examples} == set(TASKS)


def test_readme_counts_are_true():
    readme = (SAMPLE / "README.md").read_text("utf-8")
    for source in SOURCES:
        examples = read(source)
        tasks = Counter(example["task"] for example in examples)
        counts = [
            len({example["image"] for example in examples}),
            *(tasks[task] or "" for task in TASKS),
            len(examples),
        ]
        row = f"| `{source}.jsonl` | {' | '.join(map(str, counts))} |".replace("|  |", "| |").replace("|  |", "| |")
        assert row in readme


@pytest.mark.parametrize("source", SOURCES)
def test_ids_are_unique(source):
    ids = Counter(example["id"] for example in read(source))
    assert [identity for identity, count in ids.items() if count > 1] == []


@pytest.mark.parametrize("source", SOURCES)
def test_an_example_has_exactly_the_roles_of_its_task(source):
    for example in read(source):
        assert set(example) - {"credit"} == {"id", "image", "task", "licence"} | ROLES[example["task"]], example["id"]
        for key, value in example.items():
            if key != "turns":
                assert isinstance(value, str) and value and value == value.strip(), (example["id"], key)
        for turn in example.get("turns", ()):
            assert set(turn) == {"instruction", "response"}, example["id"]
            assert all(isinstance(text, str) and text and text == text.strip() for text in turn.values()), example["id"]


def test_every_image_opens_and_none_is_orphaned():
    used = {SAMPLE / example["image"] for example in read_all()}
    assert used == {file for file in (SAMPLE / "images").rglob("*") if file.is_file()}
    for file in used:
        with Image.open(file) as image:
            image.load()
            assert min(image.size) >= 64 and max(image.size) <= 384, file
            assert not image.getexif(), file


@pytest.mark.parametrize("source", ("photos", "emoji"))
def test_every_picture_has_as_many_true_matches_as_false_ones(source):
    matches = [example for example in read(source) if example["task"] == "matching"]
    assert len({example["image"] for example in matches}) == len({example["image"] for example in read(source)})
    labels = Counter((example["image"], example["label"]) for example in matches)
    assert all(labels[image, "yes"] == labels[image, "no"] for image, _ in labels)


def test_an_emoji_name_is_true_once_and_false_once():
    names = Counter(
        (example["caption"], example["label"]) for example in read("emoji") if example["task"] == "matching"
    )
    assert set(names.values()) == {1}
    assert {name for name, label in names if label == "yes"} == {name for name, label in names if label == "no"}


def test_easy_vqa_answers_are_balanced():
    answers = Counter(example["answer"] for example in read("easy_vqa") if example["task"] == "vqa")
    colors = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
    assert answers["yes"] == answers["no"]
    assert len({answers[color] for color in colors}) == 1
    assert len({answers[shape] for shape in ("circle", "rectangle", "triangle")}) == 1


def test_photo_answers_are_short_and_lower_case_as_in_vqav2():
    for example in read("photos"):
        if example["task"] in ("vqa", "question_generation"):
            assert example["answer"] == example["answer"].lower() and len(example["answer"].split()) <= 3, example["id"]


def test_some_texts_hold_what_the_pipeline_must_keep():
    texts = [turn["response"] for example in read("photos") for turn in example.get("turns", ())]
    assert any("\n2. " in text for text in texts)
    assert any('"' in text for text in texts)
    assert any(text.startswith("B. ") for text in texts)
