"""Short answers: a word or two that mean nothing without their question.

"orange", "right" or "light" translated alone is a guess. So an answer of at most three words goes one of these ways, in this order; the way is
stored with the sample:

    glossary         a person translated it (`glossary.py`); with the source
    agreed           translated alone and together with its question it comes out the same
    back_translated  translated back into English it is the English answer
    english          neither: the English answer stays, and the prompt asks for English (`render.py`)

"Together" is one string, "What colour is the bus? Orange.", and what stands after the last question mark of its translation. Where that can't be
told, the two don't agree. A mix may switch the check off; then every answer goes

    alone            translated without its question

Digits are `copied`, as anywhere. Longer answers are translated like any text, and have no way of their own.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pipeline.corpus import UNTRANSLATED_ROLES
from pipeline.glossary import Glossary, normalise_answer, normalise_english
from pipeline.languages import BY_NLLB
from pipeline.memory import normalise
from pipeline.retry import Output, faults

if TYPE_CHECKING:
    from pipeline.requests import Segmenter

VERSION = 1

MAX_WORDS = 3
"""Longer answers say enough by themselves; answers of one to three words are also those that can't be identified as a language."""

GLOSSARY, AGREED, BACK_TRANSLATED, KEPT_ENGLISH, ALONE, COPIED = (
    "glossary", "agreed", "back_translated", "english", "alone", "copied",
)  # fmt: skip
WAYS = (GLOSSARY, AGREED, BACK_TRANSLATED, ALONE, COPIED, KEPT_ENGLISH)

QUESTION_MARKS = "?？؟⸮፧՞"
"""Latin and most others, full width, Arabic, mirrored, Ethiopic, Armenian."""
GREEK_QUESTION_MARKS = QUESTION_MARKS + ";\u037e"
IN_WORD = "՞"
"""Armenian writes its mark inside the word that asks; its sentence ends at a full stop."""
ARMENIAN_END = re.compile(r"[։:.]")
CLOSING = re.compile("^[\"'”’»›」』)\\]]+")


class Asked(NamedTuple):
    """A short answer in its example, as the translator is asked for it."""

    answer: str
    """The answer's one sentence, or empty when it has none, such as a number in digits."""
    joint: str | None
    """Question and answer in one string; None when the example has no question before the answer."""


class Settled(NamedTuple):
    """What becomes of a short answer. `used`: whether its text is the translation of `Asked.answer`."""

    text: str
    origin: str
    used: bool


def join_question(question: str, answer: str) -> str:
    """One question (a sentence) and its answer as one string."""
    asked = question.rstrip(" .:;,!")
    if not asked.endswith("?"):
        asked += "?"
    given = answer.rstrip(" .:;,!")
    return f"{asked} {given[:1].upper()}{given[1:]}."


def split_answer(text: str, language: str) -> str | None:
    """The answer in a translation of `join_question`: what stands after the last question mark. None when there is none, or nothing after it."""
    marks = GREEK_QUESTION_MARKS if BY_NLLB[language].script == "Grek" else QUESTION_MARKS
    place = max(text.rfind(mark) for mark in marks)
    if place < 0:
        return None
    rest = text[place + 1 :]
    if text[place] == IN_WORD:
        end = ARMENIAN_END.search(rest)
        rest = rest[end.end() :] if end else ""
    rest = CLOSING.sub("", rest).strip()
    return rest if normalise_answer(rest) else None


@dataclass(frozen=True)
class ShortAnswers:
    """How a run treats short answers. The default knows no glossary and checks nothing."""

    check: Literal["joint", "alone"] = "alone"
    back_translation: bool = False
    glossary: Glossary = field(default_factory=Glossary)

    @property
    def description(self) -> dict[str, Any]:
        """For `run.json` and the card."""
        return {"check": self.check, "back_translation": self.check == "joint" and self.back_translation}

    def asked(self, fields: list[dict[str, str]], place: int, segmenter: "Segmenter") -> Asked | None:
        """The short answer in `fields[place]`, or None when it is none: another role, more than MAX_WORDS, or several sentences."""
        if fields[place]["role"] != "answer" or len(fields[place]["text"].split()) > MAX_WORDS:
            return None
        pieces = segmenter.pieces(fields[place]["text"])
        sentences = [p.text for p in pieces if p.is_sentence]
        if len(sentences) > 1 or (sentences and any(p.text.strip() for p in pieces if not p.is_sentence)):
            return None
        if not sentences:
            return Asked("", None)
        questions = [f["text"] for f in fields[:place] if f["role"] == "question"]
        asked = [s for q in questions[-1:] for s in segmenter.sentences(q)]
        return Asked(sentences[0], join_question(asked[-1], sentences[0]) if asked else None)

    def sentences(self, language: str, fields: list[dict[str, str]], segmenter: "Segmenter") -> Iterator[str]:
        """Everything to be translated into `language` for one example."""
        for place, one in enumerate(fields):
            if one["role"] in UNTRANSLATED_ROLES:
                continue
            asked = self.asked(fields, place, segmenter)
            if asked is None:
                yield from segmenter.sentences(one["text"])
            elif asked.answer and self.glossary.find(language, asked.answer) is None:
                yield asked.answer
                if self.check == "joint" and asked.joint:
                    yield asked.joint

    def settle(
        self, language: str, asked: Asked, english: str, answers: Mapping[str, Output], back: Mapping[str, str]
    ) -> Settled:
        """Which way the short answer `english` goes. `answers`: translations by their English; `back`: English by what was translated back.

        Raises KeyError when a translation that was asked for is missing.
        """
        if not asked.answer:
            return Settled(english, COPIED, False)
        if found := self.glossary.find(language, asked.answer):
            return Settled(found.text, f"{GLOSSARY}: {found.source}", False)
        alone = answers[asked.answer]
        if self.check == "alone":
            return Settled(alone.text, ALONE, True)
        if is_usable(asked.answer, alone, language):
            if self._agrees(language, asked, alone, answers):
                return Settled(alone.text, AGREED, True)
            if self.back_translation and normalise_english(back[normalise(alone.text)]) == normalise_english(
                asked.answer
            ):
                return Settled(alone.text, BACK_TRANSLATED, True)
        return Settled(english, KEPT_ENGLISH, False)

    def to_translate_back(self, language: str, asked: Asked, answers: Mapping[str, Output]) -> str | None:
        """The translation that must be translated back before `settle` can tell, or None."""
        if self.check == "alone" or not self.back_translation or not asked.answer:
            return None
        if self.glossary.find(language, asked.answer):
            return None
        alone = answers[asked.answer]
        if not is_usable(asked.answer, alone, language) or self._agrees(language, asked, alone, answers):
            return None
        return alone.text

    @staticmethod
    def _agrees(language: str, asked: Asked, alone: Output, answers: Mapping[str, Output]) -> bool:
        if asked.joint is None or answers[asked.joint].status != "translated":
            return False
        together = split_answer(answers[asked.joint].text, language)
        return together is not None and normalise_answer(together) == normalise_answer(alone.text)


@lru_cache(maxsize=2**16)
def is_usable(answer: str, alone: Output, language: str) -> bool:
    """False when the translation of `answer` has a fault that can be seen: then it need not be checked."""
    return alone.status == "translated" and not alone.unknown_tokens and faults([answer], [alone], [language]) == [None]


def way_of(origin: str) -> str:
    """The way alone, of an origin that may name its source: `glossary: cldr-misc-full 48.2.0` is glossary."""
    return origin.partition(":")[0]
