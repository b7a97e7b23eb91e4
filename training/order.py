"""Who sees which sample when: pure functions of (seed, epoch, the manifest's rows). Nothing is read and nothing is kept.

Training walks through one endless global order, epoch after epoch. Position p of it is sample `p % n` of the order of epoch `p // n`, so the
state of the data is the integer p: a run resumes at the exact next sample, also in the middle of an epoch or of a batch that spans two.
Several texts of one image stand side by side (in groups of `texts_per_image`), so that a batch encodes each image once.

With several processes, a step takes one global batch and rank r of w its r-th contiguous piece: the pieces are disjoint, together they are
the batch whatever w is, and an image's texts stay on one rank. The shuffle is a hash (splitmix64), not a library's generator, whose stream
may change with its version.
"""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's output function (Steele, Lea and Flood, 2014): a bijection on 64-bit integers whose output looks random."""
    with np.errstate(over="ignore"):
        z = values + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _hash(*columns: NDArray[np.int64] | int) -> NDArray[np.uint64]:
    """One hash for each row of the columns; integers are constant columns."""
    state = np.zeros(1, dtype=np.uint64)
    for column in columns:
        state = mix(state ^ mix(np.atleast_1d(np.asarray(column)).astype(np.uint64)))
    return state


def epoch_order(images: NDArray[np.int64], seed: int, epoch: int, texts_per_image: int) -> NDArray[np.int64]:
    """The order in which `epoch` visits the samples.

    `images`: (samples,), a number for the image of each sample. Returns a permutation of `range(samples)`, shape (samples,), in which an
    image's texts stand in groups of at most `texts_per_image`, groups and the texts in them shuffled anew in each epoch.
    """
    samples = np.arange(len(images), dtype=np.int64)
    by_image = np.lexsort((_hash(seed, epoch, 0, samples), images))
    # the how-manieth text of its image each sample is, in this epoch's shuffle of the image's texts
    sorted_images = images[by_image]
    first = np.flatnonzero(np.r_[True, sorted_images[1:] != sorted_images[:-1]]) if len(images) else samples
    rank = samples - np.repeat(first, np.diff(np.r_[first, len(images)]))
    group = rank // texts_per_image
    return by_image[np.lexsort((rank, sorted_images, _hash(seed, epoch, 1, sorted_images, group)))]


def stream(images: NDArray[np.int64], seed: int, texts_per_image: int, position: int = 0) -> Iterator[int]:
    """Samples of the global order from `position` on, without end. `images` as in `epoch_order`, with at least one sample."""
    while True:
        epoch, offset = divmod(position, len(images))
        for sample in epoch_order(images, seed, epoch, texts_per_image)[offset:]:
            yield int(sample)
        position += len(images) - offset


def share(batch: Sequence[T], rank: int, world: int) -> Sequence[T]:
    """The piece of a global batch that rank `rank` of `world` takes: contiguous, disjoint, sizes differing by one at most."""
    return batch[len(batch) * rank // world : len(batch) * (rank + 1) // world]


def is_held_out(image_key: str, fraction: float) -> bool:
    """Whether an image is kept from training. `image_key`: the first 16 hexadecimal digits of its sha256, so its content decides."""
    return int(image_key[:8], 16) < fraction * 2**32
