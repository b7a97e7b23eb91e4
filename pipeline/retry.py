"""The retry ladder: an output with a visible fault is decoded again, otherwise.

Loops and copies happen with any model and any beam, in a small share of the sentences. Repetition control prevents loops but makes good output
worse, so it is used only where the plain way failed. A faulty sentence goes up these rungs until an output has no fault:

    first       as the mix says
    beam        beam 5
    no_repeat   beam 5, no 3-gram twice, repetition penalty 1.15
    clauses     the same, clause by clause (at , ; : and dashes), where the sentence has several
    gave_up     the first output is kept, with its status; the quality policy decides

The rung is stored with the translation. What counts as a fault here is what no good translation shows; finer questions are for `quality/`.

The language is asked of lid.176 and py3langid, which every installation has, and not of the identifiers of the mix, so that the same model gives the
same translations everywhere; only of sentences of four words and more; and only strong evidence for another language counts. On the human
translations that the identifiers' habits were learnt from, this sees 92 % of the sentences in another language of the same script and 89 % of
English ones, and decodes 0.5 % of the right ones once more in vain (means over all languages).
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.quality.characters import column
from pipeline.quality.copy import source_copies
from pipeline.quality.lid import Contract, Identifier, load_identifier
from pipeline.quality.repetition import repetitions
from pipeline.quality.script import script_shares

MAX_REPETITION = 0.4
MAX_SOURCE_COPY = 0.79
MIN_WORDS_FOR_COPY = 3
MIN_SCRIPT_SHARE = 0.5
MIN_WORDS_FOR_LANGUAGE = 4
MIN_GROUP_PROBABILITY = 0.1

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
SPLIT = "split"
"""Of a sentence too long for the model, whose parts (`split.py`) went up the ladder one by one."""

Decode = Callable[[Sequence[str], Sequence[str], Rung], list[Output]]
"""(sentences, languages, rung) -> outputs, in order."""


@cache
def _identifier() -> Identifier:
    return load_identifier(None, "lid176", ("py3langid",))


@cache
def _contract(language: str) -> Contract:
    return _identifier().resolve([language])[language]


def faults(sources: Sequence[str], outputs: Sequence[Output], languages: Sequence[str]) -> list[str | None]:
    """What is visibly wrong with each output, or None."""
    original, texts = column(sources), column([o.text for o in outputs])
    words = np.array([len(source.split()) for source in sources], dtype=int)
    rows: dict[str, list[int]] = {}
    for row, language in enumerate(languages):
        rows.setdefault(language, []).append(row)
    own_script = np.ones(len(sources))
    for language, mine in rows.items():
        own_script[mine] = script_shares(texts.take(mine), language)
    seen = {
        "wrong_script": own_script < MIN_SCRIPT_SHARE,
        "source_copy": (source_copies(original, texts) > MAX_SOURCE_COPY) & (words >= MIN_WORDS_FOR_COPY),
        "repetition": repetitions(texts) > MAX_REPETITION,
        "empty": np.array([not o.text.strip() for o in outputs], dtype=bool),
        "unfinished": np.array([o.status == "unfinished" for o in outputs], dtype=bool),
    }
    found = np.full(len(sources), None, dtype=object)
    for name, rows_with_it in seen.items():  # the last that applies is the name: the plainest fault
        found[rows_with_it] = name
    for language, mine in rows.items():
        asked = [i for i in mine if found[i] is None and words[i] >= MIN_WORDS_FOR_LANGUAGE]
        if asked:
            found[asked] = [None if right else "wrong_language" for right in _in_language(texts.take(asked), language)]
    return list(found)


def _in_language(texts: pa.Array, language: str) -> list[bool]:
    """Whether each text may be in the language or one that it is confused with."""
    contract = _contract(language)
    if contract.check == "unverified":
        return [True] * len(texts)
    right = _identifier().first_label_fits(texts, contract)
    doubtful = np.flatnonzero(~right)
    if len(doubtful):
        _, values = _identifier().judge_column(texts.take(doubtful), contract)
        right[doubtful] = values[:, 1] >= MIN_GROUP_PROBABILITY
    return [bool(x) for x in right]


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
    found = faults(sentences, first, languages)
    faulty = [i for i, output in enumerate(first) if output.status != "too_long" and found[i]]
    for rung in LADDER:
        if not faulty:
            break
        of_faulty = [sentences[i] for i in faulty], [languages[i] for i in faulty]
        again = decode(*of_faulty, rung)
        left = []
        for i, output, still in zip(faulty, again, faults(of_faulty[0], again, of_faulty[1]), strict=True):
            if still:
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
        joined = join_outputs(mine, (parts[i] or [])[1::2])
        (still,) = faults([sentences[i]], [joined], [languages[i]])
        result.append((i, None if still else joined))
    return result


def join_outputs(parts: Sequence[Output], separators: Sequence[str]) -> Output:
    """One output of several, with the separators between them: the worst status, the lowest probability. Nothing where a part is too long."""
    status = max((o.status for o in parts), key=("translated", "unfinished", "too_long").index)
    text = "".join(o.text + s for o, s in zip(parts, [*separators, ""], strict=True))
    return Output(
        "" if status == "too_long" else text,
        status,
        min(o.log_probability for o in parts),
        sum(o.unknown_tokens for o in parts),
    )
