"""Which of a source's examples are used: duplicates, balance by noun phrases, and images of evaluation sets.

Everything here depends on what the examples say and on a hash of their ids, never on their place in a file. What is left out is counted by reason,
and images of evaluation sets are listed in the ledger. Like a `limit`, these choices look at a source as a whole: when it grows, a
new example can take the place of an old one.

Near duplicates are captions with the same set of content words ("A man riding a wave." and "the man is riding the waves"), not captions above a
similarity: in texts of eight words one other word is often another thing ("red car", "blue car").
"""

import hashlib
import re
from array import array
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

from pipeline.mix import ExcludeConfig
from pipeline.sources.config import NounPhrases
from pipeline.sources.images import check_image, look_of

__all__ = ["Exclusion", "duplicate_key", "look_of", "noun_phrases", "select_by_noun_phrases"]

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
DROPPED_TAGS = frozenset({"DT", "PDT", "WDT", "PRP", "PRP$", "WP", "WP$", "EX"})
"""Determiners and pronouns (Penn tags): no part of what a phrase names."""


def example_order(example_id: str) -> bytes:
    """The order in which examples are chosen: by a hash of the id, so that it does not depend on the order of the file."""
    return hashlib.blake2b(example_id.encode(), digest_size=8).digest()


@cache
def _stop_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    # what a caption says about number, place and denial is content
    return frozenset(ENGLISH_STOP_WORDS) - {
        *(
            "no",
            "not",
            "without",
            "none",
            "nobody",
            "empty",
            "full",
            "front",
            "back",
            "top",
            "bottom",
            "side",
            "two",
            "three",
            "four",
        ),
        *(
            "five",
            "six",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "fifteen",
            "twenty",
            "forty",
            "fifty",
            "sixty",
            "hundred",
            "one",
        ),
        *(
            "above",
            "below",
            "under",
            "over",
            "behind",
            "inside",
            "outside",
            "between",
            "up",
            "down",
            "off",
            "on",
            "in",
            "out",
            "fire",
            "bill",
        ),
    }


def _content_word(word: str) -> str:
    """The word without a plural's ending, as far as spelling tells: glasses and glass, waves and wave."""
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return word


def duplicate_key(texts: Iterable[str], kind: str) -> bytes:
    """16 bytes that are equal for texts that say the same: `exact` ignores case, spaces and punctuation, `near` compares sets of content
    words."""
    parts = []
    for text in texts:
        words = WORD.findall(text.lower())
        if kind == "near":
            words = sorted({_content_word(w) for w in words if w not in _stop_words()}) or words
        parts.append(" ".join(words) or text.strip())
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).digest()


def noun_phrases(caption: str) -> list[str]:
    """The noun phrases of an English caption, in lower case and without articles and pronouns, each once, by TextBlob's rule-based tagger and
    chunker, whose lexicon ships in the package: `a wooden chair in the old house` has `wooden chair` and `old house`."""
    from textblob.en import parse

    found: dict[str, None] = {}
    phrase: list[str] = []
    for token in [*parse(caption).replace("\n", " ").split(" "), "//O/O"]:
        word, tag, chunk = [*token.split("/"), "", "O"][:3]
        if chunk != "I-NP" and phrase:
            found[" ".join(phrase)] = None
            phrase = []
        if chunk.endswith("-NP") and tag not in DROPPED_TAGS and WORD.fullmatch(word):
            phrase.append(word.lower())
    return list(found)


def select_by_noun_phrases(captions: Iterable[str], order: np.ndarray, config: NounPhrases) -> np.ndarray:
    """Which captions are kept, shape (captions,), bool: of each phrase that at least `min` captions have, the `max` that are first in `order`,
    the hashes of their ids, shape (captions,), uint64. (mBLIP drew them at random: its `data/pretrain/filter.py`.)"""
    numbers: dict[str, int] = {}
    phrase_of, caption_of = array("q"), array("q")
    for i, caption in enumerate(captions):
        for phrase in noun_phrases(caption):
            phrase_of.append(numbers.setdefault(phrase, len(numbers)))
            caption_of.append(i)
    phrases, owners = np.asarray(phrase_of, dtype=np.int64), np.asarray(caption_of, dtype=np.int64)
    place = np.lexsort((owners, order[owners], phrases)) if len(owners) else owners
    phrases, owners = phrases[place], owners[place]
    counts = np.bincount(phrases, minlength=1)
    rank = np.arange(len(phrases)) - (np.cumsum(counts) - counts)[phrases]
    kept = np.zeros(len(order), dtype=bool)
    kept[owners[(counts[phrases] >= config.min) & (rank < config.max)]] = True
    return kept


class Exclusion:
    """Images of evaluation sets, by name and by look. Raises ValueError that names a file that is not there."""

    def __init__(self, config: ExcludeConfig) -> None:
        self.names: dict[str, str] = {}
        for path in config.ids:
            if not path.is_file():
                raise ValueError(f"exclude.ids: there is no file {path}.")
            for line in path.read_text(encoding="utf-8").splitlines():
                if name := line.partition("#")[0].strip():
                    self.names[name] = path.name
        self.distance = config.distance
        self._places: list[str] = []
        looks = []
        for folder in config.images:
            if not folder.is_dir():
                raise ValueError(f"exclude.images: there is no folder {folder}.")
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                facts = check_image(folder, path.relative_to(folder).as_posix(), with_look=True)
                if not isinstance(facts, tuple):
                    looks.append(facts.look)
                    self._places.append(f"{folder.name}/{path.relative_to(folder).as_posix()}")
        self._looks = np.asarray(looks, dtype=np.uint64)

    @property
    def needs_looks(self) -> bool:
        return bool(len(self._looks))

    def by_name(self, image: str) -> str | None:
        """Why an image is excluded by its name, or None."""
        for name in _names_of(image):
            if name in self.names:
                return f"{name} is in {self.names[name]}"
        return None

    def by_look(self, look: int) -> str | None:
        """Why an image is excluded by its look, or None."""
        if not len(self._looks):
            return None
        distances = np.bitwise_count(self._looks ^ np.uint64(look))
        nearest = int(np.argmin(distances))
        if distances[nearest] > self.distance:
            return None
        return f"it looks like {self._places[nearest]} ({int(distances[nearest])} of 64 bits differ)"


COCO_NAME = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d{12})$")


def _names_of(image: str) -> Iterator[str]:
    path = Path(image)
    yield from dict.fromkeys((image, path.name, path.stem))
    if match := COCO_NAME.fullmatch(path.stem):
        yield f"coco:{int(match[1])}"
