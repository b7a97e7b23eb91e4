"""Agreement of an answer with its question: a choice that the English offers must stay among the choices.

"Is the bus red or blue?" – "blue" becomes a bad sample when question and answer, translated apart, use two different words for blue. Where the
English answer stands in the English question, the translated answer should stand in the translated question. Inflection changes endings and some
languages put articles before words, so beginnings of words are compared, and not words.
"""

import numpy as np
import regex

from pipeline.quality.characters import Column, flat

WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+")
IDEOGRAPH = regex.compile(r"[\p{Han}\p{Hangul}\p{Hiragana}\p{Katakana}]")
UNSPACED = regex.compile(r"[\p{Han}\p{Hangul}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
"""Scripts in which a word can begin anywhere."""
LEAST_RUN = 3
"""Characters that words must share; one where a character is a syllable or a word."""
LONGEST_JUDGED = 500


def _words(text: str) -> list[str]:
    return WORD.findall(text[:LONGEST_JUDGED].casefold())


def _shared(word: str, asked: list[str]) -> float:
    """Share of `word` that is its longest run with which a word of the question begins; 1 when it stands whole in one of them."""
    if any(word in other for other in asked):
        return 1.0
    begins_anywhere = UNSPACED.search(word) is not None
    least = 1 if IDEOGRAPH.search(word) else LEAST_RUN
    for size in range(len(word) - 1, least - 1, -1):
        runs = [word[i : i + size] for i in range(len(word) - size + 1)]
        if any(run in other if begins_anywhere else other.startswith(run) for run in runs for other in asked):
            return size / len(word)
    return 0.0


def answer_agreements(
    source_questions: Column, source_answers: Column, questions: Column, answers: Column
) -> np.ndarray:
    """How much of each answer's words stands in its question, 0 to 1. 1 where there is nothing to check: the English answer's words don't follow
    one another in the English question (yes, no, and most answers)."""
    result = np.ones(len(answers))
    columns = [flat(c).to_pylist() for c in (source_questions, source_answers, questions, answers)]
    for row, (source_question, source_answer, question, answer) in enumerate(zip(*columns, strict=True)):
        wanted = _words(source_answer)
        if not wanted or f" {' '.join(wanted)} " not in f" {' '.join(_words(source_question))} ":
            continue
        given, asked = _words(answer), _words(question)
        if given and asked:
            result[row] = sum(_shared(word[:30], asked) for word in given) / len(given)
    return result
