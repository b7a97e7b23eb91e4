"""Small pictures for the page, read from the shards themselves.

The index gives each image's offset in its tar, so a thumbnail costs one seek and one read, and the page shows what
the shards really contain. All pictures of a page together stay under a byte budget: when they are too many, all are
made a size smaller.
"""

import base64
import hashlib
import io
from pathlib import Path

import pyarrow as pa
from PIL import Image, ImageOps

SIZES = (208, 176, 144, 112, 80)
"""Longest side in pixels, tried in this order. The page shows pictures at 104 CSS pixels, so the first is sharp on
every screen."""


class Pictures:
    """Images of a run by sha256. `files` is the folder of the tars, `index` their index."""

    def __init__(self, files: Path, index: pa.Table) -> None:
        self._files = files
        self._where: dict[str, tuple[str, int, int, str]] = {}
        names = ("key", "shard", "image_offset", "image_bytes", "image_sha256")
        for key, *where in zip(*(index[name].to_pylist() for name in names), strict=True):
            self._where.setdefault(key, tuple(where))

    def __contains__(self, sha256: str) -> bool:
        return sha256[:16] in self._where

    def read(self, sha256: str) -> bytes:
        """The image's bytes; raises ValueError if they are not what the index promised."""
        shard, offset, size, stored_sha256 = self._where[sha256[:16]]
        with (self._files / shard).open("rb") as tar:
            tar.seek(offset)
            data = tar.read(size)
        if hashlib.sha256(data).hexdigest() != stored_sha256:
            raise ValueError(f"{shard}: the bytes at {offset} are not image {sha256[:16]}; run the shards stage again")
        return data

    def thumbnails(self, wanted: list[str], budget: int) -> dict[str, str]:
        """Data URIs by sha256, together at most `budget` bytes (or the smallest size, if even that is more)."""
        uris: dict[str, str] = {}
        for size in SIZES:
            uris = {sha256: data_uri(self.read(sha256), size) for sha256 in wanted}
            if sum(map(len, uris.values())) <= budget:
                break
        return uris


def data_uri(data: bytes, size: int) -> str:
    """An image as a WebP data URI whose longest side is at most `size` pixels; transparency is kept."""
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    small = io.BytesIO()
    image.save(small, "WEBP", quality=76, method=4)
    return "data:image/webp;base64," + base64.b64encode(small.getvalue()).decode("ascii")
