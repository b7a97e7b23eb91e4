"""Pictures made smaller for the shards, where a mix asks for it: a longest side and a JPEG quality.

An encoder sees 224 or 364 pixels a side, while published pictures have a thousand and more: most of a dataset's bytes are never looked at. What is
given up: the pictures are no longer those that were delivered, and transparent parts become white (as the trainer shows them anyway). A picture
stays as it was delivered when it is small enough and the new file would not be smaller. The bytes depend on nothing but the picture, the two
numbers and the version of Pillow.
"""

import io
from dataclasses import dataclass

from PIL import Image, ImageOps

from pipeline.mix import ImagesConfig


@dataclass(frozen=True)
class Picture:
    """A picture as it goes into a shard."""

    data: bytes
    extension: str
    width: int
    height: int
    delivered_bytes: int


def reencode(data: bytes, extension: str, size: tuple[int, int], config: ImagesConfig | None) -> Picture:
    """The picture `data`, delivered as `extension` with `size` (width, height), as `config` wants it; as it is without one.

    Raises OSError or ValueError when it can't be decoded.
    """
    if config is None:
        return Picture(data, extension, *size, len(data))
    with Image.open(io.BytesIO(data)) as opened:
        # a smaller file has no EXIF, so what it says about the orientation is done here
        image = ImageOps.exif_transpose(opened)
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        image = image.convert("RGB")
        image.thumbnail((config.max_side, config.max_side), Image.Resampling.LANCZOS, reducing_gap=None)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=config.quality, optimize=True)
    if max(size) <= config.max_side and buffer.tell() >= len(data):
        return Picture(data, extension, *size, len(data))
    return Picture(buffer.getvalue(), "jpg", *image.size, len(data))
