"""Finished shards copied to where they are trained from: any URL that fsspec can write to.

    python -m pipeline.shards publish runs/mine/shards s3://bucket/mine

Shards do not change when a dataset grows elsewhere, so only those that are new or other are copied. The manifest goes last: until then a reader
sees the old one, and refuses shards that do not fit it.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from pipeline import files
from pipeline.storage import StorageError, open_folder

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"


def publish(source: Path, target: str) -> dict[str, int]:
    """Copy the finished shards in `source` to the URL `target`; returns counts: files `copied`, files `kept`, `bytes` copied.

    Tars that only the manifest there names are removed. Raises StorageError when `source` is not finished or `target` can't be written.
    """
    if not (source / MANIFEST).exists():
        raise StorageError(f"{source / MANIFEST} is missing: the shards were not finished; run the flow again.")
    now = _hashes(files.read_json(source / MANIFEST))
    if absent := [name for name in now if not (source / name).exists()]:
        raise StorageError(f"{source / absent[0]} is missing; run the flow again.")
    folder = open_folder(target)
    filesystem = folder.filesystem or LocalFileSystem()
    root = folder.root or str(folder.local)
    there = folder.sizes()
    before = _hashes(files.parse_json(folder.read(MANIFEST), f"{folder}/{MANIFEST}")) if MANIFEST in there else {}
    counts = {"copied": 0, "kept": 0, "bytes": 0}
    with folder.told("write to"):
        filesystem.makedirs(root, exist_ok=True)
    for name in [*sorted(now), MANIFEST]:
        size = (source / name).stat().st_size
        if name in before and before[name] == now.get(name) and there.get(name) == size:
            counts["kept"] += 1
            continue
        logger.info("copy %s (%.1f MB)", name, size / 1e6)
        with folder.told(f"copy {name} to"):
            filesystem.put_file(str(source / name), f"{root}/{name}")
        counts["copied"] += 1
        counts["bytes"] += size
    for name in _only_before(before, now, there):
        with folder.told(f"remove {name} from"):
            filesystem.rm_file(f"{root}/{name}")
    return counts


def _only_before(before: dict[str, str], now: dict[str, str], there: dict[str, int]) -> Iterator[str]:
    return (name for name in before if name not in now and name in there)


def _hashes(manifest: dict[str, Any]) -> dict[str, str]:
    return {s["file"]: s["sha256"] for s in [*manifest["shards"], manifest["index"]]}
