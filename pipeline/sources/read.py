"""Runs the readers of a mix: checks ids and images, and gives the table of examples and the ledger of what can't be used.

Each image is opened, decoded and hashed once. An image that is missing or does not decode costs its examples, never the run, and is never
replaced.
"""

import hashlib
import io
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from pipeline.corpus import EXAMPLES, LEDGER, Example, SourceError
from pipeline.mix import Mix, SourceConfig
from pipeline.sources import jsonl

VERSION = 1

READERS: dict[str, Callable[[SourceConfig], Iterator[Example | SourceError]]] = {"jsonl": jsonl.read}

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
"""Image formats that are delivered as they are, and the extension each gets in a shard."""


@dataclass(frozen=True)
class ImageFacts:
    sha256: str
    format: str
    width: int
    height: int


def check_image(path: Path) -> ImageFacts | tuple[str, str]:
    """Facts of an image that decodes, or (reason, detail)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return "image_missing", f"there is no file {path}"
    except OSError as error:
        return "image_unreadable", f"{path}: {error}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                kind, (width, height) = image.format or "", image.size
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
    return ImageFacts(hashlib.sha256(data).hexdigest(), FORMATS[kind], width, height)


def example_order(example_id: str) -> bytes:
    """The order in which `limit` picks examples: by a hash of the id, so that it does not depend on the order of the file."""
    return hashlib.blake2b(example_id.encode(), digest_size=8).digest()


def missing_sources(mix: Mix) -> list[str]:
    """Complaints about source files that are not there, to be made before any work."""
    return [f"source {s.name!r}: there is no file {s.path}" for s in mix.sources if not s.path.is_file()]


def read_examples(mix: Mix) -> tuple[pa.Table, pa.Table, dict[str, int]]:
    """Read all sources of `mix`.

    Returns the examples (schema EXAMPLES, sorted by id), the ledger of unusable records (schema LEDGER) and the number of records read by source:
    for each source, records read = examples + ledger rows + records beyond its `limit`. The last are counted under `NAME:beyond_limit`.
    """
    examples: list[Example] = []
    ledger: list[dict[str, object]] = []
    counts: dict[str, int] = {}
    facts: dict[Path, ImageFacts | tuple[str, str]] = {}
    for source in mix.sources:
        usable, errors = _read_source(source, facts)
        counts[source.name] = len(usable) + len(errors)
        ledger += errors
        if source.limit is not None and len(usable) > source.limit:
            usable.sort(key=lambda example: example_order(example.id))
            counts[f"{source.name}:beyond_limit"] = len(usable) - source.limit
            usable = usable[: source.limit]
        examples += usable
    examples.sort(key=lambda example: example.id)
    folders = {s.name: s.image_folder for s in mix.sources}
    rows = []
    for example in examples:
        image = facts[folders[example.source] / example.image]
        assert isinstance(image, ImageFacts)
        rows.append(
            {
                "id": example.id,
                "source": example.source,
                "task": example.task,
                "image": example.image,
                "image_sha256": image.sha256,
                "image_format": image.format,
                "image_width": image.width,
                "image_height": image.height,
                "fields": [f._asdict() for f in example.fields],
                "licence": example.licence,
                "credit": example.credit,
            }
        )
    ledger.sort(key=lambda row: (str(row["source"]), str(row["id"]), str(row["detail"])))
    return pa.Table.from_pylist(rows, schema=EXAMPLES), pa.Table.from_pylist(ledger, schema=LEDGER), counts


def _read_source(
    source: SourceConfig, facts: dict[Path, ImageFacts | tuple[str, str]]
) -> tuple[list[Example], list[dict[str, object]]]:
    usable: list[Example] = []
    errors: list[dict[str, object]] = []
    first_place: dict[str, str] = {}
    for number, record in enumerate(READERS[source.reader](source), start=1):
        if isinstance(record, SourceError):
            errors.append(
                _row(
                    source.name, f"{source.name}:{record.own_id}", "", record.reason, f"{record.where}: {record.detail}"
                )
            )
        elif record.id in first_place:
            detail = f"record {number} of {source.path}: the id is already that of record {first_place[record.id]}"
            errors.append(_row(source.name, record.id, record.task, "duplicate_id", detail))
        else:
            first_place[record.id] = str(number)
            usable.append(record)
    paths = sorted({source.image_folder / example.image for example in usable} - facts.keys())
    with ThreadPoolExecutor() as pool:
        facts.update(zip(paths, pool.map(check_image, paths), strict=True))
    kept: list[Example] = []
    for example in usable:
        image = facts[source.image_folder / example.image]
        if isinstance(image, ImageFacts):
            kept.append(example)
        else:
            errors.append(
                _row(source.name, example.id, example.task, image[0], f"{source.path}, id {example.id}: {image[1]}")
            )
    return kept, errors


def _row(source: str, example: str, task: str, reason: str, detail: str) -> dict[str, object]:
    return {
        "id": example,
        "example": example,
        "source": source,
        "task": task,
        "language": "",
        "stage": "examples",
        "reason": reason,
        "detail": detail,
        "fields": [],
        "scores": None,
    }
