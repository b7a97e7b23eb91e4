"""Which of a source's examples are used: duplicates, balance by noun phrases, and images of evaluation sets.

Everything here depends on what the examples say and on a hash of their ids, never on their place in a file. What is left out is counted by reason,
and images of evaluation sets are listed in the ledger. Like a `limit`, these choices look at a source as a whole: when it grows, a
new example can take the place of an old one.

Near duplicates are captions with the same set of content words ("A man riding a wave." and "the man is riding the waves"), not captions above a
similarity: in texts of eight words one other word is often another thing ("red car", "blue car").
"""

import argparse
import hashlib
import json
import re
import sys
from array import array
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import files
from pipeline.corpus import SourceError
from pipeline.mix import ExcludeConfig
from pipeline.sources.build import content_id
from pipeline.sources.config import NounPhrases
from pipeline.sources.images import check_image
from pipeline.sources.json_stream import get, read_records

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


def shorten(source: Path, target: Path, config: NounPhrases, duplicates: str = "keep") -> tuple[int, int]:
    """Write those records of a JSON list (with the key `caption`) that the selection keeps, so that only their pictures need to be downloaded.
    Returns how many were read and kept. Raises ValueError that names the record that is wrong."""
    captions, order, says = [], array("Q"), bytearray()
    for record in _captions(source):
        captions.append(record["caption"])
        order.append(int.from_bytes(example_order(content_id(str(record.get("url")), captions[-1]))))
        says += duplicate_key([captions[-1]], duplicates) if duplicates != "keep" else b""
    hashes = np.asarray(order, dtype=np.uint64)
    chosen = np.argsort(hashes, kind="stable")
    if says:
        _, first = np.unique(np.frombuffer(bytes(says), dtype="V16")[chosen], return_index=True)
        chosen = chosen[np.sort(first)]
    chosen = chosen[select_by_noun_phrases((captions[i] for i in chosen.tolist()), hashes[chosen], config)]
    is_chosen = np.zeros(len(captions), dtype=bool)
    is_chosen[chosen] = True
    kept = [record for record, keep in zip(_captions(source), is_chosen.tolist(), strict=True) if keep]
    files.write_bytes(target, json.dumps(kept, ensure_ascii=False, indent=0).encode())
    return len(captions), len(kept)


def _captions(path: Path) -> Iterator[dict[str, Any]]:
    for record in read_records(path):
        if isinstance(record, SourceError):
            raise ValueError(f"{record.where}: {record.detail}")
        if not isinstance(get(record[1], "caption"), str):
            raise ValueError(f"{record[0]}: a record has the text `caption`.")
        yield record[1]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.sources.select",
        description="Shorten a JSON list of captions and URLs before its download.",
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--min", type=int, default=10, help="captions that a noun phrase needs (default 10)")
    parser.add_argument("--max", type=int, default=30, help="captions that a noun phrase chooses at most (default 30)")
    parser.add_argument("--duplicates", choices=("keep", "exact", "near"), default="keep")
    options = parser.parse_args(arguments)
    config = NounPhrases(min=options.min, max=options.max)
    read, kept = shorten(options.source, options.target, config, options.duplicates)
    sys.stdout.write(f"{options.target}: {kept:,} of {read:,} records\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
