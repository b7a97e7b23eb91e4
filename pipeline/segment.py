"""Text <-> sentences for the translator, rejoined exactly.

NLLB was trained on single sentences: given several at once it loses clauses, and it does not carry markup through. So a text is cut into pieces,
some of which are sentences to translate and the rest are kept as they are: line breaks, spaces between sentences, list markers, option letters
("A. red B. blue"), `<image>`-like tags, URLs, inline code, and anything without a letter. The pieces joined are always the text, whatever it is;
replace the sentences by their translations, join, and the text is translated.

Sentences are found by pysbd, which is rule-based, MIT-licensed and needs no model. Where it does not return the text unchanged (it normalises some
characters), the span stays one sentence. Its time grows with the square of the length, so a span of more than a few thousand characters is first cut
at a sentence's end.
"""

import re
import threading
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pysbd

VERSION = 2

LONGEST_AT_ONCE = 2000
"""Characters from which on a span is cut at the next plain end of a sentence before pysbd sees it."""


class Piece(NamedTuple):
    text: str
    is_sentence: bool


KEPT = re.compile(
    r"""
      \s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]\s*                  # line breaks with the white space around them
    | ```.*?```|`[^`\n]+`                                        # code
    | </?[A-Za-z][\w-]{0,30}\s*/?>                               # tags such as <image>
    | https?://\S*[\w/]|www\.\S*[\w/]                            # URLs, without the full stop that ends the sentence
    | (?:(?<=\n)|^)[ \t]*(?:[-*•‣–]|\#{1,6}|\(?\d{1,3}[.):]|\(?[A-Za-z][.)])[ \t]+   # list markers at the start of a line
    """,
    re.VERBOSE | re.DOTALL,
)
OPTION = re.compile(r"(?:(?<=\s)|^)\(?([A-H])[.):]\s+")
LETTER = re.compile(r"[^\W\d_]")
SENTENCE_END = re.compile(r"[.!?…。！？։؟۔।]+[\"'”’»)\]]*\s")

PLAIN_END = re.compile(r"[.!?…]+[\"'”’»)\]]*\s+(?=[A-Z])")


class _Splitter(threading.local):
    """pysbd keeps state between its steps, so each thread has its own."""

    def __init__(self) -> None:
        self.segmenter = pysbd.Segmenter(language="en", clean=False)


_splitter = _Splitter()


def segment(text: str) -> list[Piece]:
    """Cut `text` into pieces; "".join(piece.text) == text."""
    pieces: list[Piece] = []
    position = 0
    for kept in _kept_spans(text):
        pieces += _sentences(text[position : kept[0]])
        pieces.append(Piece(text[kept[0] : kept[1]], False))
        position = kept[1]
    pieces += _sentences(text[position:])
    return pieces


def _kept_spans(text: str) -> Iterator[tuple[int, int]]:
    spans = [m.span() for m in KEPT.finditer(text)]
    options = list(OPTION.finditer(text))
    if {"A", "B"} <= {m[1] for m in options}:
        spans += [m.span() for m in options]
    end = 0
    for start, stop in sorted(spans):
        if start >= end and stop > start:
            yield start, stop
            end = stop


def _sentences(span: str) -> list[Piece]:
    pieces: list[Piece] = []
    for sentence in _split(span):
        core = sentence.strip()
        if not LETTER.search(core):
            pieces.append(Piece(sentence, False))
            continue
        start = sentence.index(core)
        end = start + len(core)
        if start:
            pieces.append(Piece(sentence[:start], False))
        pieces.append(Piece(core, True))
        if end < len(sentence):
            pieces.append(Piece(sentence[end:], False))
    return [p for p in pieces if p.text]


def _split(span: str) -> list[str]:
    return [sentence for stretch in _stretches(span) for sentence in _split_stretch(stretch)]


def _stretches(span: str) -> Iterator[str]:
    start = 0
    while len(span) - start > 2 * LONGEST_AT_ONCE:
        earliest, latest = start + LONGEST_AT_ONCE, start + 2 * LONGEST_AT_ONCE
        end = PLAIN_END.search(span, earliest, latest) or SENTENCE_END.search(span, earliest)
        if end is None:
            break
        yield span[start : end.end()]
        start = end.end()
    yield span[start:]


def _split_stretch(span: str) -> list[str]:
    if not SENTENCE_END.search(span):
        return [span]
    sentences: list[str] = [str(s) for s in _splitter.segmenter.segment(span)]
    return sentences if "".join(sentences) == span else [span]


def join(pieces: list[Piece], translations: Mapping[str, str]) -> str:
    """Put the translations in the place of their sentences. Raises KeyError for a sentence that has none."""
    return "".join(translations[p.text] if p.is_sentence else p.text for p in pieces)
