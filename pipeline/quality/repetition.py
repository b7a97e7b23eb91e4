"""Repetition: the loops that a decoder falls into ("the the the", "hahahaha")."""

import regex

LOOP = regex.compile(r"(.{1,24}?)\1{3,}", regex.DOTALL)
LONGEST_JUDGED = 4000
"""Characters that are looked at; a loop that begins later is not worth the time of a pathological text."""


def repetition(text: str) -> float:
    """Share of the characters of `text` that lie in a unit of up to 24 characters repeated at least four times in a row, 0 to 1."""
    head = text[:LONGEST_JUDGED]
    if not head.strip():
        return 0.0
    return sum(len(m[0]) for m in LOOP.finditer(head)) / len(head)
