"""What a person sees of an evaluation: a Markdown table, and an HTML page with pictures, worst languages first, beside published numbers.

Published numbers (`published.json`) stand with source and protocol, and are called comparable only when the protocol is theirs and the whole
benchmark was asked.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from evaluation import metrics
from evaluation.records import Item, facts, language_name, language_of
from model.images import read_image
from pipeline import files

METRIC_NAMES = {
    "cider": "CIDEr",
    "exact_match": "exact match, %",
    "accuracy": "accuracy, %",
    "f1_yes": "F1 of yes, %",
    "chair_i": "CHAIR-i, % (lower is better)",
}
CHANCE_NAMES = {"exchanged": "images exchanged", "constant": "one answer to all"}
"""Keys of a benchmark's result that hold what `chance.py` gives, by language."""
LOWER_IS_BETTER = frozenset({"chair_i"})
SAMPLES_A_LANGUAGE = 2
LANGUAGES_WITH_SAMPLES = 12
ROWS_SHOWN = 12
"""Languages in the page's tables; those of all stand folded below."""
THUMBNAIL = 96
"""Pixels a side."""


def worst_first(result: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(code, scores) of each language, worst score first, ties by code."""
    metric = result["metric"]
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return sorted(result["by_language"].items(), key=lambda pair: (sign * pair[1][metric], pair[0]))


def published(benchmark: str, protocol: str, whole: bool) -> list[dict[str, Any]]:
    """Rows of `published.json` for a benchmark, each with `comparable`."""
    rows = files.read_json(Path(str(resources.files("evaluation") / "published.json")))["rows"]
    return [
        {**row, "comparable": whole and row["protocol"].split(";")[0] == protocol.split("/")[0]}
        for row in rows
        if row["benchmark"] == benchmark
    ]


def beside(name: str, protocol: str, result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float]]]:
    """(heading, figure by language) of what stands beside each language's score: chance, and published figures that are comparable."""
    chance = [(label, result[key]) for key, label in CHANCE_NAMES.items() if result.get(key)]
    rows = published(name, protocol, is_whole(name, result))
    return chance + [
        (row["model"], {"en": row["en"], **row["by_language"]})
        for row in rows
        if row["comparable"] and "by_language" in row
    ]


def is_whole(name: str, result: Mapping[str, Any]) -> bool:
    """Whether all languages and items of the owner's files were asked."""
    expected = facts()[name].get("items")
    counts = {code: values["items"] for code, values in result["by_language"].items()}
    if set(counts) != set(facts()[name]["languages"]) or expected is None:
        return False
    return all(n == (expected[code] if isinstance(expected, dict) else expected) for code, n in counts.items())


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def markdown(report: Mapping[str, Any]) -> str:
    """All results as Markdown tables."""
    lines = [
        f"# Evaluation of {report['model']['name']}",
        "",
        f"Protocol `{report['protocol']}`, model `{report['model']['fingerprint']}`. Intervals: 95 %, bootstrap over images.",
        "",
        *([report["remark"].replace("\n", " "), ""] if report.get("remark") else []),
        *(
            ["Texts and images are stand-ins in the benchmarks' formats, made of the embedded sample.", ""]
            if report.get("stand_in")
            else []
        ),
    ]
    for name, result in report["benchmarks"].items():
        metric = result["metric"]
        lines += [f"## {facts()[name]['title']}: {METRIC_NAMES[metric]}", ""]
        for label, key in (("all languages", "all"), ("without English", "without_english"), ("English", "english")):
            if key in result["macro"]:
                lines.append(
                    f"- mean of {label}: **{number(result['macro'][key])}**"
                    if key != "english"
                    else f"- English: **{number(result['macro'][key])}**"
                )
        others = beside(name, report["protocol"], result)
        columns = [x for x in ("bleu_4", "rouge_l", "chrf", "ref_clip_score", "relaxed", "accuracy", "chair_s", "in_language", "in_script")
                   if x != metric and any(x in values for values in result["by_language"].values())]  # fmt: skip
        lines += [
            "",
            f"| language | items | {metric} | interval | " + " | ".join([*(x for x, _ in others), *columns]) + " |",
            "|---|" + "---:|" * (3 + len(others) + len(columns)),
        ]
        for code, values in worst_first(result):
            interval = " – ".join(number(x) for x in values["interval"]) if "interval" in values else ""
            cells = [f"{language_name(code)} ({code})", str(values["items"]), number(values[metric]), interval]
            cells += [number(of.get(code)) for _, of in others] + [number(values.get(x)) for x in columns]
            lines.append("| " + " | ".join(cells) + " |")
        if result.get("segmenters"):
            lines += ["", "Words: " + "; ".join(f"{key}: {value}" for key, value in result["segmenters"].items()) + "."]
        rows = [] if report.get("stand_in") else published(name, report["protocol"], is_whole(name, result))
        if rows:
            lines += ["", "| published | English | others | comparable | source |", "|---|---:|---:|---|---|"]
            for row in rows:
                source = f"{row['source']} ({row['protocol']})"
                lines.append(
                    f"| {row['model']} | {row['en']} | {row['mul']} | {'yes' if row['comparable'] else 'no'} | {source} |"
                )
        lines.append("")
    return "\n".join(lines)


def thumbnail(path: Path) -> str:
    """The image as a data URI, scaled to a square."""
    picture = Image.fromarray(read_image(path, THUMBNAIL).permute(1, 2, 0).numpy())
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def samples(
    items: Sequence[Item], rows: Mapping[str, Mapping[str, Any]], result: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A few items of the worst languages and of English, with pictures; chosen by the order of the file, not by how good they look."""
    codes = [code for code, _ in worst_first(result)]
    chosen = codes[: LANGUAGES_WITH_SAMPLES - 1] + [x for x in codes[LANGUAGES_WITH_SAMPLES - 1 :] if x == "en"]
    shown = []
    for code in chosen:
        for item in [x for x in items if x.code == code][:SAMPLES_A_LANGUAGE]:
            shown.append(
                {
                    "language": language_name(code),
                    "tag": _tag(code),
                    "direction": _direction(code),
                    "images": [thumbnail(path) for path in item.images],
                    "prompt": rows[item.id]["prompt"],
                    "output": rows[item.id]["output"],
                    "answers": item.answers[:3],
                }
            )
    return shown


def html(report: Mapping[str, Any], shown: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """One page without anything to load from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("evaluation"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    environment.filters["language_name"] = language_name
    environment.filters["tag"] = _tag
    environment.filters["direction"] = _direction
    benchmarks = [
        {
            "name": name,
            "facts": facts()[name],
            "metric": METRIC_NAMES[result["metric"]],
            "result": result,
            "rows": worst_first(result),
            "beside": beside(name, report["protocol"], result),
            "published": published(name, report["protocol"], is_whole(name, result)),
            "samples": shown.get(name, []),
            "whole": is_whole(name, result),
            "items": sum(values["items"] for values in result["by_language"].values()),
            "chance": {key: metrics.macro(result.get(key) or {}).get("all") for key in CHANCE_NAMES},
            "largest": max(max(values[result["metric"]] for values in result["by_language"].values()), 1e-9),
        }
        for name, result in report["benchmarks"].items()
    ]
    return environment.get_template("report.html.j2").render(
        report=report, benchmarks=benchmarks, chance_names=CHANCE_NAMES, shown_rows=ROWS_SHOWN
    )


def _tag(code: str) -> str:
    language = language_of(code)
    return language.tag if language else code


def _direction(code: str) -> str:
    language = language_of(code)
    return language.direction if language else "ltr"
