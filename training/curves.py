"""Loss curves as SVG, out of the logs of a run: over all texts, by task and by language.

    python -m training.curves runs/demo/training --out docs/images/training.svg

Drawn is what the model's loss was on the texts that it was just about to learn from, in bits per byte of UTF-8 target text, which compares across
tokenizers and, less well, across scripts: a letter has one byte in Latin script, two in Cyrillic or Arabic, three in Devanagari, Thai or
Chinese. A point is the loss of all bytes near it, weighted by a bell curve, so a language of few texts has a smooth line and no empty places.
The pictures follow the reader's light or dark scheme.
"""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.languages import BY_NLLB
from training.checkpoint import write_aside

POINTS = 60
SMOOTHING = 0.04
"""Standard deviation of the bell curve, in parts of the run."""

SCRIPTS_WITH_A_COLOUR = 5
LABELS = 14
"""Languages whose names stand at the ends of their curves, at most: the lowest, the highest, and those of most text in each colour."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 400, 48, 118, 34, 30

STYLE = """
svg.curves { --ink: #23262b; --soft: #5f6670; --line: #e3dfd5; --paper: #fbfaf6; font: 12px system-ui, sans-serif;
  --c0: #3f6fa8; --c1: #b8553a; --c2: #7c5295; --c3: #c98a1b; --c4: #2f8f83; --c5: #8b8f96; }
@media (prefers-color-scheme: dark) { svg.curves { --ink: #e7e5df; --soft: #a3a8b0; --line: #33373d; --paper: #16181b;
  --c0: #6f9bd0; --c1: #d07a5f; --c2: #a684bd; --c3: #d9a441; --c4: #4bb3a5; --c5: #8b9098; } }
svg.curves text { fill: var(--soft); } svg.curves .grid { stroke: var(--line); } svg.curves polyline { fill: none; stroke-linejoin: round; }
svg.curves .all { stroke: var(--ink); stroke-width: 3; } svg.curves text.all { fill: var(--ink); stroke: none; font-weight: 600; }
"""
STYLE += "".join(
    f"svg.curves polyline.c{n} {{ stroke: var(--c{n}); }} svg.curves text.c{n}, svg.curves rect.c{n} {{ fill: var(--c{n}); }}\n"
    for n in range(SCRIPTS_WITH_A_COLOUR + 1)
)


@dataclass(frozen=True)
class Curves:
    """Smoothed losses of several groups at the same steps."""

    steps: NDArray[np.float64]
    """(points,)"""
    losses: dict[str, NDArray[np.float64]]
    """Group → bits per byte at each of the steps, (points,); nan where the group has no text anywhere near."""
    bytes: dict[str, int]
    """Group → bytes of target text in the whole run."""

    @property
    def last(self) -> dict[str, float]:
        return {name: float(losses[-1]) for name, losses in self.losses.items()}


def smooth(rows: Sequence[Mapping[str, Any]], what: str) -> Curves:
    """Curves out of the rows of groups.jsonl, by `what` they have: `language`, `task`, or `all`."""
    names = sorted({name for row in rows for name in row["task" if what == "all" else what]})
    sums = np.zeros((len(rows), len(names), 2))  # nats, bytes
    for place, row in enumerate(rows):
        for name, (nats, _, size) in row["task" if what == "all" else what].items():
            sums[place, names.index(name)] = nats, size
    if what == "all":
        names, sums = ["all"], sums.sum(1, keepdims=True)
    ends = np.array([row["step"] for row in rows], dtype=np.float64)
    middles = (np.r_[0.0, ends[:-1]] + ends) / 2
    steps = np.linspace(middles[0], middles[-1], min(POINTS, max(2, len(rows))))
    spread = max(SMOOTHING * ends[-1], 1e-9)
    weights = np.exp(-0.5 * ((steps[:, None] - middles[None]) / spread) ** 2)
    near = np.einsum("pr,rgs->pgs", weights, sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        losses = np.where(near[:, :, 1] > 1e-3, near[:, :, 0] / near[:, :, 1] / math.log(2), np.nan)
    return Curves(
        steps,
        {name: losses[:, i] for i, name in enumerate(names)},
        {name: int(sums[:, i, 1].sum()) for i, name in enumerate(names)},
    )


def name_of(group: str) -> str:
    """What a person calls a language or task."""
    return BY_NLLB[group].name if group in BY_NLLB else group.replace("_", " ")


def colours_of(languages: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """(language → number of its colour, name of each colour): the scripts of most languages have one each, all others share the last."""
    scripts = Counter(BY_NLLB[x].script if x in BY_NLLB else "" for x in languages)
    own = [
        script for script, _ in sorted(scripts.items(), key=lambda item: (-item[1], item[0]))[:SCRIPTS_WITH_A_COLOUR]
    ]
    place = {script: number for number, script in enumerate(own)}
    colours = {x: place.get(BY_NLLB[x].script if x in BY_NLLB else "", SCRIPTS_WITH_A_COLOUR) for x in languages}
    legend = [f"{script or 'tasks'} {scripts[script]}" for script in own]
    others = sum(scripts.values()) - sum(scripts[script] for script in own)
    return colours, [*legend, *([f"other scripts {others}"] if others else [])]


def picture(rows: Sequence[Mapping[str, Any]], title: str = "") -> str:
    """An SVG of the loss over all texts and by language. `rows`: of groups.jsonl, at least one."""
    everything, by_language = smooth(rows, "all"), smooth(rows, "language")
    colours, legend = colours_of(list(by_language.losses))
    values = np.concatenate([everything.losses["all"], *by_language.losses.values()])
    # the first losses of a few languages may be far above all that follows
    low, high = 0.0, float(np.nanquantile(values, 0.995)) * 1.05
    x_of, y_of = _scales(everything.steps, low, high)
    parts = [_grid(everything.steps, low, high, x_of, y_of)]
    many = len(by_language.losses) > 30
    for name, losses in sorted(by_language.losses.items(), key=lambda item: -colours[item[0]]):
        parts.append(
            f'<polyline class="c{colours[name]}" points="{_points(by_language.steps, losses, x_of, y_of)}" '
            f'stroke-width="{1.1 if many else 1.8}" stroke-opacity="{0.6 if many else 0.95}"><title>{escape(name_of(name))}</title></polyline>'
        )
    parts.append(f'<polyline class="all" points="{_points(everything.steps, everything.losses["all"], x_of, y_of)}"/>')
    labelled = _labelled(by_language, colours)
    ends = [("all", everything.last["all"], "all texts")]
    ends += [(f"c{colours[name]}", by_language.last[name], name_of(name)) for name in labelled]
    parts.append(_end_labels(ends, y_of))
    x = float(LEFT)
    for number, text in enumerate(legend):
        parts.append(
            f'<rect class="c{number}" x="{x}" y="9" width="10" height="10" rx="2"/><text x="{x + 15}" y="18">{escape(text)}</text>'
        )
        x += 30 + 6.6 * len(text)
    return _svg("".join(parts), title or "loss by language over the steps of training, in bits per byte")


def small_multiples(rows: Sequence[Mapping[str, Any]], what: str) -> list[tuple[str, float, float, str]]:
    """(group, bits per byte at first, at last, SVG) for each language or task, the best last value first, all on one scale."""
    curves = smooth(rows, what)
    values = np.concatenate(list(curves.losses.values()))
    high = float(np.nanquantile(values, 0.995)) * 1.05
    made = []
    for name, losses in curves.losses.items():
        there = losses[~np.isnan(losses)]
        if len(there):
            points = " ".join(
                f"{i / max(1, len(losses) - 1) * 118 + 1:.1f},{38 - min(v, high) / high * 36:.1f}"
                for i, v in enumerate(losses.tolist())
                if not math.isnan(v)
            )
            svg = (
                '<svg class="curves" viewBox="0 0 120 40" aria-hidden="true"><line class="grid" x1="0" x2="120" y1="39" y2="39"/>'
                f'<polyline class="c4" stroke-width="1.6" points="{points}"/></svg>'
            )
            made.append((name, float(there[0]), float(there[-1]), svg))
    return sorted(made, key=lambda row: row[2])


def _labelled(curves: Curves, colours: Mapping[str, int]) -> list[str]:
    names = sorted(
        (name for name, last in curves.last.items() if not math.isnan(last)), key=lambda name: curves.last[name]
    )
    if len(names) <= LABELS:
        return names
    chosen = {names[0], names[-1]}
    by_colour: dict[int, list[str]] = {}
    for name in sorted(names, key=lambda name: -curves.bytes[name]):
        by_colour.setdefault(colours[name], []).append(name)
    while len(chosen) < LABELS:
        for of_colour in by_colour.values():
            if of_colour and len(chosen) < LABELS:
                chosen.add(of_colour.pop(0))
    return sorted(chosen, key=lambda name: curves.last[name])


def _scales(steps: NDArray[np.float64], low: float, high: float):
    across = (WIDTH - LEFT - RIGHT) / max(1e-9, steps[-1] - steps[0])
    up = (HEIGHT - TOP - BOTTOM) / max(1e-9, high - low)
    return (lambda step: LEFT + (step - steps[0]) * across), (lambda loss: TOP + (high - min(loss, high)) * up)


def _points(steps: NDArray[np.float64], losses: NDArray[np.float64], x_of, y_of) -> str:
    pairs = zip(steps.tolist(), losses.tolist(), strict=True)
    return " ".join(f"{x_of(step):.1f},{y_of(loss):.1f}" for step, loss in pairs if not math.isnan(loss))


def _grid(steps: NDArray[np.float64], low: float, high: float, x_of, y_of) -> str:
    """Lines at round values, with their numbers, and the steps at both ends."""
    size = 10 ** math.floor(math.log10(max(1e-9, high - low)))
    step = next(size * part for part in (0.1, 0.2, 0.5, 1, 2) if (high - low) / (size * part) <= 6)
    parts = []
    value = math.ceil(low / step) * step
    while value <= high:
        y = y_of(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        value = round(value + step, 9)
    middle = (steps[0] + steps[-1]) / 2
    for place, anchor in ((steps[0], "start"), (middle, "middle"), (steps[-1], "end")):
        parts.append(f'<text x="{x_of(place):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">step {place:.0f}</text>')
    parts.append(f'<text x="{WIDTH - 4}" y="18" text-anchor="end">bits per byte</text>')
    return "".join(parts)


def _end_labels(ends: list[tuple[str, float, str]], y_of) -> str:
    """Names at the right of the curves' ends, moved apart so that none covers another."""
    ends = sorted(ends, key=lambda end: y_of(end[1]))
    places: list[float] = []
    for _, loss, _ in ends:
        places.append(max(y_of(loss) + 4, places[-1] + 14 if places else 0.0))
    excess = places[-1] - (HEIGHT - BOTTOM + 4)
    for i in range(len(places) - 1, -1, -1):
        if excess <= 0:
            break
        limit = places[i + 1] - 14 if i + 1 < len(places) else places[i] - excess
        places[i] = min(places[i], limit)
    return "".join(
        f'<text class="{css}" x="{WIDTH - RIGHT + 8}" y="{y:.1f}">{escape(name)}</text>'
        for (css, _, name), y in zip(ends, places, strict=True)
    )


def _svg(content: str, label: str) -> str:
    return f'<svg class="curves" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{content}</svg>'


def standalone(rows: Sequence[Mapping[str, Any]]) -> str:
    """`picture` as a file of its own, with its colours and a background."""
    svg = picture(rows).replace(
        "<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" ', 1
    )
    start = svg.index(">") + 1
    return f'{svg[:start]}<style>{STYLE}</style><rect width="{WIDTH}" height="{HEIGHT}" style="fill: var(--paper)"/>{svg[start:]}\n'


def read_groups(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's groups.jsonl. Raises FileNotFoundError or ValueError with the remedy."""
    path = run / "groups.jsonl"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: {run} is no run of training/realign.py, or it has not come to its first log line."
        )
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not rows:
        raise ValueError(f"{path} is empty: train for at least --log-every steps.")
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw the loss curves of a training run.")
    parser.add_argument("run", type=Path, help="folder of training/realign.py")
    parser.add_argument("--out", type=Path, required=True, help="SVG to write")
    args = parser.parse_args(argv)
    try:
        drawn = standalone(read_groups(args.run))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_aside(args.out, drawn.encode())


if __name__ == "__main__":
    main()
