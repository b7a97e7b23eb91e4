"""What was learnt from real translations: `learnt.json`, made by `python -m pipeline.quality.learn`.

Numbers by language and by identifier, no texts. The file names the sources and licences of the texts that they were counted in.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import files

PATH = Path(__file__).with_name("learnt.json")

LENGTHS = (2, 4, 8, 16)
"""Borders of the classes of length, in English words: 1, 2–3, 4–7, 8–15, 16 and more."""
LENGTH_NAMES = ("1", "2–3", "4–7", "8–15", "16+")


class LengthFactor(NamedTuple):
    """Of the logarithm of (characters of a good text + 5) / (characters of its source + 5): the mean, and the two parts of the standard
    deviation (`length.spread`)."""

    mean: float
    base: float
    short: float


COMMON_FACTOR = LengthFactor(0.05, 0.2, 1.2)
"""For a language that nothing was learnt of."""


class Learnt(NamedTuple):
    """`lengths` and `final_kept` (share of good texts that end with a sentence's final mark where their source does) by language.

    `votes`: by identifier, then language ("*" is any language), the share of its probability that each label gets on good text of the language.
    `lost`: by language, the share of good text that the landed policy loses in each class of length, None where there was too little text.
    `told_apart`: by language, then neighbour, the share of good texts of 8 words or more that are likelier the language than the neighbour.
    """

    lengths: dict[str, LengthFactor]
    final_kept: dict[str, float]
    votes: dict[str, dict[str, dict[str, float]]]
    lost: dict[str, list[float | None]]
    told_apart: dict[str, dict[str, float]]

    def length_factor(self, language: str) -> LengthFactor:
        return self.lengths.get(language, COMMON_FACTOR)


NOTHING = Learnt({}, {}, {}, {}, {})


def from_json(content: dict[str, Any]) -> Learnt:
    return Learnt(
        {code: LengthFactor(*values) for code, values in content["lengths"].items()},
        content["final_kept"],
        content["votes"],
        content["lost"],
        content["told_apart"],
    )


@cache
def read_learnt(path: Path = PATH) -> Learnt:
    return from_json(files.read_json(path))


@cache
def fingerprint(path: Path = PATH) -> str:
    return files.sha256_file(path)
