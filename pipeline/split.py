"""A sentence that has more tokens than the model was trained for, cut into parts that have not.

Cut at the plainest place that makes parts short enough: after a sentence's or a clause's final mark, at white space, and in scripts that write none
between user-perceived characters. Parts are of about equal length, so that none is a leftover word. Parts and what stands between them, joined, are
the sentence.
"""

import re
from collections.abc import Callable, Sequence

import regex

CountTokens = Callable[[Sequence[str]], list[int]]
"""Texts -> how many tokens each has."""

PLACES = (
    re.compile(r"(?<=[.!?…])\s+|(?<=[。！？؟۔।])\s*"),
    re.compile(r"(?<=[,;:])\s+|\s+[–—]\s+|(?<=[，、；：،؛])\s*"),
    re.compile(r"\s+"),
)
CHARACTERS_AT_ONCE = 8


def split_long(sentence: str, limit: int, count: CountTokens) -> list[str]:
    """Parts of at most `limit` tokens (even places) and what stands between them (odd places); joined they are `sentence`.

    A single user-perceived character with more tokens (a letter under hundreds of accents) stays a part that is too long.
    """
    return _split(sentence, limit, count, 0)


def _split(text: str, limit: int, count: CountTokens, level: int) -> list[str]:
    (tokens,) = count([text])
    if tokens <= limit:
        return [text]
    if level > len(PLACES) + 1:
        return [text]
    units = _units(text, level)
    if len(units) == 1:
        return _split(text, limit, count, level + 1)
    sizes = count(units[::2])
    target = tokens / -(-tokens // limit)
    parts: list[str] = []
    size = 0
    for place in range(0, len(units), 2):
        more = sizes[place // 2]
        if parts and size < target and size + more <= limit:
            parts[-1] += units[place - 1] + units[place]
            size += more
        else:
            parts += [*units[place - 1 : place], units[place]]
            size = more
    return [
        piece
        for place, part in enumerate(parts)
        for piece in (_split(part, limit, count, level + 1) if place % 2 == 0 else [part])
    ]


def _units(text: str, level: int) -> list[str]:
    """Stretches of text (even places) and separators (odd places)."""
    if level < len(PLACES):
        units: list[str] = []
        position = 0
        for separator in PLACES[level].finditer(text):
            if position < separator.start() and separator.end() < len(text):
                units += [text[position : separator.start()], separator[0]]
                position = separator.end()
        return [*units, text[position:]]
    characters = regex.findall(r"\X", text)
    step = CHARACTERS_AT_ONCE if level == len(PLACES) else 1
    stretches = ["".join(characters[i : i + step]) for i in range(0, len(characters), step)]
    return [x for stretch in stretches for x in ("", stretch)][1:]
