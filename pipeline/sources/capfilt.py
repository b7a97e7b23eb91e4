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

from pipeline.corpus import Example, SourceError
from pipeline.sources.build import build_example, content_id
from pipeline.sources.config import CapFiltSource
from pipeline.sources.json_stream import get, read_records


class Downloads:
    """What img2dataset downloaded, by URL: 16 bytes a picture. Raises ValueError that names the folder when it is not img2dataset's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        parts, places = [], []
        self._shards: list[tuple[str, str]] = []
        for path in sorted(folder.glob("*.parquet")):
            table = pq.read_table(path, columns=["url", "key", "status"])
            kept = table.filter(np.asarray([s == "success" for s in table["status"].to_pylist()], dtype=bool))
            parts.append(np.fromiter((_hash(u) for u in kept["url"].to_pylist()), dtype=np.uint64, count=kept.num_rows))
            numbers = np.asarray([int(k) for k in kept["key"].to_pylist()], dtype=np.int64)
            places.append(np.stack([np.full(kept.num_rows, len(self._shards)), numbers], axis=1))
            digits = len(table["key"][0].as_py()) if table.num_rows else 0
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
        """Path of the picture below the folder, or None when it was not downloaded."""
        wanted = np.uint64(_hash(url))
        i = int(np.searchsorted(self._hashes, wanted))
        if i == len(self._hashes) or self._hashes[i] != wanted:
            return None
        shard, digits = self._shards[int(self._places[i, 0])]
        return f"{shard}/{int(self._places[i, 1]):{digits}}.jpg"


def _hash(url: str) -> int:
    return int.from_bytes(hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def read(source: CapFiltSource) -> Iterator[Example | SourceError]:
    """Stream the captions in file order; one whose picture was not downloaded is an error of its own."""
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
            detail = f"img2dataset did not download {url} into {source.images}"
            yield SourceError(where, own_id, "image_missing", detail)
            continue
        yield build_example(source, where, own_id, "captioning", image, [("caption", caption.strip())])
