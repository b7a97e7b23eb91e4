"""Columns of text as columns of characters: what the signals count, a whole batch at a time.

A string column is decoded once into one flat array of code points with the rows' borders. A question such as "how many letters of this script has
each row" is then one table lookup and one running sum for the whole batch, whatever the lengths of the rows: no loop over rows, memory flat in the
batch.
"""

from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

CODE_POINTS = 0x110000

Column: TypeAlias = pa.Array | pa.ChunkedArray


def column(texts: Sequence[str | None]) -> pa.Array:
    """An Arrow column of any Python strings: lone surrogates, which UTF-8 has no form for, become U+FFFD, and None becomes ""."""
    try:
        return pa.array(["" if t is None else t for t in texts], pa.string())
    except UnicodeEncodeError:
        return pa.array([_encodable(t or "") for t in texts], pa.string())


def _encodable(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def flat(strings: Column) -> pa.Array:
    """One array without nulls: null becomes ""."""
    array = strings.combine_chunks() if isinstance(strings, pa.ChunkedArray) else strings
    if array.type != pa.string():
        array = pc.cast(array, pa.string())
    return pc.fill_null(array, "") if array.null_count else array


def numbers(values: Column) -> np.ndarray:
    """An Arrow column of numbers as float64; null becomes 0."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return np.asarray(pc.fill_null(pc.cast(array, pa.float64()), 0.0).to_numpy(zero_copy_only=False))


class Characters:
    """The code points of a string column. `points`: uint32, all rows one after the other; `starts`: int64, rows + 1 borders in it."""

    def __init__(self, strings: Column) -> None:
        array = flat(strings)
        lengths = numbers(pc.utf8_length(array)).astype(np.int64)
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        offsets, data = array.buffers()[1:] if len(array) else (None, None)
        if offsets is None or data is None:
            self.points = np.zeros(0, np.uint32)
        else:
            borders = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
            text = data[int(borders[0]) : int(borders[-1])].to_pybytes().decode("utf-8")
            self.points = np.frombuffer(text.encode("utf-32-le"), np.uint32)

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    def count(self, mask: np.ndarray) -> np.ndarray:
        """How many characters of each row are in `mask` (bool, one a code point of `points`)."""
        total = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
        return total[self.starts[1:]] - total[self.starts[:-1]]

    def count_in(self, table: np.ndarray) -> np.ndarray:
        """How many characters of each row are in `table` (bool, one a code point of Unicode)."""
        return self.count(table[self.points])

    def last(self) -> np.ndarray:
        """The last code point of each row, 0 for an empty row."""
        if not len(self.points):
            return np.zeros(len(self.starts) - 1, np.uint32)
        found = self.points[np.maximum(self.starts[1:] - 1, 0)]
        return np.where(self.lengths > 0, found, 0).astype(np.uint32)


@cache
def _all_characters() -> tuple[str, int]:
    """Every character but the surrogates, and how many stand before the gap that they leave."""
    gap = 0xD800
    return "".join(map(chr, range(gap))) + "".join(map(chr, range(0xE000, CODE_POINTS))), gap


@cache
def table_of(pattern: str) -> np.ndarray:
    """bool[0x110000]: which characters the pattern of one character (as the package regex writes it) matches."""
    characters, gap = _all_characters()
    table = np.zeros(CODE_POINTS, bool)
    for match in regex.finditer(rf"(?:{pattern})+", characters):
        start, end = match.span()
        table[start + (0x800 if start >= gap else 0) : end + (0x800 if end > gap else 0)] = True
    return table


def table_from(characters: str) -> np.ndarray:
    """bool[0x110000]: the characters of a string."""
    table = np.zeros(CODE_POINTS, bool)
    table[[ord(c) for c in characters]] = True
    return table
