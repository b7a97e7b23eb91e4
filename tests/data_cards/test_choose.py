"""The samples on a card are a fair draw: fixed, spread over tasks and images, whatever the order of the table."""

import pyarrow as pa

from data_cards.choose import draw_for_each, most_translated


def rows(number: int, image: str = "image-{}", task: str = "vqa", language: str = "deu_Latn") -> list[dict]:
    return [
        {"id": f"{task}-{n}@{language}", "image_sha256": image.format(n), "task": task, "language": language}
        for n in range(number)
    ]


def test_the_draw_does_not_depend_on_the_order_of_the_table() -> None:
    table = pa.Table.from_pylist(rows(300) + rows(40, task="captioning"))
    backwards = table.take(list(range(table.num_rows))[::-1])
    assert draw_for_each(table, "language", 4, "task") == draw_for_each(backwards, "language", 4, "task")


def test_a_rare_task_is_shown_beside_a_frequent_one() -> None:
    table = pa.Table.from_pylist(rows(500) + rows(1, "r-{}", "reasoning") + rows(3, "c-{}", "captioning"))
    drawn = draw_for_each(table, "language", 3, "task")["deu_Latn"]
    assert sorted(row["task"] for row in drawn) == ["captioning", "reasoning", "vqa"]


def test_an_image_comes_twice_only_when_there_is_no_other() -> None:
    table = pa.Table.from_pylist(rows(5, image="same") + rows(2, task="captioning"))
    images = [row["image_sha256"] for row in draw_for_each(table, "language", 4, "task")["deu_Latn"]]
    assert sorted(images[:3]) == ["image-0", "image-1", "same"] and images[3] == "same"


def test_the_hero_has_many_scripts_first() -> None:
    samples = [
        {"id": f"{example}@{code}", "example": example, "task": "captioning", "english": "x", "target_language": code}
        for example, codes in {"a": ["l1", "l2", "l3"], "b": ["l1", "c1", "g1"]}.items()
        for code in codes
    ]
    hero = most_translated(pa.Table.from_pylist(samples), 3, lambda code: code[0])
    assert {row["example"] for row in hero} == {"b"}
    assert most_translated(pa.Table.from_pylist(samples).slice(0, 0), 3, str) == []
