"""Numbers and option letters that the source has and the text has not.

Digits of every script are compared by value, without separators: "1,000", "1.000" and "१०००" are one number. A translator may rightly write a number
as a word, so a number that is merely gone is told apart from one that another number stands in for.
"""

import unicodedata
from collections import Counter

import numpy as np
import pyarrow.compute as pc
import regex

from pipeline.quality.characters import Column, flat

NUMBER = regex.compile(r"\p{Nd}+(?:[.,٫٬'’\u00A0\u202F]\p{Nd}+)*")
OPTION = regex.compile(r"(?:(?<=\s)|^)\(?([A-H])[.):](?=\s)")
LONGEST_JUDGED = 20_000
"""Characters of a text that are searched for numbers."""


def _numbers(text: str) -> Counter[str]:
    found = NUMBER.findall(text[:LONGEST_JUDGED])
    return Counter(
        "".join(str(unicodedata.decimal(c)) for c in number if c.isdecimal()).lstrip("0") or "0" for number in found
    )


def numbers_kept(sources: Column, texts: Column) -> tuple[np.ndarray, np.ndarray]:
    """Two numbers a row. Lost: share of the source's numbers that are not in the text, 0 to 1, 0 where the source has none. Changed: share of the
    source's numbers that are not in the text although other numbers are there instead."""
    source, text = flat(sources), flat(texts)
    lost, changed = np.zeros(len(source)), np.zeros(len(source))
    for row in np.flatnonzero(np.asarray(pc.match_substring_regex(source, r"\p{Nd}"))).tolist():
        wanted, found = _numbers(source[row].as_py()), _numbers(text[row].as_py())
        missing, new = (wanted - found).total(), (found - wanted).total()
        lost[row] = missing / max(wanted.total(), 1)
        changed[row] = min(missing, new) / max(wanted.total(), 1)
    return lost, changed


def options_lost(sources: Column, texts: Column) -> np.ndarray:
    """Share of the option letters of each source ("A. red B. blue", "(A)") that are not in its text, 0 to 1; 0 where the source offers no
    options. A source offers some when it has both A and B."""
    source, text = flat(sources), flat(texts)
    result = np.zeros(len(source))
    for row in np.flatnonzero(np.asarray(pc.match_substring_regex(source, r"(^|\s)\(?A[.):]\s"))).tolist():
        wanted = set(OPTION.findall(source[row].as_py()))
        if {"A", "B"} <= wanted:
            result[row] = len(wanted - set(OPTION.findall(text[row].as_py()))) / len(wanted)
    return result
