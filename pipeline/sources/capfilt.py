"""Web CapFilt: BLIP's synthetic captions of web images, `ccs_synthetic_filtered_large.json` and its like.

    [{"caption": "a wooden chair in the living room", "url": "http://static.flickr.com/2723/4385058960_b0f291553e.jpg"}, …]

The images are those that img2dataset downloaded (docs/sources.md gives the command): its output folder has one Parquet file a shard with the
columns `url`, `key` and `status`, beside a tar or a folder of pictures. An example's id is a hash of its URL and its caption.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipeline.corpus import Example, LeftOut, SourceError
from pipeline.sources.build import build_example, content_id
from pipeline.sources.config import CapFiltSource
from pipeline.sources.json_stream import get, read_records

FAILED = -1


class Downloads:
    """What img2dataset was asked for, by URL: 24 bytes each. Raises ValueError that names the folder when it is not img2dataset's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        parts, places = [], []
        self._shards: list[tuple[str, str]] = []
        for path in sorted(folder.glob("*.parquet")):
            table = pq.read_table(path, columns=["url", "key", "status"])
            urls, keys, status = (table[c].to_pylist() for c in ("url", "key", "status"))
            parts.append(np.fromiter((_hash(u) for u in urls), dtype=np.uint64, count=len(urls)))
            numbers = [int(k) if s == "success" else FAILED for k, s in zip(keys, status, strict=True)]
            places.append(
                np.stack([np.full(len(urls), len(self._shards)), np.asarray(numbers, dtype=np.int64)], axis=1)
            )
            digits = len(keys[0]) if keys else 0
            shard = f"{path.stem}.tar" if (folder / f"{path.stem}.tar").exists() else path.stem
            self._shards.append((shard, f"0{digits}d"))
        if not parts:
            raise ValueError(
                f"{folder} has no Parquet files with `url`, `key` and `status`, so it is no output of img2dataset "
                "(docs/sources.md gives the command)."
            )
        hashes, found = np.concatenate(parts), np.concatenate(places)
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._places = hashes[order], found[order]

    def find(self, url: str) -> str | None:
        """Path of the picture below the folder, an empty text when its download failed, or None when img2dataset was not asked for it."""
        wanted = np.uint64(_hash(url))
        i = int(np.searchsorted(self._hashes, wanted))
        if i == len(self._hashes) or self._hashes[i] != wanted:
            return None
        (shard, digits), number = self._shards[int(self._places[i, 0])], int(self._places[i, 1])
        return "" if number == FAILED else f"{shard}/{number:{digits}}.jpg"


def _hash(url: str) -> int:
    return int.from_bytes(hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def read(source: CapFiltSource) -> Iterator[Example | SourceError | LeftOut]:
    """Stream the captions in file order. One whose download failed is an error of its own; those that img2dataset was not asked for, because a
    part of the list was downloaded, are counted."""
    assert source.images is not None
    downloads = Downloads(source.images)
    for record in read_records(source.path):
        if isinstance(record, SourceError):
            yield record
            continue
        where, item = record
        url, caption = get(item, "url"), get(item, "caption")
        if not isinstance(url, str) or not isinstance(caption, str):
            yield SourceError(where, "", "wrong_schema", "a record has the texts `caption` and `url`")
            continue
        own_id = content_id(url, caption)
        image = downloads.find(url)
        if image is None:
            yield LeftOut("not_in_download", 1)
            continue
        if not image:
            detail = f"img2dataset could not download {url} into {source.images}"
            yield SourceError(where, own_id, "image_missing", detail)
            continue
        yield build_example(source, where, own_id, "captioning", image, [("caption", caption.strip())])
