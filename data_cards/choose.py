"""Which samples the page shows.

They are drawn by a hash of their id, so nobody picked the pretty ones, and the same run always shows the same. Within a
language the draw goes round the tasks, and an image is shown once, so that four samples tell something about the whole.
One pass over the table, which keeps a few rows of each group: a run of millions of samples needs no more memory here
than a small one.
"""

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

T = TypeVar("T")

SPARE = 4
"""Rows kept for each one asked for, so that there is a choice when they are about the same image."""


def order(id: str) -> int:
    """A fixed shuffle: sort by this."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest(), "big")


def draw_for_each(table: pa.Table, column: str, number: int, kind: str) -> dict[str, list[dict[str, Any]]]:
    """Up to `number` rows for every value of `column`: one of each `kind` in turn, no image twice while there are
    others.

    `table` needs the columns `id` and `image_sha256` beside these two.
    """
    heaps: dict[str, dict[str, list[tuple[int, int, str]]]] = defaultdict(lambda: defaultdict(list))
    for position, (id, value, which, image) in enumerate(_rows(table, ["id", column, kind, "image_sha256"])):
        heap, entry = heaps[value][which], (-order(id), position, image)
        if len(heap) < number * SPARE:
            heapq.heappush(heap, entry)
        elif entry > heap[0]:
            heapq.heapreplace(heap, entry)
    drawn = {}
    for value, kinds in sorted(heaps.items()):
        in_order = sorted((sorted(heap, reverse=True) for heap in kinds.values()), reverse=True)
        positions = _new_images_first([(image, position) for _, position, image in _in_turn(in_order)])
        drawn[value] = table.take(positions[:number]).to_pylist()
    return drawn


def most_translated(samples: pa.Table, number: int, script: Callable[[str], str]) -> list[dict[str, Any]]:
    """Samples of the one example that was kept in the most languages, different scripts first, up to `number`.

    Captions are preferred, since their target is a sentence about the picture, and so are longer ones.
    """
    captions = samples.filter(pc.equal(samples["task"], "captioning"))
    table = captions if captions.num_rows else samples
    languages: dict[str, set[str]] = defaultdict(set)
    length: dict[str, int] = {}
    for example, language, english in _rows(table, ["example", "target_language", "english"]):
        languages[example].add(language)
        length[example] = len(english)
    if not languages:
        return []

    def worth(example: str) -> tuple[int, int, int, int]:
        # Eight tenths of what is asked for counts as enough; beyond that a sentence says more than one more language.
        enough = min(len(languages[example]), number * 8 // 10)
        return enough, min(length[example], 60), len({script(code) for code in languages[example]}), order(example)

    rows = table.filter(pc.equal(table["example"], max(languages, key=worth))).to_pylist()
    by_script: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: order(row["id"])):
        by_script[script(row["target_language"])].append(row)
    return list(_in_turn(list(by_script.values())))[:number]


def _rows(table: pa.Table, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    for batch in table.select(columns).to_batches(max_chunksize=1 << 16):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _in_turn(lists: list[list[T]]) -> Iterator[T]:
    """First of each list, then second of each, and so on."""
    for position in range(max(map(len, lists), default=0)):
        for rows in lists:
            if position < len(rows):
                yield rows[position]


def _new_images_first(rows: Iterable[tuple[str, int]]) -> list[int]:
    """Positions of (image, position) pairs, those that repeat an image after the others."""
    seen: set[str] = set()
    first: list[int] = []
    again: list[int] = []
    for image, position in rows:
        (again if image in seen else first).append(position)
        seen.add(image)
    return first + again
