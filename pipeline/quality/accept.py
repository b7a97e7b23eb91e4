"""The policy on the scores: which samples are kept, and for each other one the first reason.

Pure and quick: it reads the stored scores and a policy and never a text, so `accept` can be run again with other thresholds at any time. A million
rows take seconds: a check is one comparison of two arrays.
"""

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.quality.characters import numbers
from pipeline.quality.learnt import LENGTHS
from pipeline.quality.lid import Contract
from pipeline.quality.policy import DEFAULT_POLICY, JUDGED_TOGETHER, Policy, PolicyError, read_policy

__all__ = ["DEFAULT_POLICY", "VERDICTS", "Policy", "PolicyError", "accept", "failures", "read_policy"]

VERSION = 3

VERDICTS = pa.schema([("id", pa.string()), ("reason", pa.string()), ("detail", pa.string())])
"""One row a sample. `reason` is empty for an accepted one."""

READMITTED = "readmitted"
"""Begins the detail of a sample that was accepted because a person asked for it."""


def failures(scores: pa.Table, contracts: dict[str, Contract], policy: Policy) -> dict[str, np.ndarray]:
    """For each reason, in the order of the checks, which rows of `scores` (schema SCORES) fail: bool [rows]."""
    status, languages, tasks = (
        scores[name].combine_chunks().dictionary_encode() for name in ("status", "language", "task")
    )
    codes, task_names = languages.dictionary.to_pylist(), tasks.dictionary.to_pylist()
    language, task = np.asarray(languages.indices), np.asarray(tasks.indices)
    is_checked = np.array([contracts[code].check != "unverified" for code in codes])[language]
    length = {name: np.digitize(numbers(scores[name]), LENGTHS) for name in ("source_words", "words_judged")}
    states = np.array(status.dictionary.to_pylist(), dtype=object)[np.asarray(status.indices)]
    struct = scores["scores"].combine_chunks()
    failed = {
        "too_long": states == "too_long",
        "unfinished": (states == "unfinished") & policy.reject_unfinished,
        "empty": numbers(scores["characters"]) == 0,
    }
    for reason, check in policy.checks.items():
        value = numbers(pc.struct_field(struct, check.signal))
        by = length["words_judged" if check.signal in JUDGED_TOGETHER else "source_words"]
        limit = check.limits(codes, task_names)[language, task, by]
        fails = value > limit if check.above is not None else value < limit
        if check.only is not None:
            fails &= is_checked == (check.only == "checked")
        failed[reason] = fails
    return failed


def accept(
    scores: pa.Table, contracts: dict[str, Contract], policy: Policy, readmitted: Collection[str] = ()
) -> pa.Table:
    """Judge samples by the scores of their fields (schema SCORES). Returns VERDICTS, one row for each id in order of first appearance.

    A sample is rejected by its first field that fails, for the first check that it fails; unless its id is in `readmitted`: then it is accepted, and
    the detail says what it would have been rejected for. What has no text, being too long or empty, can't be readmitted.
    """
    if not scores.num_rows:
        return VERDICTS.empty_table()
    failed = failures(scores, contracts, policy)
    reasons = list(failed)
    first_failure = np.full(scores.num_rows, len(reasons), np.int16)
    for number in reversed(range(len(reasons))):
        first_failure[failed[reasons[number]]] = number
    ids = scores["id"].combine_chunks().dictionary_encode()
    sample = np.asarray(ids.indices)
    worst_row = np.full(len(ids.dictionary), -1)
    failing = np.flatnonzero(first_failure < len(reasons))[::-1]
    worst_row[sample[failing]] = failing  # of several, the last that is written: the first field
    rejected = np.flatnonzero(worst_row >= 0)
    reason = np.full(len(worst_row), "", dtype=object)
    detail = np.full(len(worst_row), "", dtype=object)
    reason[rejected] = np.array(reasons, dtype=object)[first_failure[worst_row[rejected]]]
    detail[rejected] = _details(scores.take(pa.array(worst_row[rejected])), reason[rejected], policy)
    if readmitted:
        wanted = np.asarray(pc.is_in(ids.dictionary, value_set=pa.array(sorted(readmitted), pa.string())))
        back = wanted & (worst_row >= 0) & ~np.isin(reason, ["too_long", "empty"])
        detail[back] = [f"{READMITTED}: {r}, {d}" for r, d in zip(reason[back], detail[back], strict=True)]
        reason[back] = ""
    return pa.table([ids.dictionary, pa.array(reason, pa.string()), pa.array(detail, pa.string())], schema=VERDICTS)


def _details(rows: pa.Table, reasons: np.ndarray, policy: Policy) -> list[str]:
    """Why in words, for rows that were rejected: the field, the number with its limit, and the language it looks like."""
    struct = rows["scores"].combine_chunks()
    labels = pc.struct_field(struct, "language_label").to_pylist()
    values = {c.signal: numbers(pc.struct_field(struct, c.signal)) for c in policy.checks.values()}
    length = {name: np.digitize(numbers(rows[name]), LENGTHS) for name in ("source_words", "words_judged")}
    languages, tasks = rows["language"].to_pylist(), rows["task"].to_pylist()
    limits: dict[tuple[str, str, str], np.ndarray] = {}
    result = []
    for row, (role, reason) in enumerate(zip(rows["role"].to_pylist(), reasons, strict=True)):
        check = policy.checks.get(reason)
        if check is None:
            result.append(role)
            continue
        key = (reason, languages[row], tasks[row])
        if key not in limits:
            limits[key] = check.limits([languages[row]], [tasks[row]])[0, 0]
        limit = limits[key][length["words_judged" if check.signal in JUDGED_TOGETHER else "source_words"][row]]
        side = "above" if check.above is not None else "below"
        seen = f", identified as {labels[row]}" if check.signal in JUDGED_TOGETHER else ""
        result.append(f"{role}: {check.signal} is {values[check.signal][row]:.3g}, {side} {limit:.3g}{seen}")
    return result
