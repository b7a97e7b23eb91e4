"""The retry ladder: an output with a visible fault is decoded again, otherwise.

Loops and copies happen with any model and any beam, in a small share of the sentences. Repetition control prevents loops but makes good output
worse, so it is used only where the plain way failed. A faulty sentence goes up these rungs until an output has no fault:

    first       as the mix says
    beam        beam 5
    no_repeat   beam 5, no 3-gram twice, repetition penalty 1.15
    clauses     the same, clause by clause (at , ; : and dashes), where the sentence has several
    gave_up     the first output is kept, with its status; the quality policy decides

The rung is stored with the translation. What counts as a fault here is what no good translation shows; finer questions are for `quality/`.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pipeline.quality.copy import source_copy
from pipeline.quality.repetition import repetition
from pipeline.quality.script import script_share

MAX_REPETITION = 0.4
MAX_SOURCE_COPY = 0.79
MIN_WORDS_FOR_COPY = 3
MIN_SCRIPT_SHARE = 0.5

CLAUSE_END = re.compile(r"(?<=[,;:])\s+|\s+[–—]\s+")
MIN_CLAUSE_WORDS = 2


class Output(NamedTuple):
    """One decoded sentence."""

    text: str
    status: str
    log_probability: float
    unknown_tokens: int


class Rung(NamedTuple):
    name: str
    beam_size: int
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0


LADDER = (Rung("beam", 5), Rung("no_repeat", 5, 3, 1.15))
FIRST, CLAUSES, GAVE_UP = "first", "clauses", "gave_up"

Decode = Callable[[Sequence[str], Sequence[str], Rung], list[Output]]
"""(sentences, languages, rung) -> outputs, in order."""


def fault(source: str, output: Output, language: str) -> str | None:
    """What is visibly wrong with an output, or None."""
    if output.status == "unfinished":
        return "unfinished"
    if not output.text.strip():
        return "empty"
    if repetition(output.text) > MAX_REPETITION:
        return "repetition"
    if len(source.split()) >= MIN_WORDS_FOR_COPY and source_copy(source, output.text) > MAX_SOURCE_COPY:
        return "source_copy"
    if script_share(output.text, language) < MIN_SCRIPT_SHARE:
        return "wrong_script"
    return None


def clauses(sentence: str) -> list[str] | None:
    """The sentence's clauses with the separators between them (odd places), or None when it has only one of some length."""
    parts: list[str] = []
    position = 0
    for separator in CLAUSE_END.finditer(sentence):
        clause = sentence[position : separator.start()]
        if len(clause.split()) >= MIN_CLAUSE_WORDS:
            parts += [clause, separator[0]]
            position = separator.end()
    parts.append(sentence[position:])
    return parts if len(parts) > 1 and parts[-1].strip() else None


def climb(
    sentences: Sequence[str], languages: Sequence[str], first: Sequence[Output], decode: Decode
) -> list[tuple[Output, str]]:
    """Retry the faulty outputs among `first`. Returns (output, name of the rung) for each sentence, in order."""
    result = [(output, FIRST) for output in first]
    faulty = [
        i for i, output in enumerate(first) if output.status != "too_long" and fault(sentences[i], output, languages[i])
    ]
    for rung in LADDER:
        again = decode([sentences[i] for i in faulty], [languages[i] for i in faulty], rung) if faulty else []
        left = []
        for i, output in zip(faulty, again, strict=True):
            if fault(sentences[i], output, languages[i]):
                left.append(i)
            else:
                result[i] = (output, rung.name)
        faulty = left
    for i, joined in _by_clauses(faulty, sentences, languages, decode):
        result[i] = (first[i], GAVE_UP) if joined is None else (joined, CLAUSES)
    return result


def _by_clauses(
    faulty: list[int], sentences: Sequence[str], languages: Sequence[str], decode: Decode
) -> list[tuple[int, Output | None]]:
    parts = {i: clauses(sentences[i]) for i in faulty}
    wanted = [(i, clause) for i in faulty for clause in (parts[i] or [])[::2]]
    outputs = decode([clause for _, clause in wanted], [languages[i] for i, _ in wanted], LADDER[-1]) if wanted else []
    by_sentence: dict[int, list[Output]] = {}
    for (i, _), output in zip(wanted, outputs, strict=True):
        by_sentence.setdefault(i, []).append(output)
    result: list[tuple[int, Output | None]] = []
    for i in faulty:
        mine = by_sentence.get(i)
        if not mine:
            result.append((i, None))
            continue
        separators = (parts[i] or [])[1::2]
        text = "".join(o.text + s for o, s in zip(mine, [*separators, ""], strict=True))
        status = "translated" if all(o.status == "translated" for o in mine) else "unfinished"
        joined = Output(text, status, min(o.log_probability for o in mine), sum(o.unknown_tokens for o in mine))
        result.append((i, None if fault(sentences[i], joined, languages[i]) else joined))
    return result
