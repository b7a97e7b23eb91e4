"""Images of a source by their path below its image folder. A part of the path that ends in .tar is a tar, and the rest a member of it.

So pictures can stay in the tars that img2dataset or others wrote: `00012.tar/000120034.jpg`. A tar's members are listed once and then read at their
offsets.
"""

import hashlib
import io
import tarfile
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
"""Image formats that are delivered as they are, and the extension each gets in a shard."""

MAX_IMAGE_BYTES = 100 * 1024 * 1024
"""A larger file is not a picture that a 224-pixel encoder should be trained on, and ten at once fill a machine's memory."""


@dataclass(frozen=True)
class ImageFacts:
    sha256: str
    format: str
    width: int
    height: int
    look: int = 0
    """Perceptual hash, 64 bits; 0 where it was not asked for."""


def tar_and_member(image: str) -> tuple[str, str] | None:
    """Split `a/b.tar/c/d.jpg` into (`a/b.tar`, `c/d.jpg`); None for a path without a tar."""
    head, found, member = image.partition(".tar/")
    return (f"{head}.tar", member) if found else None


@lru_cache(maxsize=64)
def _members(path: Path, size: int, changed: int) -> dict[str, tuple[int, int]]:
    """Offset and length in bytes of the data of each file in a tar."""
    found = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if member.isfile():
                found[member.name] = (member.offset_data, member.size)
    return found


def read_image(folder: Path, image: str) -> bytes:
    """The bytes of an image. Raises FileNotFoundError when the file, the tar or the member is not there, OSError for what can't be read."""
    split = tar_and_member(image)
    if split is None:
        path = folder / image
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise OSError(f"the file has {path.stat().st_size:,} bytes; the limit is {MAX_IMAGE_BYTES:,}")
        return path.read_bytes()
    path = folder / split[0]
    status = path.stat()
    try:
        place = _members(path, status.st_size, status.st_mtime_ns).get(split[1])
    except tarfile.TarError as error:
        raise OSError(f"the tar {path} is broken: {error}") from error
    if place is None:
        raise FileNotFoundError(f"{path} has no member {split[1]}")
    if place[1] > MAX_IMAGE_BYTES:
        raise OSError(f"the member has {place[1]:,} bytes; the limit is {MAX_IMAGE_BYTES:,}")
    with open(path, "rb") as file:
        file.seek(place[0])
        data = file.read(place[1])
    if len(data) != place[1]:
        raise OSError(f"the tar {path} is cut off inside {split[1]}")
    return data


def check_image(folder: Path, image: str, with_look: bool = False) -> ImageFacts | tuple[str, str]:
    """Facts of an image that decodes, or (reason, detail)."""
    path = folder / image
    try:
        data = read_image(folder, image)
    except (FileNotFoundError, NotADirectoryError):
        return "image_missing", f"there is no file {path}"
    except OSError as error:
        return "image_unreadable", f"{path}: {error}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
                kind, (width, height) = picture.format or "", picture.size
                look = look_of(picture) if with_look else 0
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        return "image_broken", f"{path}: {error}"
    if kind not in FORMATS:
        return "image_format", f"{path} is {kind}; shards hold {', '.join(FORMATS)}: convert it"
    return ImageFacts(hashlib.sha256(data).hexdigest(), FORMATS[kind], width, height, look)


def look_of(picture: Image.Image) -> int:
    """Perceptual hash of a picture (ImageHash's phash), 64 bits: resizing or recompressing changes few of them."""
    import imagehash

    return int(str(imagehash.phash(picture.convert("RGB"))), 16)
