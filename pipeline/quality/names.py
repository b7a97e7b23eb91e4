"""What of an English text may rightly stay English: names, abbreviations and words in quotes.

A sign that says "NO PARKING" is well translated by 写着“NO PARKING”的牌子, and a man in a Nike shirt by мужчина в футболке Nike. Counted as
letters of another script, as copied words or as evidence of English, such words would cost good captions. So the signals that look for English in
a translation (copy, script, language) see both texts without them.

A word of the source may stay when it stands in double quotes; begins with a capital inside a sentence; or has a capital or a digit after its first
letter (MacBook, DJ). Capitals tell nothing in a source that is written in Title Case or in CAPITALS, as headings are.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

from pipeline.quality.characters import Column, flat

LONGEST_JUDGED = 2000
"""Characters of a source that are searched for names."""
MAYBE = r"(?s).[A-Z]|[A-Za-z][0-9]|[\"“„«]"
"""A source without this has no names: most captions, which are not looked at further."""
WORD = regex.compile(r"\p{Latin}[\p{Latin}\p{M}\p{Nd}]*")
QUOTED = regex.compile(r'"([^"]+)"|[“„]([^“”„]+)[”“]|«([^«»]+)»')
SENTENCE_BEGINS = regex.compile(r"[.!?:;]\P{L}*\s|\n")
LEAST_LETTERS = 4
"""Words from this length begin with a capital in Title Case; shorter ones may not."""
LEAST_LEFT = 2
"""Words of a source that must be left, or there is nothing to compare."""


def without_names(sources: Column, texts: Column) -> tuple[pa.Array, pa.Array]:
    """Both columns without the words of each source that may stay. A source of which fewer than two words are left becomes empty: what else was
    copied would be no evidence."""
    source, text = flat(sources), flat(texts)
    rows = np.flatnonzero(np.asarray(pc.match_substring_regex(source, MAYBE)))
    changed, left_of_source, left_of_text = np.zeros(len(source), bool), [], []
    taken = pa.array(rows)
    for row, english, translation in zip(
        rows.tolist(), source.take(taken).to_pylist(), text.take(taken).to_pylist(), strict=True
    ):
        if names := _names(english):
            changed[row] = True
            left = _without(english, names)
            left_of_source.append(left if len(WORD.findall(left)) >= LEAST_LEFT else "")
            left_of_text.append(_without(translation, names))
    if not left_of_source:
        return source, text
    mask = pa.array(changed)
    return (
        pc.replace_with_mask(source, mask, pa.array(left_of_source, pa.string())),
        pc.replace_with_mask(text, mask, pa.array(left_of_text, pa.string())),
    )


def _without(text: str, names: frozenset[str]) -> str:
    return WORD.sub(lambda m: " " if m[0].casefold() in names else m[0], text)


def _names(source: str) -> frozenset[str]:
    """Words of a source that may stay, in lower case."""
    source = source[:LONGEST_JUDGED]
    quoted = {w.casefold() for m in QUOTED.finditer(source) for w in WORD.findall(m[0])}
    words, inside, end = [], [], 0
    for match in WORD.finditer(QUOTED.sub(" ", source)):
        words.append(match[0])
        inside.append(end > 0 and SENTENCE_BEGINS.search(match.string, end, match.start()) is None)
        end = match.end()
    if not words:  # all is in quotes, so nothing is quoted
        return frozenset()
    usual = [w for w, is_inside in zip(words, inside, strict=True) if is_inside and _is_usual(w)]
    if not usual or any(w.islower() for w in usual):
        names = {w.casefold() for w, is_inside in zip(words, inside, strict=True) if _is_name(w, is_inside)}
        return frozenset(quoted | names)
    return frozenset(quoted)


def _is_usual(word: str) -> bool:
    """Could its first letter tell how the source is written?"""
    return len(word) >= LEAST_LETTERS and (word.islower() or word.istitle() or word.isupper())


def _is_name(word: str, is_inside: bool) -> bool:
    begins = is_inside and word[0].isupper() and word != "I"
    return begins or any(c.isupper() or c.isdecimal() for c in word[1:])
