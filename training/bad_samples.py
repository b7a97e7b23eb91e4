"""Pictures that could not be decoded during a run: each is listed once, and too many of them stop the run.

The list is `bad_samples.jsonl` in the run's folder, a line for each picture: step, shard, key, and why. Their texts are left out of training;
nothing takes their place.
"""

import logging
from collections.abc import Iterable

from training.checkpoint import Logs
from training.loader import BadPicture, Reader, ShardError

log = logging.getLogger(__name__)

NAME = "bad_samples"


class BadSamples:
    """The pictures that were found bad, in this run and before the checkpoint that it goes on from."""

    def __init__(self, logs: Logs, images: int, most: float) -> None:
        """`images`: how many the run trains on; `most`: the share of them above which it stops."""
        self.logs, self.images, self.most = logs, images, most
        self.keys = {row["key"] for row in logs.rows[NAME]}

    def add(self, step: int, rows: Iterable[dict], reader: Reader) -> None:
        """Note the index rows `rows`, whose texts were left out of `step`. Raises ShardError when the share of bad pictures is too large."""
        for row in rows:
            if row["key"] in self.keys:
                continue
            self.keys.add(row["key"])
            why = reason(reader, row)
            log.warning("left out: %s", why)
            self.logs.add(NAME, {"step": step, "shard": row["shard"], "key": row["key"], "why": why})
        if len(self.keys) > self.most * self.images:
            raise ShardError(
                f"{len(self.keys)} of {self.images} images can't be decoded, more than the share of {self.most:g} that --max-bad-images allows; "
                f"they are listed in {self.logs.path(NAME)}. Build the shards again, or allow more."
            )


def reason(reader: Reader, row: dict) -> str:
    """Why the picture of `row` is bad."""
    try:
        reader.pixels(row)
    except BadPicture as error:
        return str(error)
    return f"{row['key']} in {row['shard']} could not be decoded by another process"
