"""Which way the short answers went (`pipeline/short_answers.py`), counted by language over samples and ledger."""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from pipeline.short_answers import AGREED, ALONE, BACK_TRANSLATED, COPIED, GLOSSARY, KEPT_ENGLISH, WAYS, way_of

WAY_MEANING = {
    GLOSSARY: "translated by people, from the glossary",
    AGREED: "translated alone and together with the question: the same",
    BACK_TRANSLATED: "translated back, it is the English answer",
    ALONE: "translated alone, not checked",
    COPIED: "digits, copied",
    KEPT_ENGLISH: "not certain: the answer stayed English, and a prompt whose answer it is asks for English",
}


@dataclass(frozen=True)
class AnswerCounts:
    by_language: dict[str, Counter[str]]
    """Answers by way, by language."""
    sources: dict[str, int]
    """Answers of the glossary by source, most first."""

    @property
    def ways(self) -> dict[str, int]:
        """Answers by way, those that occur, in the order of `WAYS`."""
        total: Counter[str] = sum(self.by_language.values(), Counter())
        return {way: total[way] for way in WAYS if total[way]}


def count_answers(samples: pa.Table, ledger: pa.Table) -> AnswerCounts:
    """`samples`: schema SAMPLES; `ledger`: that of the stage accept."""
    found = list(zip(samples["language"].to_pylist(), samples["answer_origin"].to_pylist(), strict=True))
    for language, fields in zip(ledger["language"].to_pylist(), ledger["fields"].to_pylist(), strict=True):
        found += [(language, field["origin"]) for field in fields or []]
    by_language: dict[str, Counter[str]] = {}
    sources: Counter[str] = Counter()
    for language, origin in found:
        if origin:
            by_language.setdefault(language, Counter())[way_of(origin)] += 1
            if way_of(origin) == GLOSSARY:
                sources[origin.partition(": ")[2]] += 1
    return AnswerCounts(by_language, dict(sorted(sources.items(), key=lambda item: (-item[1], item[0]))))
