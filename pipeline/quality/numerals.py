"""Numbers and option letters that the source has and the text has not.

Digits of every script are compared by value, without separators: "1,000", "1.000" and "१०००" are one number. A translator may rightly write a number
as a word, so a number that is merely gone is told apart from one that another number stands in for. Nor is a number that a translator rightly
writes otherwise a changed one: "two dogs" and 2 Hunde, "5 pm" and 17 Uhr, "the 1950s" and 50er Jahre, "10,000" and 1万, "12/25/2020" and 25.12.2020.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc
import regex

from pipeline.quality.characters import Column, flat

NUMBER = regex.compile(r"\p{Nd}+(?:[.,٫٬'’\u00A0\u202F]\p{Nd}+)*")
SPACED = regex.compile(r"\p{Nd}{1,3}(?:[ \u00A0\u202F]\p{Nd}{3})+(?!\p{Nd})|" + NUMBER.pattern)
DIGITS = regex.compile(r"\p{Nd}+")
READINGS = (NUMBER, SPACED, DIGITS)
"""What one number is, is not always clear: a comma, a point or a space can group digits or part two numbers. Both sides are read in each
way, and the reading under which least has changed is taken."""
SCALES = {
    "thousand": 10**3, "k": 10**3, "million": 10**6, "billion": 10**9,
    "百": 10**2, "千": 10**3, "천": 10**3, "万": 10**4, "萬": 10**4, "만": 10**4, "億": 10**8, "亿": 10**8, "억": 10**8,
}  # fmt: skip
SCALED = regex.compile(rf"(\p{{Nd}}+)(?:[.,](\p{{Nd}}+))?\s?({'|'.join(SCALES)})", regex.IGNORECASE)
UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
WORDS = {
    **{word: value for value, word in enumerate(UNITS.split())},
    **{word: 10 * value for value, word in enumerate(TENS.split(), start=2)},
    **{word: value for value, word in enumerate(ORDINALS.split(), start=1)},
    **{"hundred": 100, "thousand": 1000, "dozen": 12, "pair": 2, "couple": 2, "both": 2, "double": 2, "twice": 2, "half": 2},
}  # fmt: skip
"""English words for numbers, which a translator may write in digits."""
NUMBER_WORD = regex.compile(rf"\b(?:({TENS.replace(' ', '|')})[- ])?({'|'.join(WORDS)})s?\b", regex.IGNORECASE)
AFTERNOON = regex.compile(r"\b(\d{1,2})(?::\d\d)?\s?p\.?m\b", regex.IGNORECASE)
DECADE = regex.compile(r"\b(\d\d)?(\d0)['’]?s\b")
OPTION = regex.compile(r"(?:(?<=\s)|^)\(?([A-H])[.):](?=\s)")
LONGEST_JUDGED = 20_000
"""Characters of a text that are searched for numbers."""


def _plain(digits: str) -> str:
    """A number without separators and leading zeros, in ASCII digits."""
    return "".join(str(unicodedata.decimal(c)) for c in digits if c.isdecimal()).lstrip("0") or "0"


def _counted(reading: "regex.Pattern[str]", text: str) -> Counter[str]:
    return Counter(map(_plain, reading.findall(text)))


def _scaled(text: str) -> Iterator[tuple[str, str]]:
    """Numbers with a word or character that multiplies them, without it and with it: 1.5 million is 15 and 1500000."""
    for whole, fraction, scale in SCALED.findall(text):
        value = int(_plain(whole + fraction)) * SCALES[scale.lower()] // 10 ** len(fraction)
        yield _plain(whole + fraction), str(value)


def _otherwise(source: str) -> Iterator[str]:
    """Numbers that a translator may write for what the source says otherwise."""
    for tens, word in NUMBER_WORD.findall(source):
        value = WORDS[word.lower()]
        yield str(value)
        if tens:
            yield str(WORDS[tens.lower()] + value)
    for hour in AFTERNOON.findall(source):
        yield str(int(hour) % 12 + 12)
    for century, decade in DECADE.findall(source):
        yield decade
        if century:
            yield str(int(century) + 1)


def numbers_kept(sources: Column, texts: Column) -> tuple[np.ndarray, np.ndarray]:
    """Two numbers a row. Lost: share of the source's numbers that are not in the text, 0 to 1, 0 where the source has none. Changed: share of the
    source's numbers that are not in the text although other numbers are there instead, which the source does not say in another way."""
    source, text = flat(sources), flat(texts)
    lost, changed = np.zeros(len(source)), np.zeros(len(source))
    for row in np.flatnonzero(np.asarray(pc.match_substring_regex(source, r"\p{Nd}"))).tolist():
        lost[row], changed[row] = _kept(source[row].as_py()[:LONGEST_JUDGED], text[row].as_py()[:LONGEST_JUDGED])
    return lost, changed


def _kept(source: str, text: str) -> tuple[float, float]:
    """Lost and changed share, under the reading that is kindest."""
    found = []
    for reading in READINGS:
        wanted, given = _counted(reading, source), _counted(reading, text)
        missing, new = wanted - given, given - wanted
        if missing and new:
            _take_off_scaled(missing, new, source, text)
            new -= Counter(_otherwise(source))
        total = max(wanted.total(), 1)
        found.append((min(missing.total(), new.total()) / total, missing.total() / total))
        if not missing:
            break
    least_changed, least_lost = min(found)
    return least_lost, least_changed


def _take_off_scaled(missing: Counter[str], new: Counter[str], source: str, text: str) -> None:
    """Take numbers off both that are one and the same when their scale is counted in: 10000 and 1万, 1.5 million and 150万."""
    of_source, of_text = dict(_scaled(source)), dict(_scaled(text))
    for number in list(missing):
        values = {number, of_source.get(number, number)}
        for other in list(new):
            if values & {other, of_text.get(other, other)}:
                taken = min(missing[number], new[other])
                missing[number] -= taken
                new[other] -= taken


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
