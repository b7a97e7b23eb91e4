"""Plants faults of known kinds in good translations, for `benchmarks/quality.py`."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import regex

from pipeline.languages import BY_NLLB, LANGUAGES
from pipeline.quality.lid import Identifier

MARKUP = ("</s>", "<unk>", "<pad>", "&nbsp;", "<b>", "{0}", "[MASK]", "<|im_end|>", "%s", "__label__fr", "▁", "&#39;")
DIGITS = regex.compile(r"\p{Nd}+")
FINAL_MARKS = ".。։।۔"
UNSPACED = frozenset({"Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr"})
FAULTS = {
    "english_copy": "English copy",
    "other_language": "another language, outside the group",
    "same_script": "… of the same script",
    "confusable": "a confusable language",
    "wrong_script": "wrong script",
    "loop": "repetition loop",
    "cut": "sentence cut",
    "numbers": "numbers changed",
    "markup": "markup leaked",
    "swapped": "two rows swapped",
    "empty": "empty",
}
"""Method of Planter, and what it is called in tables."""


HABITS: dict[str, Callable[[str, str], tuple[str, str]]] = {
    "as written": lambda english, text: (english, text),
    "without the final mark": lambda english, text: (english, text.rstrip(FINAL_MARKS)),
    "in lower case, without the final mark": lambda english, text: (english.lower(), text.lower().rstrip(FINAL_MARKS)),
    "in capitals": lambda english, text: (english.upper(), text.upper()),
    "English in Title Case": lambda english, text: (english.title(), text),
}
"""Ways in which people write captions: what they make of an English caption and its translation."""


class Planter:
    """Makes bad texts of good ones. Every choice is drawn from a generator seeded with the fault's name."""

    def __init__(self, pairs: pa.Table, identifier: Identifier) -> None:
        self.english, self.languages, self.texts = (pairs[x].to_pylist() for x in ("english", "language", "text"))
        contracts = identifier.resolve([x.nllb for x in LANGUAGES])
        self.groups = {code: set(c.accepted) for code, c in contracts.items()}
        self.same: dict[str, list[int]] = {}
        self.of_language: dict[str, list[int]] = {}
        for row, (english, language) in enumerate(zip(self.english, self.languages, strict=True)):
            self.same.setdefault(english, []).append(row)
            self.of_language.setdefault(language, []).append(row)

    def plant(self, fault: str) -> list[str | None]:
        """The texts with the fault; None where it can't be planted."""
        random = np.random.default_rng(list(fault.encode()))
        make: Callable[[int, np.random.Generator], str | None] = getattr(self, fault)
        return [make(row, random) for row in range(len(self.texts))]

    def _other(self, row: int, random: np.random.Generator, fits: Callable[[str], bool]) -> str | None:
        """The same English in a language that fits; or, where that is in none, any text of one."""
        rows = [r for r in self.same[self.english[row]] if fits(self.languages[r])]
        if not rows:
            codes = [code for code in self.of_language if fits(code)]
            if not codes:
                return None
            rows = self.of_language[codes[random.integers(len(codes))]]
        return self.texts[rows[random.integers(len(rows))]]

    def english_copy(self, row: int, random: np.random.Generator) -> str | None:
        return self.english[row]

    def other_language(self, row: int, random: np.random.Generator) -> str | None:
        return self._other(row, random, lambda code: code not in self.groups[self.languages[row]])

    def same_script(self, row: int, random: np.random.Generator) -> str | None:
        """Another language outside the group, but in the same script."""
        script, group = BY_NLLB[self.languages[row]].script, self.groups[self.languages[row]]
        return self._other(row, random, lambda code: code not in group and BY_NLLB[code].script == script)

    def confusable(self, row: int, random: np.random.Generator) -> str | None:
        own = self.languages[row]
        return self._other(row, random, lambda code: code in self.groups[own] and code != own)

    def wrong_script(self, row: int, random: np.random.Generator) -> str | None:
        script = BY_NLLB[self.languages[row]].script
        east = {"Hans", "Jpan", "Hang"}  # these share characters
        return self._other(
            row, random, lambda code: BY_NLLB[code].script != script and not {script, BY_NLLB[code].script} <= east
        )

    def loop(self, row: int, random: np.random.Generator) -> str | None:
        """A run of one to four words (two to eight characters where words have no spaces) comes four to eight times."""
        text = self.texts[row]
        is_spaced = BY_NLLB[self.languages[row]].script not in UNSPACED and " " in text
        parts = text.split() if is_spaced else list(text)
        size = int(random.integers(1, 5)) if is_spaced else int(random.integers(2, 9))
        start = int(random.integers(max(len(parts) - size, 0) + 1))
        unit = parts[start : start + size]
        if not any(c.isalpha() for part in unit for c in part):
            return None
        return (" " if is_spaced else "").join(parts[:start] + unit * int(random.integers(4, 9)))

    def cut(self, row: int, random: np.random.Generator) -> str | None:
        """30 to 60 % of the text is left."""
        text = self.texts[row]
        end = int(len(text) * random.uniform(0.3, 0.6))
        return text[:end].rstrip() if end >= 2 else None

    def numbers(self, row: int, random: np.random.Generator) -> str | None:
        """One number becomes another."""
        found = [m for m in DIGITS.finditer(self.texts[row])]
        if not found or not DIGITS.search(self.english[row]):
            return None
        match = found[random.integers(len(found))]
        first = match[0][0]
        zero = ord(first) - int(first)
        changed = chr(zero + (int(first) + int(random.integers(1, 9))) % 9 + 1) + match[0][1:]
        return (
            None if changed == match[0] else self.texts[row][: match.start()] + changed + self.texts[row][match.end() :]
        )

    def markup(self, row: int, random: np.random.Generator) -> str | None:
        words = self.texts[row].split(" ")
        words.insert(int(random.integers(len(words) + 1)), MARKUP[random.integers(len(MARKUP))])
        return " ".join(words)

    def swapped(self, row: int, random: np.random.Generator) -> str | None:
        """The text of another row of the language."""
        rows = self.of_language[self.languages[row]]
        other = rows[random.integers(len(rows))]
        return self.texts[other] if self.texts[other] != self.texts[row] else None

    def empty(self, row: int, random: np.random.Generator) -> str | None:
        return ""
