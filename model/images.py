"""A picture as the vision encoder gets it: the same few steps in training, evaluation and chat.

Turned upright as its EXIF orientation says, RGB with transparent parts white, scaled to a square with Pillow's bicubic filter, then CLIP's mean
and deviation. The last two steps are what BLIP-2's own image processor does; it drops transparency instead, which turns parts that nobody sees
into black or noise, and leaves a photograph that was taken sideways lying on its side.
"""

from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD


class BadImage(Exception):
    """An image that can't be read, with the reason (and the path, where there is one)."""


def to_pixels(image: Image.Image, size: int) -> Tensor:
    """uint8 (3, size, size), upright, RGB, transparent parts white."""
    rgba = ImageOps.exif_transpose(image).convert("RGBA")
    rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return torch.from_numpy(np.array(rgb.resize((size, size), Image.Resampling.BICUBIC))).permute(2, 0, 1).contiguous()


def read_image(file: Path | IO[bytes], size: int) -> Tensor:
    """uint8 (3, size, size), as `to_pixels` gives it. Raises BadImage; a picture that can't be decoded is never replaced by another."""
    try:
        with Image.open(file) as image:
            return to_pixels(image, size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImage(f"{file}: {error}" if isinstance(file, Path) else str(error)) from error


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (images, 3, height, width) → float32, with CLIP's mean and deviation, as BLIP-2's image processor does it."""
    mean = torch.tensor(OPENAI_CLIP_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(OPENAI_CLIP_STD).view(1, 3, 1, 1)
    return (pixels.float() / 255 - mean) / std
