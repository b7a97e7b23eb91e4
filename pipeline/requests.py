"""Fields <-> sentences: what has to be translated, in which tasks, and how the translations become fields again.

Forward: every planned text's fields are cut into sentences (`segment.py`), and of all (sentence, language) pairs each is asked for once. What the
memory lacks is cut into blocks, one block a task of the flow. The blocks are fixed before the first is translated and kept on disk, so a
killed run goes on with the very same ones and the batches in them are the same. Back: the translations are put in the place of their sentences.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.corpus import CANDIDATES, REQUESTS, UNTRANSLATED_ROLES, planned_id
from pipeline.languages import ENGLISH
from pipeline.memory import Memory, normalise, sentence_key
from pipeline.retry import Output
from pipeline.segment import Piece, segment
from pipeline.short_answers import ShortAnswers

VERSION = 3

PROMPT_SOURCE = "prompts"
"""Source name of the prompt texts, which are translated and judged like fields but are no examples."""

SEVERITY = ("copied", "translated", "unfinished", "too_long")
"""Statuses of a text from best to worst."""

UNCHECKED = ShortAnswers()
"""Short answers as any text."""

BLOCKS = pa.schema(
    [
        ("block", pa.int32()),
        ("language", pa.string()),
        ("keys", pa.list_(pa.string())),
        ("texts", pa.list_(pa.string())),
    ]
)


class Segmenter:
    """Cuts texts into pieces, each text once."""

    def __init__(self) -> None:
        self._pieces: dict[str, list[Piece]] = {}

    def pieces(self, text: str) -> list[Piece]:
        found = self._pieces.get(text)
        if found is None:
            found = self._pieces[text] = [
                p._replace(text=normalise(p.text)) if p.is_sentence else p for p in segment(text)
            ]
        return found

    def sentences(self, text: str) -> Iterator[str]:
        return (p.text for p in self.pieces(text) if p.is_sentence)


def prompt_examples(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Prompt texts in the form of examples, so that they take the same way."""
    return [
        {
            "id": f"{PROMPT_SOURCE}:{i}",
            "source": PROMPT_SOURCE,
            "task": "prompt",
            "fields": [{"role": "prompt", "text": text}],
        }
        for i, text in enumerate(texts)
    ]


def planned_rows(
    examples: pa.Table, plan: pa.Table, prompt_texts: Sequence[str], given: pa.Table | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Examples by language, as the plan has them, sorted by example id, the prompt texts last. English has no prompt texts to translate.

    Where people have given the name of an example's object in that language (`given`, schema GIVEN), the row has it as `name`.
    """
    by_id = {row["id"]: row for row in examples.select(["id", "source", "task", "fields", "given"]).to_pylist()}
    names = {} if given is None else {(r["key"], r["language"]): r["text"] for r in given.to_pylist()}
    rows: dict[str, list[dict[str, Any]]] = {}
    for example, language in zip(plan["example"].to_pylist(), plan["language"].to_pylist(), strict=True):
        row = by_id[example]
        if row["given"] and language != ENGLISH:
            row = {**row, "name": names[row["given"], language]}
        rows.setdefault(language, []).append(row)
    prompts = prompt_examples(prompt_texts)
    return {language: planned + (prompts if language != ENGLISH else []) for language, planned in rows.items()}


def wanted_sentences(
    planned: Mapping[str, list[dict[str, Any]]],
    engine: str,
    segmenter: Segmenter,
    short_answers: ShortAnswers = UNCHECKED,
) -> pa.Table:
    """Unique (sentence, language) pairs (schema REQUESTS), languages in the order of `planned`, sentences sorted by length, then text: a
    block then has sentences of like length, and padding is small. A short answer to check is asked for alone and with its question."""
    sentences = {
        language: {s for row in rows for s in short_answers.sentences(language, row["fields"], segmenter)}
        for language, rows in planned.items()
        if language != ENGLISH
    }
    return request_table(engine, sentences)


def answers_to_check(
    language: str,
    rows: Iterable[dict[str, Any]],
    translations: pa.Table,
    into_english: str,
    segmenter: Segmenter,
    short_answers: ShortAnswers,
) -> pa.Table:
    """Unique translations of short answers that must be translated back (schema REQUESTS), sorted as `wanted_sentences` sorts.
    `into_english`: key of the engine that does it; `language` is its source."""
    answers = _outputs(translations)
    texts = set()
    for row in rows if language != ENGLISH else ():
        for place in range(len(row["fields"])):
            asked = short_answers.asked(row["fields"], place, segmenter)
            if asked and (text := short_answers.to_translate_back(language, asked, answers)):
                texts.add(normalise(text))
    return request_table(into_english, {language: texts})


def request_table(engine: str, sentences: Mapping[str, Iterable[str]]) -> pa.Table:
    """Schema REQUESTS, from the sentences of each language, in its order, shorter ones first."""
    keys: list[str] = []
    languages: list[str] = []
    texts: list[str] = []
    for language, wanted in sentences.items():
        for sentence in sorted(wanted, key=lambda s: (len(s), s)):
            keys.append(sentence_key(engine, language, sentence))
            languages.append(language)
            texts.append(sentence)
    return pa.table(
        [pa.array(keys, pa.string()), pa.array(languages, pa.string()), pa.array(texts, pa.string())], schema=REQUESTS
    )


def languages_of(requests: pa.Table) -> list[str]:
    return list(dict.fromkeys(requests["language"].to_pylist()))


def unanswered(requests: pa.Table, memory: Memory) -> pa.Table:
    """The requests that the memory has no entry for."""
    parts = []
    for language in languages_of(requests):
        wanted = requests.filter(pc.equal(requests["language"], language))
        known = memory.known(language, wanted["key"])
        parts.append(wanted.filter(pc.invert(pc.is_in(wanted["key"], value_set=known))))
    return pa.concat_tables(parts) if parts else REQUESTS.empty_table()


def unfinished_blocks(blocks: pa.Table, memory: Memory) -> list[dict[str, Any]]:
    """The blocks that the memory does not answer wholly. Such a block is translated again as a whole, so that its batches are the same."""
    rows = blocks.to_pylist()
    known: set[str] = set()
    for language in dict.fromkeys(row["language"] for row in rows):
        keys = [key for row in rows if row["language"] == language for key in row["keys"]]
        known.update(memory.known(language, pa.array(keys, pa.string())).to_pylist())
    return [row for row in rows if not known.issuperset(row["keys"])]


def cut_blocks(requests: pa.Table, block_sentences: int) -> pa.Table:
    """Cut requests into tasks of one language and at most `block_sentences` sentences (schema BLOCKS), longest sentences first: the slow
    blocks start early, and the estimate of the time left errs on the safe side."""
    rows: list[dict[str, Any]] = []
    for language in languages_of(requests):
        wanted = requests.filter(pc.equal(requests["language"], language))
        for start in range(0, wanted.num_rows, block_sentences):
            part = wanted.slice(start, block_sentences)
            rows.append({"language": language, "keys": part["key"].to_pylist(), "texts": part["text"].to_pylist()})
    rows.sort(key=lambda row: -sum(len(t) for t in row["texts"]))
    return pa.Table.from_pylist([{"block": i, **row} for i, row in enumerate(rows)], schema=BLOCKS)


def _outputs(translations: pa.Table) -> dict[str, Output]:
    """Translations (schema TRANSLATIONS) by their source."""
    columns = (translations[name].to_pylist() for name in ("text", "status", "log_probability", "unknown_tokens"))
    return {source: Output(*row) for source, *row in zip(translations["source"].to_pylist(), *columns, strict=True)}


def translated_fields(
    language: str,
    rows: Iterable[dict[str, Any]],
    translations: pa.Table,
    segmenter: Segmenter,
    short_answers: ShortAnswers = UNCHECKED,
    back: pa.Table | None = None,
) -> pa.Table:
    """Planned texts of one language with their translated fields (schema CANDIDATES). `translations` answers every sentence by its source,
    `back` every text of `answers_to_check`.

    Raises KeyError when a sentence has no answer.
    """
    answers = _outputs(translations)
    english = {} if back is None else {source: output.text for source, output in _outputs(back).items()}
    result = []
    for row in rows:
        fields, used = [], []
        for place, field in enumerate(row["fields"]):
            origin = ""
            if field["role"] == "name" and "name" in row:
                text = row["name"]
            elif language == ENGLISH or field["role"] in UNTRANSLATED_ROLES:
                text = field["text"]
            elif asked := short_answers.asked(row["fields"], place, segmenter):
                text, origin, is_used = short_answers.settle(language, asked, field["text"], answers, english)
                used += [answers[asked.answer]] if is_used else []
            else:
                pieces = segmenter.pieces(field["text"])
                mine = [answers[p.text] for p in pieces if p.is_sentence]
                texts = iter(mine)
                text = "".join(next(texts).text if p.is_sentence else p.text for p in pieces)
                used += mine
            fields.append({"role": field["role"], "source": field["text"], "text": text, "origin": origin})
        result.append(
            {
                "id": planned_id(row["id"], language),
                "example": row["id"],
                "source": row["source"],
                "task": row["task"],
                "language": language,
                "fields": fields,
                "status": max((a.status for a in used), key=SEVERITY.index, default="copied"),
                "log_probability": min((a.log_probability for a in used), default=0.0),
                "unknown_tokens": sum(a.unknown_tokens for a in used),
            }
        )
    return pa.Table.from_pylist(result, schema=CANDIDATES)
