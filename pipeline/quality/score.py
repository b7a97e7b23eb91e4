"""Scores of translated fields: numbers only, one row a field, stored for every sample. `accept.py` decides on them.

Every signal works on whole columns. Those that look for English that stayed see both sides without names (`names.py`). Language identification
sees a sample's translated texts together, since a short answer alone can't be identified; every field of the sample carries the same numbers. An
answer that stayed English is not judged. Candidates are taken in batches, so memory does not grow with them, and no number depends on the batch.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.corpus import SCORES, SCORES_STRUCT, SIGNALS, UNTRANSLATED_ROLES
from pipeline.languages import ENGLISH
from pipeline.quality.agreement import answer_agreements
from pipeline.quality.characters import numbers
from pipeline.quality.copy import source_copies
from pipeline.quality.learnt import Learnt
from pipeline.quality.length import length_deviations, length_ratios
from pipeline.quality.lid import Contract, Identifier
from pipeline.quality.markup import markup_leaked, unknown_characters
from pipeline.quality.names import without_names
from pipeline.quality.numerals import numbers_kept, options_lost
from pipeline.quality.repetition import repetitions
from pipeline.quality.script import script_shares
from pipeline.quality.truncation import truncations
from pipeline.short_answers import KEPT_ENGLISH

VERSION = 5

BATCH = 10_000
"""Candidates scored at once."""

WORST_IS_LOW = frozenset(
    {"script_share", "log_probability", "answer_agreement", "language_probability", "group_probability"}
)
WORST_IS_FAR = frozenset({"length_ratio", "length_deviation"})
"""Signals whose worst value is the lowest, or the one farthest from the usual (1, or 0); of all others it is the highest."""


def score(candidates: pa.Table, identifier: Identifier, contracts: dict[str, Contract]) -> pa.Table:
    """Score candidates (schema CANDIDATES); returns schema SCORES, languages in order of first appearance, and in each the order of the
    candidates and their fields. English is not scored."""
    parts = []
    for language in pc.unique(candidates["language"]).to_pylist():
        if language == ENGLISH:
            continue
        mine = candidates.filter(pc.equal(candidates["language"], language))
        for start in range(0, mine.num_rows, BATCH):
            parts.append(_score_batch(mine.slice(start, BATCH), language, identifier, contracts[language]))
    return pa.concat_tables(parts) if parts else SCORES.empty_table()


def _score_batch(candidates: pa.Table, language: str, identifier: Identifier, contract: Contract) -> pa.Table:
    lists = candidates["fields"].combine_chunks()
    owners = np.asarray(pc.list_parent_indices(lists))
    fields = pc.list_flatten(lists)
    is_text = ~np.asarray(
        pc.is_in(pc.struct_field(fields, "role"), value_set=pa.array(sorted(UNTRANSLATED_ROLES), pa.string()))
    ) & ~np.asarray(pc.fill_null(pc.equal(pc.struct_field(fields, "origin"), KEPT_ENGLISH), False))
    owners, fields = owners[is_text], fields.filter(pa.array(is_text))
    count = np.bincount(owners, minlength=candidates.num_rows)
    first = np.concatenate([[0], np.cumsum(count)])
    role, source, text = (pc.fill_null(pc.struct_field(fields, name), "") for name in ("role", "source", "text"))
    nameless = without_names(source, text)
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(first, pa.int32()), nameless[1]), "\n")
    words = numbers(pc.count_substring_regex(source, r"\S+"))
    words_seen = numbers(pc.count_substring_regex(nameless[0], r"\S*\p{L}\S*"))
    labels, probabilities = identifier.judge_column(joined, contract)
    values = text_signals(source, text, nameless, language, identifier.learnt)
    values["answer_agreement"] = _agreements(owners, role, source, text)
    values["log_probability"] = numbers(candidates["log_probability"])[owners]
    values["unknown_tokens"] = np.maximum(numbers(candidates["unknown_tokens"])[owners], values["unknown_tokens"])
    for number, name in enumerate(("language_probability", "group_probability", "english_probability")):
        values[name] = probabilities[owners, number]
    taken = pa.array(owners)
    structs = pa.StructArray.from_arrays(
        [*(pa.array(values[name], pa.float32()) for name in SIGNALS), pa.array(labels, pa.string()).take(taken)],
        fields=list(SCORES_STRUCT),
    )
    columns = {
        "id": candidates["id"].combine_chunks().take(taken),
        "field": pa.array(np.arange(len(owners)) - first[owners], pa.int32()),
        "role": role,
        "language": pa.array([language] * len(owners), pa.string()),
        "task": candidates["task"].combine_chunks().take(taken),
        "status": candidates["status"].combine_chunks().take(taken),
        "source_words": pa.array(words, pa.int32()),
        "words_judged": pa.array(np.bincount(owners, weights=words_seen, minlength=len(count))[owners], pa.int32()),
        "characters": pc.utf8_length(pc.utf8_trim_whitespace(text)),
        "bytes_judged": pc.binary_length(joined).take(taken),
        "scores": structs,
    }
    return pa.table([columns[name] for name in SCORES.names], schema=SCORES)


def text_signals(
    source: pa.Array, text: pa.Array, nameless: tuple[pa.Array, pa.Array], language: str, learnt: Learnt
) -> dict[str, np.ndarray]:
    """Every signal that needs only a source and a text: by name, one number a row. `nameless`: both without names (`names.py`)."""
    deviation = length_deviations(source, text, learnt.length_factor(language))
    lost, changed = numbers_kept(source, text)
    return {
        "source_copy": source_copies(*nameless),
        "script_share": script_shares(nameless[1], language),
        "length_ratio": length_ratios(source, text),
        "length_deviation": deviation,
        "repetition": repetitions(text, source),
        "truncation": truncations(source, text, deviation, learnt.final_kept.get(language, 1.0)),
        "numbers_lost": lost,
        "numbers_changed": changed,
        "options_lost": options_lost(source, text),
        "markup": markup_leaked(source, text),
        "unknown_tokens": unknown_characters(text),
    }


def _agreements(owners: np.ndarray, role: pa.Array, source: pa.Array, text: pa.Array) -> np.ndarray:
    """Of each answer, how it agrees with the question of its sample; 1 for every other field."""
    result = np.ones(len(owners))
    answers = np.flatnonzero(np.asarray(pc.equal(role, "answer")))
    questions = np.flatnonzero(np.asarray(pc.equal(role, "question")))
    if not len(answers) or not len(questions):
        return result
    question_of = np.full(int(owners.max()) + 1, -1)
    question_of[owners[questions]] = questions
    answers = answers[question_of[owners[answers]] >= 0]
    asked, given = pa.array(question_of[owners[answers]]), pa.array(answers)
    result[answers] = answer_agreements(source.take(asked), source.take(given), text.take(asked), text.take(given))
    return result


def sample_scores(scores: pa.Table) -> pa.Table:
    """Scores of each sample: of every signal the worst of its fields'. Columns `id` and `scores` (SCORES_STRUCT), in order of first appearance."""
    if not scores.num_rows:
        return pa.table({"id": pa.array([], pa.string()), "scores": pa.array([], SCORES_STRUCT)})
    codes = scores["id"].combine_chunks().dictionary_encode()
    sample = np.asarray(codes.indices)
    first = np.full(len(codes.dictionary), len(sample))
    np.minimum.at(first, sample, np.arange(len(sample)))
    columns = []
    struct = scores["scores"].combine_chunks()
    for name in SIGNALS:
        values = np.asarray(pc.struct_field(struct, name).to_numpy(zero_copy_only=False), np.float64)
        badness = -values if name in WORST_IS_LOW else values
        if name in WORST_IS_FAR:
            badness = np.abs(np.log(np.maximum(values, 1e-6))) if name == "length_ratio" else np.abs(values)
        order = np.lexsort((np.arange(len(sample)), -badness, sample))
        columns.append(pa.array(values[order[np.searchsorted(sample[order], np.arange(len(first)))]], pa.float32()))
    label = pc.struct_field(struct, "language_label").take(pa.array(first))
    return pa.table(
        {"id": codes.dictionary, "scores": pa.StructArray.from_arrays([*columns, label], fields=list(SCORES_STRUCT))}
    )
