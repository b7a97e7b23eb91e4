"""Leaked markup: special tokens, tags, entities and placeholders that stand in the text and not in its source, and characters that were lost."""

import numpy as np
import pyarrow.compute as pc

from pipeline.quality.characters import Column, flat

MARKUP = (
    r"</?[A-Za-z_|][A-Za-z0-9_|:-]{0,30}(\s[^<>]{0,200})?/?>"  # <unk> </s> <pad> <image> <|im_end|> <b class="x">
    r"|\[(MASK|CLS|SEP|UNK|PAD|INST|/INST)\]"
    r"|__label__\w+|\b[a-z]{3}_(Latn|Cyrl|Arab|Deva|Hans|Hant|Jpan|Hang|Beng|Grek|Hebr|Ethi|Thai|Geor|Armn|Telu|Taml)\b"
    r"|&(amp|lt|gt|quot|nbsp|apos|#\d{1,7}|#x[0-9A-Fa-f]{1,6});"
    r"|\{\{?\w{0,30}\}?\}|%\(?\w{0,20}\)?[sd]\b|\$\{\w+\}"
    r"|▁|##[a-z]{2,}|https?://|```|\*\*|\\[nt]\b|\\u[0-9a-fA-F]{4}"
)
"""RE2 syntax, which Arrow searches with, and Python's at once."""
LOST = "\ufffd|⁇|<unk>|\\[UNK\\]"


def _count(texts: Column, pattern: str) -> np.ndarray:
    return np.asarray(pc.count_substring_regex(flat(texts), pattern), dtype=np.float64)


def markup_leaked(sources: Column, texts: Column) -> np.ndarray:
    """How many pieces of markup or special tokens each text has beyond those that its source has, 0 or more."""
    found = _count(texts, MARKUP)
    rows = np.flatnonzero(found)
    if len(rows):
        found[rows] = np.maximum(found[rows] - _count(flat(sources).take(rows), MARKUP), 0)
    return found


def unknown_characters(texts: Column) -> np.ndarray:
    """How many marks of a character that the model could not write stand in each text: <unk>, ⁇ or U+FFFD."""
    return _count(texts, LOST)
