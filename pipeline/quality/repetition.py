"""Repetition: the loops that a decoder falls into ("the the the", "hahahaha", a whole sentence twice).

Looking for a repeated unit of any length costs tens of microseconds a text, and hardly any text has one. So a batch is first sieved: only texts in
which three characters in a row come back at least three times, or twelve twice, are looked at closely.
"""

import numpy as np
import pyarrow as pa

from pipeline.quality.characters import Characters, Column, column, flat, table_of

LONGEST_UNIT = 400
LONGEST_JUDGED = 4000
"""Characters that are looked at; a loop that begins later is not worth the time of a pathological text."""
SIEVES = ((3, 3), (12, 2))
"""(characters in a row, times that they must come in a text): a loop passes at least one."""


def repetitions(texts: Column, sources: Column | None = None) -> np.ndarray:
    """Share of the characters of each text that lie in a loop, 0 to 1: a letter six times in a row, a unit of two or three characters four
    times, a longer one three times, or one of 16 characters or more twice. A loop needs a letter in it. What the source repeats as well is
    taken off: "ha ha ha ha" is rightly translated by a loop."""
    array = flat(texts)
    result = np.zeros(len(array))
    suspects = np.flatnonzero(_suspects(array))
    original = flat(sources) if sources is not None else None
    for row in suspects.tolist():
        share = _share(array[row].as_py())
        if share and original is not None:
            share = max(share - _share(original[row].as_py()), 0.0)
        result[row] = share
    return result


def repetition(text: str) -> float:
    """`repetitions` of one text, without a source."""
    return float(repetitions(column([text]))[0])


def _least_run(unit: int) -> int:
    """How many characters in a row must equal the one a unit before them."""
    if unit == 1:
        return 5
    if unit < 4:
        return 3 * unit
    if unit < 6:
        return 2 * unit
    return 2 * unit - 1 if unit < 16 else unit - 3  # the last one may lack its space or full stop


def _share(text: str) -> float:
    points = np.frombuffer(text[:LONGEST_JUDGED].rstrip().encode("utf-32-le"), np.uint32)
    is_letter = table_of(r"\p{L}")[points]
    covered = np.zeros(len(points), bool)
    for unit in range(1, min(LONGEST_UNIT, (len(points) + 3) // 2) + 1):
        is_same = points[unit:] == points[:-unit]
        need = _least_run(unit)
        if np.count_nonzero(is_same) < need:
            continue
        borders = np.flatnonzero(np.diff(np.concatenate([[False], is_same, [False]])))
        for start, stop in zip(borders[::2], borders[1::2], strict=True):
            if stop - start >= need and is_letter[start : stop + unit].any():
                covered[start : stop + unit] = True
    return float(covered.mean()) if len(covered) else 0.0


def _suspects(texts: pa.Array) -> np.ndarray:
    """Which texts pass a sieve."""
    characters = Characters(texts)
    rows = np.repeat(np.arange(len(texts)), characters.lengths)
    position = np.arange(len(rows)) - characters.starts[rows]
    points = characters.points.astype(np.uint64)
    found = np.zeros(len(texts), bool)
    for size, times in SIEVES:
        length = len(points) - size + 1
        if length < times:
            continue
        inside = (rows[size - 1 :] == rows[:length]) & (position[:length] < LONGEST_JUDGED)
        key = rows[:length].astype(np.uint64)
        for shift in range(size):  # FNV-1a, one code point a step
            key = (key ^ points[shift : shift + length]) * np.uint64(0x100000001B3)
        key, owner = key[inside], rows[:length][inside]
        order = np.argsort(key, kind="stable")
        key, owner = key[order], owner[order]
        if len(key) >= times:
            same = key[times - 1 :] == key[: len(key) - times + 1]
            found[owner[times - 1 :][same]] = True
    return found
