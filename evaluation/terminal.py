"""A result in a terminal: one line a benchmark with what stands against it, then captions by script, worst and best languages."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evaluation import metrics
from evaluation.records import facts, language_name, language_of
from evaluation.report import METRIC_NAMES, number, worst_first

SHORT_NAMES = {key: name.split(",")[0] for key, name in METRIC_NAMES.items()}


MANY_LANGUAGES = 20
"""From here on the best languages are shown too, and means by script; below, a few of the worst say enough."""


def text_table(report: Mapping[str, Any], rows: int = 6) -> str:
    """Lines of at most 110 columns. `rows`: worst and best languages shown of a benchmark with many."""
    lines = [f"protocol {report['protocol']}", *_summary(report["benchmarks"])]
    for name, result in report["benchmarks"].items():
        if len(result["by_language"]) >= MANY_LANGUAGES:
            lines += ["", *_languages(name, result, rows, rows), "", *_scripts(name, result)]
        elif len(result["by_language"]) > 1:
            lines += ["", *_languages(name, result, rows // 2, 0)]
    return "\n".join(lines) + "\n"


def _summary(benchmarks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    has_exchanged = any("exchanged" in result for result in benchmarks.values())
    yield (
        f"  {'':10}{'languages':>10}{'items':>7}  {'mean over languages':20}{'score':>7}"
        + (f"{'images exchanged':>18}" if has_exchanged else "")
        + f"{'one answer to all':>19}"
    )
    for name, result in benchmarks.items():
        values = result["by_language"]
        line = f"  {facts()[name]['title']:10}{len(values):>10}{sum(x['items'] for x in values.values()):>7}"
        line += f"  {SHORT_NAMES[result['metric']]:20}{number(result['macro']['all']):>7}"
        if has_exchanged:
            line += f"{number(_mean(result.get('exchanged', {}))):>18}"
        yield line + f"{number(_mean(result.get('constant', {}))):>19}"


def _languages(name: str, result: Mapping[str, Any], worst: int, best: int) -> Iterator[str]:
    """So many of the worst languages, then of the best."""
    metric = result["metric"]
    ordered: list[tuple[str, Any] | None] = list(worst_first(result))
    if len(ordered) > worst + best:
        ordered = [*ordered[:worst], None, *ordered[len(ordered) - best :]]
    extras = [x for x in ("chrf", "in_language", "in_script") if any(x in v for v in result["by_language"].values())]
    exchanged = result.get("exchanged", {})
    head = f"{facts()[name]['title']}, worst first"
    yield (
        f"  {head:24}{SHORT_NAMES[metric]:>12}{'95 % interval':>16}"
        + (f"{'exchanged':>11}" if exchanged else "")
        + "".join(f"{x.replace('_', ' '):>13}" for x in extras)
    )
    for entry in ordered:
        if entry is None:
            yield "  …"
            continue
        code, values = entry
        interval = " – ".join(number(x) for x in values["interval"]) if "interval" in values else ""
        yield (
            f"  {language_name(code):24}{number(values[metric]):>12}{interval:>16}"
            + (f"{number(exchanged.get(code)):>11}" if exchanged else "")
            + "".join(f"{number(values.get(x)):>13}" for x in extras)
        )
    if exchanged:
        higher = sum(values[metric] > exchanged[code] for code, values in result["by_language"].items())
        yield f"  higher with the right images than with exchanged ones in {higher} of {len(exchanged)} languages"


def _by_script(result: Mapping[str, Any]) -> dict[str, list[str]]:
    """ISO 15924 code → the languages written in it, scripts with most languages first."""
    scripts: dict[str, list[str]] = {}
    for code in result["by_language"]:
        language = language_of(code)
        scripts.setdefault(language.script if language else "other", []).append(code)
    return dict(sorted(scripts.items(), key=lambda pair: (-len(pair[1]), pair[0])))


def _scripts(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    """Means by script; scripts of one language stand together."""
    metric, exchanged = result["metric"], result.get("exchanged", {})
    scripts = _by_script(result)
    shared = {script: codes for script, codes in scripts.items() if len(codes) > 1}
    alone = [codes[0] for codes in scripts.values() if len(codes) == 1]
    head = f"{facts()[name]['title']}, by script"
    yield f"  {head:24}{'languages':>12}{SHORT_NAMES[metric]:>16}" + (f"{'exchanged':>11}" if exchanged else "")
    groups: list[tuple[str, Sequence[str]]] = [*shared.items()]
    if alone:
        groups.append((f"{len(alone)} others", alone))
    for label, codes in groups:
        right = _mean({code: result["by_language"][code][metric] for code in codes})
        wrong = f"{number(_mean({code: exchanged[code] for code in codes})):>11}" if exchanged else ""
        yield f"  {label:24}{len(codes):>12}{number(right):>16}{wrong}"


def _mean(values: Mapping[str, float]) -> float | None:
    return metrics.macro(values).get("all")
