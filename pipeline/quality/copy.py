"""Source copy: how much of the English came back untranslated. `score.py` gives it both sides without names."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.quality.characters import Column, column, flat

BETWEEN_WORDS = r"[^\p{L}\p{M}]+"
"""Words are runs of letters and their marks; numbers and punctuation are rightly copied."""


def _words(texts: Column) -> tuple[np.ndarray, pa.Array]:
    """The rows that words stand in, and the words, lower case."""
    parts = pc.split_pattern_regex(pc.utf8_lower(flat(texts)), BETWEEN_WORDS)
    rows, words = pc.list_parent_indices(parts), pc.list_flatten(parts)
    is_word = pc.not_equal(words, "")
    return np.asarray(rows.filter(is_word)), words.filter(is_word)


def source_copies(sources: Column, texts: Column) -> np.ndarray:
    """Share of each source's words (each distinct one counted once) that stand in its text too, 0 to 1; 0 where the source has no words.

    Names and loanwords are copied by good translators, so a policy should ask for several words before it looks at this.
    """
    rows, words = _words(sources)
    text_rows, text_words = _words(texts)
    codes = np.asarray(pa.concat_arrays([words, text_words]).dictionary_encode().indices, dtype=np.int64)
    spread = int(codes.max(initial=0)) + 1
    wanted = np.unique(rows * spread + codes[: len(rows)])
    found = np.isin(wanted, text_rows * spread + codes[len(rows) :])
    total = np.bincount(wanted // spread, minlength=len(sources))
    return np.bincount(wanted // spread, weights=found, minlength=len(sources)) / np.maximum(total, 1)


def source_copy(source: str, text: str) -> float:
    """`source_copies` of one pair."""
    return float(source_copies(column([source]), column([text]))[0])
