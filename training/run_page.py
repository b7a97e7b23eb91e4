"""The page that a training run leaves: one static HTML file with everything inline."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

from PIL import Image

from training.report import duration


def curve(steps: Sequence[int], losses: Sequence[float], width: int = 720, height: int = 240) -> str:
    """The training loss as inline SVG: each step as a pale line, a running mean over a twentieth of the run on top."""
    if not steps:
        return ""
    window = max(1, len(losses) // 20)
    means = [sum(losses[max(0, i - window + 1) : i + 1]) / (i + 1 - max(0, i - window + 1)) for i in range(len(losses))]
    low, high = min(losses), max(losses)
    left, bottom = 44, 24

    def points(values: Sequence[float]) -> str:
        across = (width - left - 8) / max(1, steps[-1] - steps[0])
        up = (height - bottom - 8) / max(1e-9, high - low)
        return " ".join(
            f"{left + (s - steps[0]) * across:.1f},{8 + (high - v) * up:.1f}"
            for s, v in zip(steps, values, strict=True)
        )

    ticks = "".join(
        f'<text x="{left - 6}" y="{8 + (high - v) * (height - bottom - 8) / max(1e-9, high - low) + 4:.1f}" text-anchor="end">{v:.1f}</text>'
        for v in (low, (low + high) / 2, high)
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="training loss by step">'
        f'<polyline points="{points(losses)}" fill="none" stroke="currentColor" stroke-opacity=".2"/>'
        f'<polyline points="{points(means)}" fill="none" stroke="#0b6e99" stroke-width="2"/>{ticks}'
        f'<text x="{left}" y="{height - 6}">step {steps[0]}</text>'
        f'<text x="{width - 8}" y="{height - 6}" text-anchor="end">step {steps[-1]}</text></svg>'
    )


def thumbnail(data: bytes, side: int = 144) -> str:
    """An image file as a data URI of at most `side` pixels, PNG."""
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("RGBA")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.5rem } svg { width: 100%; font-size: 12px } svg text { fill: currentColor }
table { border-collapse: collapse; width: 100% }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: start; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } .scroll { max-height: 30rem; overflow: auto }
figure { display: flex; gap: 1rem; margin: 1rem 0; align-items: flex-start }
figure img { width: 96px; height: 96px; object-fit: contain; background: #fff; border-radius: 6px }
.big { font-size: 2rem; font-weight: 600 } .pair { display: flex; gap: 3rem; flex-wrap: wrap } .soft { opacity: .7 }
"""


def page(
    result: dict[str, Any],
    log_rows: Sequence[dict],
    group_rows: Sequence[dict],
    generations: Sequence[dict],
    thumbnails: dict[str, str],
) -> str:
    """The run page: one static HTML file with everything inline.

    `generations`: rows with key, language, prompt, target and generated; `thumbnails`: image key → data URI.
    """

    def table(groups: dict[str, dict]) -> str:
        body = "".join(
            f'<tr><td>{escape(name)}</td><td class="n">{row["samples"]}</td><td class="n">{row["loss_right_images"]:.3f}</td>'
            f'<td class="n">{row.get("loss_shuffled_images", float("nan")):.3f}</td><td class="n">{row["bits_per_byte"]:.3f}</td></tr>'
            for name, row in groups.items()
        )
        head = "".join(
            f'<th class="n">{name}</th>' for name in ("samples", "right images", "shuffled", "bits per byte")
        )
        return f'<div class="scroll"><table><tr><th></th>{head}</tr>{body}</table></div>'

    figures = []
    for key, uri in thumbnails.items():
        rows = "".join(
            f'<tr><td class="soft">{escape(row["language"])}</td><td dir="auto">{escape(row["prompt"])}</td>'
            f'<td dir="auto"><b>{escape(row["generated"])}</b></td><td dir="auto" class="soft">{escape(row["target"])}</td></tr>'
            for row in generations
            if row["key"] == key
        )
        head = "<tr><th>language</th><th>prompt</th><th>generated</th><th>in the data</th></tr>"
        figures.append(f'<figure><img src="{uri}" alt=""><table>{head}{rows}</table></figure>')
    shuffled = f"{result['loss_shuffled_images']:.3f}" if "loss_shuffled_images" in result else "–"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Re-alignment run</title><style>{STYLE}</style><h1>Re-alignment run</h1>"
        f'<p class="soft">{result["steps"]} steps, {result["samples_seen"]:,} samples in {duration(result["seconds"])}; '
        f"{result['cut_targets']} targets cut at {result['config']['max_target_tokens']} tokens.</p>"
        f'<div class="pair"><div><div class="big">{result["loss_right_images"]:.3f}</div>loss with the right images</div>'
        f'<div><div class="big">{shuffled}</div>loss with shuffled images</div></div>'
        f"<h2>Training loss</h2>{curve([row['step'] for row in log_rows], [row['loss'] for row in log_rows])}"
        f"<h2>What it writes</h2>{''.join(figures)}<h2>By task</h2>{table(result['by_task'])}<h2>By language</h2>"
        f"{table(result['by_language'])}</html>"
    )
