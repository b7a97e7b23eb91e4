"""Words by language, for metrics that count them.

CIDEr, BLEU and ROUGE-L compare words, and six of our languages don't put spaces between them: Chinese is split by character; Japanese, Thai,
Khmer, Lao and Burmese by segmenters that ship their models. CIDEr changes with the segmenter, so `describe` gives names and versions for the
result. All text is brought to NFC and to lower case; punctuation is left out, as COCO's PTB tokenizer does for English.
Every other language: runs of letters, marks, digits, apostrophes and hyphens inside a word.
"""

import logging
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import metadata
from typing import Any

import regex

from pipeline.languages import Language

WORD = regex.compile(r"[\p{L}\p{M}\p{N}\u200c\u200d]+(?:['’\-\u05f3\u05f4][\p{L}\p{M}\p{N}\u200c\u200d]+)*")
HAN = regex.compile(r"\p{Han}|[^\p{Han}]+")
KEPT = regex.compile(r"[\p{L}\p{N}]")


def _characters(text: str) -> Iterator[str]:
    """Every Han character by itself; runs of anything else (numbers, Latin words) as words."""
    for piece in HAN.findall(text):
        if regex.fullmatch(r"\p{Han}", piece):
            yield piece
        else:
            yield from WORD.findall(piece)


@cache
def _sudachi() -> Any:
    from sudachipy import Dictionary, SplitMode

    return Dictionary(dict="core").tokenizer(SplitMode.A)


def _japanese(text: str) -> list[str]:
    """Sudachi's mode A (short units), which spaCy's `Japanese` and so mBLIP uses."""
    return [morpheme.surface() for morpheme in _sudachi().tokenize(text)]


def _thai(text: str) -> list[str]:
    from pythainlp.tokenize import word_tokenize

    return word_tokenize(text, engine="newmm", keep_whitespace=False)


def _khmer(text: str) -> list[str]:
    from khmercut import tokenize

    return tokenize(text)


def _lao(text: str) -> list[str]:
    from laonlp.tokenize import word_tokenize

    return word_tokenize(text)


@cache
def _burmese_engine() -> Any:
    """Once: the package's own `word_tokenize` reads its lexicon again in every call, which takes a second."""
    from burmesenlp import BurmeseNLP

    logging.getLogger("burmesenlp").setLevel(logging.WARNING)
    return BurmeseNLP()


def _burmese(text: str) -> list[str]:
    return [token.text for token in _burmese_engine().word_tokens(text)]


SEGMENTERS: dict[str, tuple[Callable[[str], Iterator[str] | list[str]], tuple[str, ...]]] = {
    "Hans": (_characters, ()),
    "Jpan": (_japanese, ("sudachipy", "sudachidict-core")),
    "Thai": (_thai, ("pythainlp",)),
    "Khmr": (_khmer, ("khmercut", "python-crfsuite")),
    "Laoo": (_lao, ("laonlp", "pythainlp")),
    "Mymr": (_burmese, ("burmesenlp",)),
}
"""By script: the function and the packages that it depends on."""

PAPER_SCRIPTS = frozenset({"Hans", "Jpan", "Thai"})
"""What mBLIP segments; words of the others are what stands between spaces there."""


def split_words(text: str, language: Language | None, splitting: str = "all") -> list[str]:
    """The words of `text`, in lower case, without punctuation. `language` None: a language outside the table, split at spaces."""
    text = unicodedata.normalize("NFC", text).lower()
    script = language.script if language else ""
    if script not in SEGMENTERS or (splitting == "paper" and script not in PAPER_SCRIPTS):
        return WORD.findall(text)
    pieces = (piece.strip() for piece in SEGMENTERS[script][0](text))
    return [piece for piece in pieces if KEPT.search(piece)]


def describe(languages: Sequence[Language | None], splitting: str = "all") -> dict[str, str]:
    """Language name → what splits it, with versions; languages split at spaces are left out."""
    used = {}
    for language in languages:
        if language is None or language.script not in SEGMENTERS:
            continue
        if splitting == "paper" and language.script not in PAPER_SCRIPTS:
            continue
        packages = SEGMENTERS[language.script][1]
        used[language.name] = ", ".join(f"{name} {metadata.version(name)}" for name in packages) or "by character"
    return used
