"""What stands beside a score: other images, one answer to all, and published figures."""

import dataclasses
from pathlib import Path

import pytest

from evaluation import benchmarks, chance, report
from evaluation.evaluate import evaluate, select
from evaluation.protocols import PROTOCOLS
from evaluation.records import BenchmarkError, Item
from evaluation.terminal import text_table


def item(number: int, image: str, code: str = "en", answers: tuple[str, ...] = ("yes",)) -> Item:
    return Item(f"{code}/{number}", code, (Path(image),), "?", answers, image)


def test_no_item_keeps_its_images_and_all_images_of_the_language_are_used():
    items = [item(0, "a"), item(1, "a"), item(2, "b"), item(3, "c"), item(4, "x", "de"), item(5, "y", "de")]
    exchanged = chance.exchange_images(items)
    assert [x.images[0].name for x in exchanged] == ["b", "b", "c", "a", "y", "x"]
    assert [(x.id, x.answers, x.group) for x in exchanged] == [(x.id, x.answers, x.group) for x in items]
    with pytest.raises(BenchmarkError, match="de has one image only"):
        chance.exchange_images(items[:5])


def test_two_images_an_item_are_exchanged_together(written):
    data, _ = written
    items = benchmarks.read("marvl", data, ["de"])
    exchanged = chance.exchange_images(items)
    pairs = {x.images for x in items}
    assert all(x.images != y.images and y.images in pairs for x, y in zip(items, exchanged, strict=True))


def test_the_best_constant_answer_by_hand():
    accepted = [
        item(0, "a", answers=("Cat", "kitten")),
        item(1, "b", answers=("kitten ",)),
        item(2, "c", answers=("dog",)),
    ]
    french = [dataclasses.replace(x, code="fr") for x in accepted[2:]]
    assert chance.constant_answer("maxm", accepted + french) == {"en": pytest.approx(200 / 3), "fr": 100}
    labels = [item(i, str(i), answers=("no" if i else "yes",)) for i in range(4)]
    assert chance.constant_answer("marvl", labels) == {"en": 75}
    # POPE's figure is the F1 of "yes": a quarter are yes, so saying yes always has precision 1/4 and recall 1
    assert chance.constant_answer("pope", labels) == {"en": pytest.approx(40)}
    assert chance.constant_answer("xm3600", labels) == {}


def test_a_report_says_what_the_model_scores_with_other_images(written, model, tmp_path, monkeypatch):
    """A model that answers by its image alone is right with its own images and wrong with others'."""
    data, _ = written
    items = select(benchmarks.read("xm3600", data, ["en", "de", "zh", "ar"]), 3)
    answers = {(x.code, x.images): x.answers[0] for x in items}
    languages = {x.code for x in items}

    def by_image(name, asked, pictures, prompts, model, ask):
        return [
            {"id": x.id, "prompt": p, "output": answers[x.code, x.images]} for x, p in zip(asked, prompts, strict=True)
        ]

    monkeypatch.setattr("evaluation.run.answer", by_image)
    result = evaluate(
        {"xm3600": items}, model, PROTOCOLS["polyalign"], tmp_path, data, "by image", exchange_images=True
    )
    of = result["benchmarks"]["xm3600"]
    assert set(of["exchanged"]) == languages and not of["constant"]
    assert all(of["by_language"][code]["chrf"] == 100 for code in languages)
    assert all(of["exchanged"][code] < of["by_language"][code]["cider"] for code in languages)
    table = text_table(result)
    assert "images exchanged" in table and "in 4 of 4 languages" in table and max(map(len, table.splitlines())) <= 110
    blind = {code: values["cider"] for code, values in of["by_language"].items()}
    same = {**result, "benchmarks": {"xm3600": {**of, "exchanged": blind}}}
    assert "in 0 of 4 languages" in text_table(same)
    assert "| images exchanged |" in (tmp_path / "report.md").read_text()
    assert "images exchanged</th>" in (tmp_path / "index.html").read_text()


def test_published_figures_by_language_average_to_the_published_mean_and_stand_beside_comparable_scores_only():
    rows = [row for name in benchmarks.READERS for row in report.published(name, "centurio/1", whole=True)]
    detailed = [row for row in rows if "by_language" in row]
    assert len(detailed) == 18
    for row in detailed:
        values = row["by_language"].values()
        assert sum(values) / len(values) == pytest.approx(row["mul"], abs=0.06), row["model"]
    result = {
        "metric": "exact_match",
        "by_language": {code: {"items": 9666} for code in ("bn", "de", "en", "id", "ko", "pt", "ru", "zh")},
        "constant": dict.fromkeys(("bn", "de"), 20.0),
    }
    heads = [head for head, _ in report.beside("xgqa", "centurio/1", result)]
    assert heads == ["one answer to all", "Centurio Aya", "Centurio Qwen"]
    assert report.beside("xgqa", "centurio/1", result)[2][1]["bn"] == 49.9
    assert [head for head, _ in report.beside("xgqa", "mblip/1", result)] == ["one answer to all"]
    result["by_language"]["bn"]["items"] = 100
    assert [head for head, _ in report.beside("xgqa", "centurio/1", result)] == ["one answer to all"]
