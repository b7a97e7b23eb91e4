"""True and false captions, made from the captions of another source: half yes, half no.

Every caption gives a pair on its own picture: itself (yes), and the caption of another picture (no). The two are one group, so they always go to
the same languages and every language gets as many of each. The false caption is a hard one: mBLIP looked for it with CLIP, here it is the n-th
nearest text, n drawn by a hash from `ranks`. It is never a caption of the same picture (the same bytes under another name are the same
picture), never the same text as one of those, and never nearer than `max_similarity`, where it may well be true.

Near is the cosine of TF-IDF vectors of words and pairs of words (scikit-learn), which needs no model; or of a sentence embedding when the mix
names one. Neighbours are looked for in pools of at most 20,000 captions, cut by a hash of the picture, so the cost grows with the number of captions
and not with its square. The id of a false example holds a hash of its caption: when a growing source brings a nearer one, that is a
new example, and no old one changes what it says.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.corpus import Example, SourceError
from pipeline.sources.build import build_example, content_id
from pipeline.sources.config import MatchingSource

POOL = 20_000
ROWS = 256
"""Captions whose similarities to the whole pool are held at once."""

Encode = Callable[[Sequence[str]], np.ndarray]
"""Texts to embeddings, shape (texts, dimensions)."""


@dataclass(frozen=True)
class Caption:
    """A usable caption of the other source."""

    id: str
    image: str
    image_sha256: str
    text: str
    licence: str
    credit: str


def read(source: MatchingSource, captions: Sequence[Caption]) -> Iterator[Example | SourceError]:
    """Yield the pairs of the captions with the smallest hashes, up to the source's limit."""
    ordered = sorted(captions, key=lambda c: (_hash(c.id), c.id))
    chosen = {c.id for c in ordered[: None if source.limit is None else -(-source.limit // 2)]}
    encode = load_encoder(source.embedding) if source.embedding else None
    for pool in pools(ordered):
        wanted = [i for i, c in enumerate(pool) if c.id in chosen]
        for i, false in zip(wanted, hard_negatives(pool, wanted, source, encode), strict=True):
            true = pool[i]
            where, own_id = f"source {source.of}, example {true.id}", true.id.split(":", 1)[1]
            if false is None:
                detail = "the source has no caption of another picture that differs enough"
                yield SourceError(where, own_id, "no_false_caption", detail)
                continue
            for label, text in (("yes", true.text), ("no", false.text)):
                name = f"{own_id}-yes" if label == "yes" else f"{own_id}-no-{content_id(text)[:8]}"
                texts: list[tuple[str, object]] = [("caption", text), ("label", label)]
                yield build_example(
                    source, where, name, "matching", true.image, texts, true.licence, true.credit, group=own_id
                )


def pools(captions: Sequence[Caption]) -> list[list[Caption]]:
    """Cut captions into pools of about POOL at most, by a hash of the picture: captions of one picture are in one pool."""
    bits = 0
    while len(captions) >> bits > POOL:
        bits += 1
    parts: list[list[Caption]] = [[] for _ in range(1 << bits)]
    for caption in captions:
        parts[int(caption.image_sha256[:8], 16) >> (32 - bits) if bits else 0].append(caption)
    return parts


def normalise(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(" .!?")


def hard_negatives(
    pool: Sequence[Caption], wanted: Sequence[int], source: MatchingSource, encode: Encode | None = None
) -> Iterator[Caption | None]:
    """A false caption for each of the pool's captions at the positions `wanted`, or None where there is none."""
    if not wanted:
        return
    similarities = _similarities([c.text for c in pool], encode)
    own_texts: dict[str, set[str]] = {}
    for caption in pool:
        own_texts.setdefault(caption.image_sha256, set()).add(normalise(caption.text))
    tie = np.fromiter((_hash(c.text) for c in pool), dtype=np.uint64, count=len(pool))
    deepest = max(source.ranks)
    for start in range(0, len(wanted), ROWS):
        rows = wanted[start : start + ROWS]
        for i, row in zip(rows, similarities(rows), strict=True):
            caption, found, seen = pool[i], [], set(own_texts[pool[i].image_sha256])
            for j in _nearest_first(np.round(row, 4), tie, 4 * deepest + 64):
                other = pool[j]
                text = normalise(other.text)
                if row[j] <= source.max_similarity and other.image_sha256 != caption.image_sha256 and text not in seen:
                    seen.add(text)
                    found.append(other)
                    if len(found) == deepest:
                        break
            rank = source.ranks[_hash(f"rank {caption.id}") % len(source.ranks)]
            yield found[min(rank, len(found)) - 1] if found else None


def _nearest_first(row: np.ndarray, tie: np.ndarray, enough: int) -> np.ndarray:
    """Positions in `row` from most to least similar, ties by `tie`: the first `enough` and what ties with them, without sorting the rest."""
    among = np.arange(len(row))
    if len(row) > enough:
        least = np.partition(row, -enough)[-enough]
        among = np.flatnonzero(row >= least)
    return among[np.lexsort((tie[among], -row[among]))]


def _similarities(texts: Sequence[str], encode: Encode | None) -> Callable[[Sequence[int]], np.ndarray]:
    """A function from positions to cosines with all texts, shape (positions, texts)."""
    if encode is not None:
        vectors = np.asarray(encode(texts), dtype=np.float32)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return lambda rows: vectors[rows] @ vectors.T
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        matrix = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32).fit_transform(texts).tocsr()
    except ValueError:  # no text has a word of two letters
        return lambda rows: np.zeros((len(rows), len(texts)), dtype=np.float32)
    transposed = matrix.T.tocsr()
    return lambda rows: (matrix[rows] @ transposed).toarray()


def load_encoder(model: str) -> Encode:
    """A sentence-transformers model as a function. Raises ValueError that says how to install it."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ValueError(
            f"The mix names the embedding {model}, which needs sentence-transformers: pip install 'polyalign[embedding]', "
            "or leave `embedding` out to compare words."
        ) from error
    loaded = SentenceTransformer(model)
    return lambda texts: np.asarray(loaded.encode(list(texts), show_progress_bar=False))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
