"""Shards: WebDataset tars with one sample an image, its texts in one JSON; written, indexed, read.

Which shard an image goes to is decided by the first digits of its sha256, and inside a shard images stand in the order of their keys, so the bytes do
not depend on who wrote when. Tar headers carry no time, owner or machine. `docs/formats.md` describes the files.

    python -m pipeline.shards verify runs/demo/shards
    python -m pipeline.shards publish runs/demo/shards s3://bucket/demo
"""

import argparse
import hashlib
import io
import json
import logging
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import files
from pipeline.mix import ImagesConfig
from pipeline.reencode import reencode
from pipeline.storage import StorageError, open_folder

VERSION = 3
FORMAT = "polyalign-shards/1"
KEY_DIGITS = 16

INDEX = pa.schema(
    [
        ("shard", pa.string()),
        ("key", pa.string()),
        ("extension", pa.string()),
        ("image_offset", pa.int64()),
        ("image_bytes", pa.int64()),
        ("image_sha256", pa.string()),
        ("delivered_bytes", pa.int64()),
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
    "answer_origin",
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
    path: Path,
    images: Iterable[ImageWithTexts],
    read_image: Callable[[dict[str, Any]], bytes],
    smaller: ImagesConfig | None = None,
) -> pa.Table:
    """Write one tar of (image, texts) pairs, which must come sorted by the image's sha256; returns its rows of the index (schema INDEX).

    An image is a row of the examples table; `read_image` gives its bytes, `smaller` says how they are re-encoded.
    """
    rows: list[dict[str, Any]] = []
    with files.written_aside(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for image, texts in images:
            key = image_key(image["image_sha256"])
            size = image["image_width"], image["image_height"]
            picture = reencode(read_image(image), image["image_format"], size, smaller)
            stored_sha256 = hashlib.sha256(picture.data).hexdigest()
            description = {
                "sha256": image["image_sha256"],
                "file": image["image"],
                "width": picture.width,
                "height": picture.height,
                "licence": image["licence"],
                "credit": image["credit"],
            }
            text_rows = [{**{c: t[c] for c in TEXT_COLUMNS}, "scores": _rounded(t["scores"])} for t in texts]
            content = files.json_bytes({"image": description, "texts": text_rows})
            offsets = []
            for name, data in ((f"{key}.{picture.extension}", picture.data), (f"{key}.json", content)):
                offsets.append(tar.offset + tarfile.BLOCKSIZE)
                tar.addfile(_member(name, data), io.BytesIO(data))
            for number, text in enumerate(texts):
                rows.append(
                    {
                        "shard": path.name,
                        "key": key,
                        "extension": picture.extension,
                        "image_offset": offsets[0],
                        "image_bytes": len(picture.data),
                        "image_sha256": stored_sha256,
                        "delivered_bytes": picture.delivered_bytes,
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


def describe_shards(
    folder: Path, name: str, index: pa.Table, samples: pa.Table, smaller: ImagesConfig | None = None
) -> dict[str, Any]:
    """The manifest's account of tars and index that stand in `folder`: hashes and counts, and how images were re-encoded."""
    rows_of = Counter(index["shard"].to_pylist())
    columns = (index[c].to_pylist() for c in ("shard", "key", "image_bytes", "delivered_bytes"))
    images = set(zip(*columns, strict=True))
    images_of = Counter(shard for shard, *_ in images)
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
        "reencoded": None if smaller is None else smaller.model_dump(mode="json"),
        "image_bytes": sum(stored for *_, stored, _ in images),
        "delivered_image_bytes": sum(delivered for *_, delivered in images),
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


def main(arguments: list[str] | None = None) -> int:
    from pipeline.publish import publish
    from pipeline.verify import verify

    parser = argparse.ArgumentParser(prog="python -m pipeline.shards", description="Work on built shards.")
    commands = parser.add_subparsers(dest="command", required=True)
    of_verify = commands.add_parser("verify", help="read everything back; exit code 1 when something is wrong")
    of_verify.add_argument("folder", help="folder or URL of the shards")
    of_publish = commands.add_parser("publish", help="copy finished shards to a URL; what is there already stays")
    of_publish.add_argument("folder", type=Path, help="folder of the shards")
    of_publish.add_argument("url", help="where to: s3://bucket/folder, a path …")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if options.command == "publish":
            counts = publish(options.folder, options.url)
            sys.stdout.write("{copied} files copied ({bytes:,} bytes), {kept} there already\n".format(**counts))
            return 0
        folder = open_folder(options.folder)
        problems = 0
        for problem in verify(folder):
            problems += 1
            sys.stdout.write(f"{problem}\n")
        if problems:
            sys.stdout.write(f"{problems} problems in {folder}\n")
            return 1
        manifest = json.loads(folder.read("manifest.json"))
        sys.stdout.write(f"{folder} is whole: {manifest['images']:,} images, {manifest['samples']:,} samples\n")
        return 0
    except StorageError as error:
        sys.stdout.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
