"""Read finished shards back and name what is wrong with them: files, tars, pictures, texts, and how they fit index and manifest."""

import hashlib
import io
import json
import logging
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from pipeline import files
from pipeline.shards import FORMAT, INDEX, TEXT_COLUMNS, image_key
from pipeline.storage import Folder, StorageError, open_folder

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 10


def verify(where: Folder | Path) -> Iterator[str]:
    """Yield what is wrong, each with the file and the key that it is about. Nothing yielded: everything is as it was written."""
    folder = where if isinstance(where, Folder) else open_folder(where)
    try:
        manifest = files.parse_json(folder.read("manifest.json"), f"{folder}/manifest.json")
    except FileNotFoundError:
        yield f"{folder}/manifest.json is missing: the shards were not finished; run the flow again"
        return
    except ValueError as error:
        yield str(error)
        return
    if manifest.get("format") != FORMAT:
        yield f"{folder}/manifest.json has the format {manifest.get('format')!r}; this version reads {FORMAT}"
        return
    there = folder.sizes()
    for name in sorted(there.keys() - {s["file"] for s in manifest["shards"]}):
        if name.endswith(".tar"):
            yield f"{folder}/{name} is not in the manifest: remove it"
    try:
        index = files.read_table(folder.path(manifest["index"]["file"], manifest["index"]["sha256"]))
    except (FileNotFoundError, ValueError, StorageError) as error:
        yield f"{folder}/{manifest['index']['file']}: {error}"
        return
    if lacking := [name for name in INDEX.names if name not in index.column_names]:
        yield f"{folder}/index.parquet has no column {lacking[0]!r}: it was built by another version; run the flow again"
        return
    yield from _totals(folder, manifest, index)
    for name in sorted(set(pc.unique(index["shard"]).to_pylist()) - {s["file"] for s in manifest["shards"]}):
        yield f"{folder}/index.parquet names {name}, which is not in the manifest"
    as_delivered = not manifest.get("reencoded")
    done, total, start = 0, sum(s["bytes"] for s in manifest["shards"]), time.monotonic()
    told = start
    for shard in manifest["shards"]:
        if shard["file"] not in there:
            yield f"{folder}/{shard['file']} is missing"
        else:
            yield from _shard(
                folder, shard, index.filter(pc.equal(index["shard"], shard["file"])).to_pylist(), as_delivered
            )
        done += shard["bytes"]
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            left = (told - start) / done * (total - done)
            logger.info("%.0f %% read, %.0f s left", 100 * done / total, left)


def _totals(folder: Folder, manifest: dict[str, Any], index: pa.Table) -> Iterator[str]:
    if files.sha256_file(folder.path("index.parquet", manifest["index"]["sha256"])) != manifest["index"]["sha256"]:
        yield f"{folder}/index.parquet is not the file that was written: its sha256 differs from the manifest"
    if index.num_rows != manifest["samples"]:
        yield f"{folder}/index.parquet has {index.num_rows:,} rows; the manifest says {manifest['samples']:,} samples"
    for column in ("language", "task"):
        counted, said = Counter(index[column].to_pylist()), manifest[f"by_{column}"]
        for name in sorted(counted.keys() | said.keys()):
            if counted[name] != said.get(name, 0):
                yield f"{folder}: {counted[name]:,} texts of {column} {name} in the index, {said.get(name, 0):,} in the manifest"


def _shard(folder: Folder, shard: dict[str, Any], rows: list[dict[str, Any]], as_delivered: bool) -> Iterator[str]:
    where = f"{folder}/{shard['file']}"
    try:
        path = folder.path(shard["file"], shard["sha256"])
    except StorageError as error:
        yield str(error)
        return
    if path.stat().st_size != shard["bytes"]:
        yield f"{where} has {path.stat().st_size:,} bytes, the manifest says {shard['bytes']:,}"
    elif files.sha256_file(path) != shard["sha256"]:
        yield f"{where} is not the file that was written: its sha256 differs from the manifest"
    if len(rows) != shard["samples"]:
        yield f"{where}: the index has {len(rows):,} texts of it, the manifest says {shard['samples']:,}"
    yield from _members(where, path, rows)
    by_key: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_key.setdefault(row["key"], []).append(row)
    with open(path, "rb") as tar:
        for key, of_key in by_key.items():
            yield from (f"{where}, key {key}: {problem}" for problem in _sample(tar, of_key, as_delivered))


def _members(where: str, path: Path, rows: list[dict[str, Any]]) -> Iterator[str]:
    """The tar as any tar reader sees it, against the index."""
    wanted = {}
    for row in rows:
        wanted[f"{row['key']}.{row['extension']}"] = (row["image_offset"], row["image_bytes"])
        wanted[f"{row['key']}.json"] = (row["json_offset"], row["json_bytes"])
    found: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.name in found:
                    yield f"{where} has the member {member.name} twice"
                found[member.name] = (member.offset_data, member.size)
    except (tarfile.TarError, EOFError) as error:
        yield f"{where} is no whole tar: {error}"
    if list(found) != list(wanted):
        for name in sorted(found.keys() - wanted.keys()):
            yield f"{where} has the member {name}, which is not in the index"
        for name in sorted(wanted.keys() - found.keys()):
            yield f"{where} has no member {name}, which the index names"
        if found.keys() == wanted.keys():
            yield f"{where} has its members in another order than the index"
    for name in found.keys() & wanted.keys():
        if found[name] != wanted[name]:
            yield f"{where}: {name} has offset and length {found[name]}, the index says {wanted[name]}"


def _sample(tar: BinaryIO, rows: list[dict[str, Any]], as_delivered: bool) -> Iterator[str]:
    """One image and its texts, whose rows of the index are `rows`."""
    row = rows[0]
    tar.seek(row["image_offset"])
    picture = tar.read(row["image_bytes"])
    if hashlib.sha256(picture).hexdigest() != row["image_sha256"]:
        yield f"the picture is not the one that was written (sha256 of {len(picture):,} bytes differs)"
    try:
        with Image.open(io.BytesIO(picture)) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        yield f"the picture can't be decoded: {error}"
    tar.seek(row["json_offset"])
    try:
        content = json.loads(tar.read(row["json_bytes"]))
        described, texts = content["image"]["sha256"], content["texts"]
    except (ValueError, KeyError, TypeError) as error:
        yield f"no sample's JSON at byte {row['json_offset']:,}: {type(error).__name__}: {error}"
        return
    if image_key(described) != row["key"]:
        yield f"the JSON is about another image ({image_key(described)})"
    if as_delivered and described != row["image_sha256"]:
        yield "the JSON says another sha256 of the picture than the index"
    if [r["text"] for r in rows] != list(range(len(texts))):
        yield f"{len(texts)} texts in the JSON, texts {[r['text'] for r in rows]} in the index"
        return
    for row, text in zip(rows, texts, strict=True):
        if lacking := [name for name in TEXT_COLUMNS if name not in text]:
            yield f"text {row['text']} has no {lacking[0]}"
            continue
        for name in ("id", "language", "task"):
            if text[name] != row[name]:
                yield f"text {row['text']}: the index says {name} {row[name]}, the tar has {text[name]}"
        for side in ("prompt", "target"):
            if len(text[side]) != row[f"{side}_characters"]:
                yield f"text {row['text']}: the {side} has {len(text[side])} characters, the index says {row[f'{side}_characters']}"
