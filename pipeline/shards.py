"""Shards: WebDataset tars with one sample an image, its texts in one JSON; written, indexed, verified, read.

Which shard an image goes to is decided by the first digits of its sha256, and inside a shard images stand in the order of their keys, so the bytes do
not depend on who wrote when. Tar headers carry no time, owner or machine. `docs/formats.md` describes the files.

    python -m pipeline.shards verify runs/demo/shards
"""

import argparse
import hashlib
import io
import json
import logging
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from pipeline import files

logger = logging.getLogger(__name__)

VERSION = 2
FORMAT = "polyalign-shards/1"
KEY_DIGITS = 16

INDEX = pa.schema(
    [
        ("shard", pa.string()),
        ("key", pa.string()),
        ("extension", pa.string()),
        ("image_offset", pa.int64()),
        ("image_bytes", pa.int64()),
        ("json_offset", pa.int64()),
        ("json_bytes", pa.int64()),
        ("text", pa.int32()),
        ("id", pa.string()),
        ("language", pa.string()),
        ("task", pa.string()),
        ("prompt_characters", pa.int32()),
        ("target_characters", pa.int32()),
    ]
)

TEXT_COLUMNS = (
    "id",
    "example",
    "source",
    "task",
    "language",
    "prompt_language",
    "target_language",
    "template",
    "prompt",
    "target",
)


ImageWithTexts = tuple[dict[str, Any], list[dict[str, Any]]]
"""A row of the examples table that describes the image, and its samples."""


class ImageChanged(ValueError):
    """An image is no longer the one that the examples were read with."""


def check_bytes(data: bytes, sha256: str, path: Path) -> None:
    """Raises ImageChanged when `data` does not have this hash."""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ImageChanged(
            f"{path} is not the image that was read when the run began. Put it back, or delete the run's folder `examples`."
        )


def image_key(sha256: str) -> str:
    return sha256[:KEY_DIGITS]


def shard_of(key: str, count: int) -> int:
    """Number of the shard of an image key among `count` shards: equal parts of the range of its first 32 bits."""
    return int(key[:8], 16) * count >> 32


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.tar"


def _member(name: str, data: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    return info


def write_shard(
    path: Path, images: Iterable[ImageWithTexts], read_image: Callable[[dict[str, Any]], bytes]
) -> pa.Table:
    """Write one tar of (image, texts) pairs, which must come sorted by the image's sha256; returns its rows of the index (schema INDEX).

    An image is a row of the examples table; `read_image` gives its bytes.
    """
    rows: list[dict[str, Any]] = []
    with files.written_aside(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for image, texts in images:
            key, extension = image_key(image["image_sha256"]), image["image_format"]
            picture = read_image(image)
            description = {
                "sha256": image["image_sha256"],
                "file": image["image"],
                "width": image["image_width"],
                "height": image["image_height"],
                "licence": image["licence"],
                "credit": image["credit"],
            }
            text_rows = [{**{c: t[c] for c in TEXT_COLUMNS}, "scores": _rounded(t["scores"])} for t in texts]
            content = files.json_bytes({"image": description, "texts": text_rows})
            offsets = []
            for name, data in ((f"{key}.{extension}", picture), (f"{key}.json", content)):
                offsets.append(tar.offset + tarfile.BLOCKSIZE)
                tar.addfile(_member(name, data), io.BytesIO(data))
            for number, text in enumerate(texts):
                rows.append(
                    {
                        "shard": path.name,
                        "key": key,
                        "extension": extension,
                        "image_offset": offsets[0],
                        "image_bytes": len(picture),
                        "json_offset": offsets[1],
                        "json_bytes": len(content),
                        "text": number,
                        "id": text["id"],
                        "language": text["language"],
                        "task": text["task"],
                        "prompt_characters": len(text["prompt"]),
                        "target_characters": len(text["target"]),
                    }
                )
    return pa.Table.from_pylist(rows, schema=INDEX)


def _rounded(scores: dict[str, Any] | None) -> dict[str, Any]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in (scores or {}).items()}


def group_by_shard(samples: pa.Table, examples: pa.Table, count: int) -> dict[int, list[ImageWithTexts]]:
    """(image, texts) pairs by shard number, in the order of the tar. Images equal in content are one image: the description is that of the
    example whose id sorts first."""
    descriptions: dict[str, dict[str, Any]] = {}
    for row in examples.drop_columns(["fields"]).sort_by("id").to_pylist():
        descriptions.setdefault(row["image_sha256"], row)
    texts: dict[str, list[dict[str, Any]]] = {}
    for sample in samples.sort_by("id").to_pylist():
        texts.setdefault(sample["image_sha256"], []).append(sample)
    shards: dict[int, list[ImageWithTexts]] = {n: [] for n in range(count)}
    for sha256 in sorted(texts):
        shards[shard_of(image_key(sha256), count)].append((descriptions[sha256], texts[sha256]))
    return shards


def write_index(folder: Path, parts: list[pa.Table]) -> pa.Table:
    """Write index.parquet over all tars; `parts`: one table a tar, in the tars' order. Returns it."""
    index = pa.concat_tables(parts) if parts else INDEX.empty_table()
    files.write_table(folder / "index.parquet", index)
    return index


def describe_shards(folder: Path, name: str, index: pa.Table, samples: pa.Table) -> dict[str, Any]:
    """The manifest's account of tars and index that stand in `folder`: hashes and counts."""
    rows_of = Counter(index["shard"].to_pylist())
    images_of = Counter(
        shard for shard, _ in set(zip(index["shard"].to_pylist(), index["key"].to_pylist(), strict=True))
    )
    return {
        "format": FORMAT,
        "name": name,
        "shards": [
            {
                "file": shard,
                "sha256": files.sha256_file(folder / shard),
                "bytes": (folder / shard).stat().st_size,
                "images": images_of[shard],
                "samples": rows_of[shard],
            }
            for shard in sorted(rows_of)
        ],
        "index": {"file": "index.parquet", "sha256": files.sha256_file(folder / "index.parquet")},
        "images": sum(images_of.values()),
        "samples": index.num_rows,
        **{f"by_{c}": dict(sorted(Counter(samples[c].to_pylist()).items())) for c in ("language", "task", "source")},
    }


def read_sample(folder: Path, row: dict[str, Any]) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """The image's bytes, its description and one text, by a row of the index."""
    with open(folder / row["shard"], "rb") as file:
        file.seek(row["image_offset"])
        picture = file.read(row["image_bytes"])
        file.seek(row["json_offset"])
        content = json.loads(file.read(row["json_bytes"]))
    return picture, content["image"], content["texts"][row["text"]]


def verify(folder: Path) -> Iterator[str]:
    """Read everything back and yield what is wrong: hashes, members, JSON, images that do not decode, index rows that do not fit."""
    manifest_path = folder / "manifest.json"
    if not manifest_path.exists():
        yield f"{manifest_path} is missing: the shards were not finished; run the flow again"
        return
    manifest = files.read_json(manifest_path)
    if manifest.get("format") != FORMAT:
        yield f"{manifest_path} has the format {manifest.get('format')!r}; this version reads {FORMAT}"
        return
    for name, sha256 in [(s["file"], s["sha256"]) for s in manifest["shards"]] + [
        (manifest["index"]["file"], manifest["index"]["sha256"])
    ]:
        if not (folder / name).exists():
            yield f"{folder / name} is missing"
        elif files.sha256_file(folder / name) != sha256:
            yield f"{folder / name} is not the file that was written: its sha256 differs from the manifest"
    try:
        index = files.read_table(folder / manifest["index"]["file"])
    except (ValueError, OSError) as error:
        yield str(error)
        return
    if index.num_rows != manifest["samples"]:
        yield f"{folder / 'index.parquet'} has {index.num_rows:,} rows; the manifest says {manifest['samples']:,} samples"
    seen: set[tuple[str, str]] = set()
    for row in index.to_pylist():
        where = f"{folder / row['shard']}, key {row['key']}, text {row['text']}"
        try:
            picture, _, text = read_sample(folder, row)
            if text["id"] != row["id"]:
                yield f"{where}: the index says {row['id']}, the tar has {text['id']}"
            if (row["shard"], row["key"]) not in seen:
                seen.add((row["shard"], row["key"]))
                Image.open(io.BytesIO(picture)).load()
        except (OSError, ValueError, KeyError, IndexError, SyntaxError) as error:
            yield f"{where}: {type(error).__name__}: {error}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.shards", description="Work on built shards.")
    commands = parser.add_subparsers(dest="command", required=True)
    verify_parser = commands.add_parser("verify", help="read everything back; exit code 1 when something is wrong")
    verify_parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    problems = 0
    for problem in verify(options.folder):
        problems += 1
        sys.stdout.write(f"{problem}\n")
    if problems:
        sys.stdout.write(f"{problems} problems in {options.folder}\n")
        return 1
    manifest = files.read_json(options.folder / "manifest.json")
    sys.stdout.write(f"{options.folder} is whole: {manifest['images']:,} images, {manifest['samples']:,} samples\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
