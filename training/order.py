"""Who sees which sample when: pure functions of (seed, epoch, the manifest's rows, the mixture). Nothing is read and nothing is kept.

Training walks through one endless global order, epoch after epoch. Position p of it is place `p % n` of the order of epoch `p // n`, where n is
the number of samples, so the state of the data is the integer p: a run resumes at the exact next sample, also in the middle of an epoch or of a
batch that spans two. Several texts of one image stand side by side (in groups of `texts_per_image`), so that a batch encodes each image once.

A mixture (`training/mixture.py`) gives each cell, a task in a language, a share of the epoch. An epoch still has n places; a cell that has more
of them than samples comes round again within the epoch, one that has fewer goes on in the next. Each cell deals out its samples like a pack of
cards: none is seen for the second time before all have been seen once, over all epochs. Without a mixture an epoch is a permutation.

With several processes, a step takes one global batch and rank r of w its r-th contiguous piece: the pieces are disjoint, together they are
the batch whatever w is, and an image's texts stay on one rank. The shuffle is a hash (splitmix64), not a library's generator, whose stream
may change with its version.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Integers = NDArray[np.int64]

ONE = 1 << 20
"""Shares of an epoch are whole numbers of this part of a sample, so that no rounding of floats decides who is drawn."""


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's output function (Steele, Lea and Flood, 2014): a bijection on 64-bit integers whose output looks random."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _hash(*columns: Integers | int) -> NDArray[np.uint64]:
    """One hash for each row of the columns; integers are constant columns."""
    state = np.zeros(1, dtype=np.uint64)
    for column in columns:
        state = mix(state ^ mix(np.atleast_1d(np.asarray(column)).astype(np.uint64)))
    return state


@dataclass(frozen=True)
class Order:
    """What decides the global order. `epoch` and `stream` are pure functions of these fields and their arguments."""

    images: Integers
    """(samples,): a number for the image of each sample."""
    seed: int
    texts_per_image: int = 1
    """Texts of an image that stand together at most."""
    cells: Integers | None = None
    """(samples,): the cell of each sample, 0 … cells − 1; None: no mixture, every sample once an epoch."""
    shares: NDArray[np.float64] | None = None
    """(cells,): share of the epoch that each cell gets, summing to 1."""
    shards: Integers | None = None
    """(samples,): a number for the shard of each sample; only needed with `shard_window`."""
    shard_window: int = 0
    """Shards that are read and shuffled together; 0: all. With n, an epoch takes n shards after n shards, in a shuffled order of shards."""

    def epoch(self, epoch: int) -> Integers:
        """The samples that `epoch` visits, in order, shape (samples,)."""
        count = len(self.images)
        if self.cells is None or self.shares is None:
            samples, turn = np.arange(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        else:
            samples, turn = draw(self.cells, self.shares, self.seed, epoch)
        images = self.images[samples]
        together = np.lexsort((_hash(self.seed, epoch, 0, samples), turn, images))
        samples, turn, images = samples[together], turn[together], images[together]
        # the how-manieth text of its image (and turn) each draw is, in this epoch's shuffle of the image's texts
        rank = _place_in_run(images, turn)
        group = rank // self.texts_per_image + (turn << 32)
        window = np.zeros(count, dtype=np.int64)
        if self.shard_window and self.shards is not None:
            names, number = np.unique(self.shards, return_inverse=True)
            place_of_shard = np.argsort(np.argsort(_hash(self.seed, epoch, 3, names), kind="stable"))
            window = (place_of_shard // self.shard_window)[number[samples]]
        return samples[np.lexsort((rank, turn, images, _hash(self.seed, epoch, 1, images, group), window))]

    def stream(self, position: int = 0) -> Iterator[int]:
        """Samples of the global order from `position` on, without end; there must be at least one sample."""
        count = len(self.images)
        while True:
            epoch, offset = divmod(position, count)
            yield from self.epoch(epoch)[offset:].tolist()
            position += count - offset


def _place_in_run(*columns: Integers) -> Integers:
    """For columns whose equal rows stand together: the place of each row among its equals, from 0."""
    count = len(columns[0])
    if not count:
        return np.zeros(0, dtype=np.int64)
    starts = np.zeros(count, dtype=bool)
    starts[0] = True
    for column in columns:
        starts[1:] |= column[1:] != column[:-1]
    first = np.flatnonzero(starts)
    return np.arange(count) - np.repeat(first, np.diff(np.r_[first, count]))


def quotas(shares: NDArray[np.float64], count: int, seed: int, epoch: int) -> Integers:
    """How many of the `count` places of `epoch` each cell gets: (cells,), summing to `count`.

    Systematic sampling (Madow, 1949): every quota is its exact share rounded up or down. The start moves by the golden ratio from epoch to epoch,
    so a cell whose share is a tenth of a sample gets one in about every tenth epoch.
    """
    ends = np.rint(np.cumsum(shares) / shares.sum() * count * ONE).astype(np.int64)
    ends[-1] = count * ONE
    start = (int(_hash(seed, 4)[0] >> np.uint64(44)) + epoch * round(0.6180339887498949 * ONE)) % ONE
    return np.diff((ends + start) // ONE, prepend=0)


def draw(cells: Integers, shares: NDArray[np.float64], seed: int, epoch: int) -> tuple[Integers, Integers]:
    """The samples of `epoch` under a mixture, each as often as it is drawn, and the how-manieth time in this epoch each draw is; both (samples,).

    Cell c deals its samples without end: round k is a shuffle of all of them. `epoch` takes as many as the cell's quota, from where the epochs
    before it stopped.
    """
    count = len(cells)
    sizes = np.bincount(cells, minlength=len(shares))
    before = sum((quotas(shares, count, seed, e) for e in range(epoch)), np.zeros(len(shares), dtype=np.int64))
    after = before + quotas(shares, count, seed, epoch)
    full = np.maximum(sizes, 1)
    first_round, rounds = before // full, np.where(after > before, (after - 1) // full - before // full + 1, 0)

    # every sample of every round that the epoch touches, in the order in which the cell deals them
    times = rounds[cells]
    samples = np.repeat(np.arange(count, dtype=np.int64), times)
    cell = cells[samples]
    round_of = first_round[cell] + _place_in_run(samples)
    dealt = np.lexsort((_hash(seed, 2, round_of, samples), round_of, cell))
    samples, cell, round_of = samples[dealt], cell[dealt], round_of[dealt]
    place = round_of * full[cell] + _place_in_run(cell, round_of)
    drawn = (place >= before[cell]) & (place < after[cell])
    samples = samples[drawn]
    by_sample = np.argsort(samples, kind="stable")  # rounds stay in their order
    samples = samples[by_sample]
    return samples, _place_in_run(samples)


def batches(
    order: Order,
    size: int,
    position: int = 0,
    lengths: Integers | None = None,
    tokens: int | None = None,
    window: int = 0,
) -> Iterator[Integers]:
    """Global batches of samples from `position` on, without end; the position after a batch is the position before it plus its length.

    `size`: texts a batch. With `tokens`, a batch takes texts as long as (texts × longest) stays within `tokens` instead. With `window`, every
    `window` texts of the order are sorted by length (an image's neighbouring texts together), cut into batches, and the batches shuffled; a
    batch then ends with its window. `lengths`: (samples,), in tokens; needed for both. Raises ValueError for a position that is not where one of
    these batches ends.
    """
    if not window:
        samples = order.stream(position)
        if tokens is None:
            while True:
                yield np.fromiter(islice(samples, size), dtype=np.int64, count=size)
        assert lengths is not None
        yield from _within_budget(samples, lengths, tokens)
    assert lengths is not None
    if tokens is None:
        window = -(-window // size) * size
    number, done = divmod(position, window)
    samples = order.stream(number * window)
    while True:
        texts = np.fromiter(islice(samples, window), dtype=np.int64, count=window)
        for batch in shuffled_by_length(texts, order.images, lengths, order.seed, number, size, tokens):
            if done >= len(batch):
                done -= len(batch)
            elif done:
                raise ValueError(
                    f"Position {position} is within a batch: it is of a run with other batches (--batch-size, --batch-tokens, --length-window)."
                )
            else:
                yield batch
        number += 1


def _within_budget(samples: Iterator[int], lengths: Integers, tokens: int) -> Iterator[Integers]:
    batch: list[int] = []
    longest = 0
    for sample in samples:
        length = int(lengths[sample])
        if batch and (len(batch) + 1) * max(longest, length) > tokens:
            yield np.array(batch, dtype=np.int64)
            batch, longest = [], 0
        batch.append(sample)
        longest = max(longest, length)
    if batch:
        yield np.array(batch, dtype=np.int64)


def shuffled_by_length(
    texts: Integers, images: Integers, lengths: Integers, seed: int, number: int, size: int, tokens: int | None
) -> list[Integers]:
    """The batches of window `number` of the order, whose samples are `texts`: of like length, in a shuffled order."""
    starts = np.r_[True, images[texts[1:]] != images[texts[:-1]]]
    unit = np.cumsum(starts) - 1  # neighbouring texts of one image
    longest = np.maximum.reduceat(lengths[texts], np.flatnonzero(starts))
    by_length = texts[np.lexsort((np.arange(len(texts)), unit, longest[unit]))]
    if tokens is None:
        found = [by_length[start : start + size] for start in range(0, len(by_length), size)]
    else:
        found = list(_within_budget(iter(by_length.tolist()), lengths, tokens))
    return [found[i] for i in np.argsort(_hash(seed, 5, number, np.arange(len(found))), kind="stable")]


def count_batches(
    order: Order, samples: int, size: int, lengths: Integers | None, tokens: int | None, window: int
) -> int:
    """Batches until `samples` of the order are seen."""
    if tokens is None and not window:
        return -(-samples // size)
    seen = 0
    for number, batch in enumerate(batches(order, size, 0, lengths, tokens, window), start=1):
        seen += len(batch)
        if seen >= samples:
            return number
    raise AssertionError("the order has no end")


def share(batch: Sequence[T], rank: int, world: int) -> Sequence[T]:
    """The piece of a global batch that rank `rank` of `world` takes: contiguous, disjoint, sizes differing by one at most."""
    return batch[len(batch) * rank // world : len(batch) * (rank + 1) // world]


def is_held_out(image_key: str, fraction: float) -> bool:
    """Whether an image is kept from training. `image_key`: the first 16 hexadecimal digits of its sha256, so its content decides."""
    return int(image_key[:8], 16) < fraction * 2**32
