"""Source copy: how much of the English came back untranslated."""

import regex

WORD = regex.compile(r"[\p{L}\p{M}]+")


def source_copy(source: str, text: str) -> float:
    """Share of the source's words (runs of letters, case folded) that stand in `text` too, 0 to 1; 0 when the source has no words.

    Names and loanwords are copied by good translators, so a policy should look at this only where the source has several words.
    """
    words = WORD.findall(source.casefold())
    if not words:
        return 0.0
    present = set(WORD.findall(text.casefold()))
    return sum(w in present for w in words) / len(words)
