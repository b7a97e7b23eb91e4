"""How numbers and texts are written on the card."""

import re
from typing import Any


def brace(names: list[str]) -> str:
    """`shard-{00000..00007}.tar`, the notation that webdataset expands; `{a,b}` where numbers are missing (a shard that
    got no image is not written)."""
    parts = [re.fullmatch(r"(.*?)(\d+)(.*)", name) for name in names]
    numbers = [part.group(2) for part in parts if part]
    if len(names) < 2 or len(numbers) < len(names) or parts[0] is None:
        return ",".join(names) if len(names) < 2 else "{" + ",".join(names) + "}"
    is_whole = int(numbers[-1]) - int(numbers[0]) == len(numbers) - 1
    inside = f"{numbers[0]}..{numbers[-1]}" if is_whole else ",".join(numbers)
    return f"{parts[0].group(1)}{{{inside}}}{parts[0].group(3)}"


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def percent(part: int, whole: int) -> str:
    """One decimal, never rounded up to all or down to nothing."""
    if not whole:
        return "–"
    if part == whole:
        return "100 %"
    return f"{min(max(100 * part / whole, 0.1 if part else 0.0), 99.9):.1f} %"


def number(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) >= 0.0005 else "0"
    if isinstance(value, list):
        return ", ".join(map(number, value))
    return str(value)


def readable(name: str) -> str:
    return name.replace("_", " ")


def size(count: int) -> str:
    """Bytes, in decimal units."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def images_as(manifest: dict[str, Any]) -> str:
    """How the images of the shards stand to those of the sources, by the shards' manifest."""
    smaller = manifest.get("reencoded")
    if not smaller:
        return "byte for byte as delivered"
    stored, delivered = manifest["image_bytes"], manifest["delivered_image_bytes"]
    return (
        f"made smaller, to JPEG of quality {smaller['quality']} with a longest side of {smaller['max_side']} pixels at most: "
        f"{size(stored)} of the {size(delivered)} that were delivered, {percent(delivered - stored, delivered)} saved"
    )


def markdown(value: Any) -> str:
    """A text inside a line or cell of Markdown: nothing of it is markup."""
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text).replace("\\<", "&lt;").replace("\\>", "&gt;")
