"""The page that a training run leaves: one static HTML file with everything inline."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from pipeline.languages import BY_NLLB
from training import curves
from training.report import duration

TEMPLATE = Path(__file__).with_name("run_page.html.j2")


def page(
    result: dict[str, Any], group_rows: Sequence[dict], generations: Sequence[dict], thumbnails: dict[str, str]
) -> str:
    """The page's HTML. `result`: what result.json holds; `group_rows`: of groups.jsonl; `generations`: rows with key, language, prompt, target and
    generated; `thumbnails`: image key → data URI."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    multiples = {
        what: [(name, first, last, Markup(svg)) for name, first, last, svg in curves.small_multiples(group_rows, what)]
        for what in ("task", "language")
    }
    return environment.get_template(TEMPLATE.name).render(
        result=result,
        picture=Markup(curves.picture(group_rows)),
        curve_style=Markup(curves.STYLE),
        multiples=multiples,
        generations=generations,
        thumbnails=thumbnails,
        duration=duration,
        name_of=curves.name_of,
        tag_of=lambda code: BY_NLLB[code].tag if code in BY_NLLB else "",
    )


def thumbnail(data: bytes, side: int = 224) -> str:
    """An image file as a data URI of at most `side` pixels, PNG."""
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("RGBA")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
