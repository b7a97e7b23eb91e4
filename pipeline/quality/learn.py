"""Learns from real translations what the signals need and the policy's thresholds.

    python -m pipeline.quality.learn PAIRS.parquet

reads pairs of an English text and its human translation (columns `english`, `language`, `text`, `source`, `licence`;
`demo/translation_model/collect.py` makes such a table from installed packages) and writes `learnt.json` and `policy.yaml`. Only half of the
texts are learnt from, chosen by a hash of the English; on the other half the share of good text that is lost is measured, and
`benchmarks/quality.py` tests on it. Names of countries and languages (sources in NAMES) teach the identifiers' habits but no thresholds:
captions are not like them.
"""

import argparse
import hashlib
import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from pipeline import files
from pipeline.corpus import CANDIDATES
from pipeline.languages import BY_NLLB, ENGLISH, LANGUAGES
from pipeline.quality import learnt as learnt_module
from pipeline.quality.accept import failures
from pipeline.quality.characters import numbers
from pipeline.quality.learnt import COMMON_FACTOR, LENGTH_NAMES, LENGTHS, Learnt, LengthFactor
from pipeline.quality.length import _log_ratios, spread
from pipeline.quality.lid import Identifier, Voter, _lines
from pipeline.quality.policy import DEFAULT_POLICY, Policy, parse_policy
from pipeline.quality.score import score
from pipeline.quality.truncation import FINAL, _last

logger = logging.getLogger(__name__)

NAMES = frozenset({"cldr-names", "iso-codes"})
TEXTS_EACH = 120
"""Texts of one language, source and class of length that are used, at most."""
VOTES_EACH = 100
PRIOR_TEXTS = 50
"""The guess that an identifier mostly gives its own label weighs as much as so many texts."""
PRIOR_OWN = 0.6
LEAST_TEXTS = 40
"""Texts of a language in a class of length from which a threshold of its own is learnt."""
LEAST_MEASURED = 15
"""Texts from which a factor is learnt or a share is measured."""


def is_for_learning(english: str) -> bool:
    """Half of all texts; all translations of one English text fall on the same side."""
    return hashlib.blake2b(english.encode("utf-8", "replace"), digest_size=8).digest()[0] % 2 == 0


def length_classes(words: np.ndarray) -> np.ndarray:
    return np.digitize(words, LENGTHS)


def choose(pairs: pa.Table, each: int = TEXTS_EACH) -> pa.Table:
    """At most `each` pairs of every language, source and class of length: those with the smallest hash. In the order of language, then hash."""
    keys = [
        hashlib.blake2b(f"{e}\0{t}".encode("utf-8", "replace"), digest_size=8).digest()
        for e, t in zip(pairs["english"].to_pylist(), pairs["text"].to_pylist(), strict=True)
    ]
    classes = length_classes(numbers(pc.count_substring_regex(pairs["english"], r"\S+")))
    groups = list(zip(pairs["language"].to_pylist(), pairs["source"].to_pylist(), classes.tolist(), strict=True))
    taken: Counter[tuple[str, str, int]] = Counter()
    chosen = []
    for row in sorted(range(len(keys)), key=lambda i: (groups[i][0], keys[i])):
        if taken[groups[row]] < each:
            taken[groups[row]] += 1
            chosen.append(row)
    return pairs.take(pa.array(chosen, pa.int64()))


def candidates_of(pairs: pa.Table, task: str = "captioning", role: str = "caption") -> pa.Table:
    """Pairs in the form of candidates of one field."""
    rows = pairs.num_rows
    fields = pa.StructArray.from_arrays(
        [pa.array([role] * rows, pa.string()), pairs["english"].combine_chunks(), pairs["text"].combine_chunks()],
        names=["role", "source", "text"],
    )
    columns = {
        "id": pa.array([str(i) for i in range(rows)], pa.string()),
        "example": pa.array([str(i) for i in range(rows)], pa.string()),
        "source": pairs["source"] if "source" in pairs.column_names else pa.array(["pairs"] * rows, pa.string()),
        "task": pa.array([task] * rows, pa.string()),
        "language": pairs["language"],
        "fields": pa.ListArray.from_arrays(pa.array(np.arange(rows + 1), pa.int32()), fields),
        "status": pa.array(["translated"] * rows, pa.string()),
        "log_probability": pa.array(np.zeros(rows), pa.float32()),
        "unknown_tokens": pa.array(np.zeros(rows), pa.int32()),
    }
    return pa.table([columns[name] for name in CANDIDATES.names], schema=CANDIDATES)


# --- factors ---------------------------------------------------------------------------------------------------------------------------


def learn_length(pairs: pa.Table) -> LengthFactor:
    """Mean, and the two parts of the variance by least squares on the squared deviations; extreme pairs (beyond 3.5) are left out."""
    ratio, source = _log_ratios(pairs["english"], pairs["text"])
    factor = COMMON_FACTOR._replace(mean=float(np.median(ratio)))
    for _ in range(3):
        usual = np.abs(ratio - factor.mean) <= 3.5 * spread(source, factor)
        weight = 1 / spread(source, factor)[usual] ** 2
        mean = float(np.average(ratio[usual], weights=weight))
        squares = (ratio[usual] - mean) ** 2
        design = np.stack([np.ones(usual.sum()), 1 / (source[usual] + 5)], axis=1)
        base, short = np.linalg.lstsq(design * weight[:, None], squares * weight, rcond=None)[0]
        factor = LengthFactor(mean, float(np.sqrt(max(base, 0.1**2))), float(np.sqrt(max(short, 0.5**2))))
    return LengthFactor(*(round(x, 3) for x in factor))


def learn_final_kept(pairs: pa.Table) -> float | None:
    source_last, text_last = _last(pairs["english"].combine_chunks()), _last(pairs["text"].combine_chunks())
    ends = FINAL[source_last]
    return round(float(FINAL[text_last[ends]].mean()), 3) if ends.sum() >= LEAST_MEASURED else None


def learn_votes(voter: Voter, pairs: pa.Table, known: frozenset[str] | None) -> dict[str, dict[str, float]]:
    """What the labels get on good text of each language: every source counts as at most VOTES_EACH texts."""
    votes = [dict(voter.vote(line)) if line else {} for line in _lines(pairs["text"])]
    languages, sources = pairs["language"].to_pylist(), pairs["source"].to_pylist()
    groups: dict[tuple[str, str], list[dict[str, float]]] = {}
    for vote, language, source in zip(votes, languages, sources, strict=True):
        groups.setdefault((language, source), []).append({**vote, "": max(0.0, 1 - sum(vote.values()))})
    habits: dict[str, defaultdict[str, float]] = {}
    weights: Counter[str] = Counter()
    for (language, _), listed in groups.items():
        weight = min(len(listed), VOTES_EACH)
        weights[language] += weight
        for vote in listed:
            for label, p in vote.items():
                habits.setdefault(language, defaultdict(float))[label] += p * weight / len(listed)
    result = {}
    common: defaultdict[str, float] = defaultdict(float)
    for language, habit in sorted(habits.items()):
        own = [x for x in (BY_NLLB[language].labels[voter.column] or "").split() if known is None or x in known][:1]
        total = weights[language] + PRIOR_TEXTS
        shares = {label: value / total for label, value in habit.items()}
        for label in own:
            shares[label] = shares.get(label, 0) + PRIOR_OWN * PRIOR_TEXTS / total
        result[language] = {k: round(v, 4) for k, v in sorted(shares.items()) if v >= 0.003}
        for label, value in habit.items():
            common[label] += value / weights[language] / len(habits)
    result["*"] = {k: round(v, 5) for k, v in sorted(common.items()) if v >= 0.0003}
    return result


# --- thresholds ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lesson:
    """How one check's thresholds are found."""

    reason: str
    signal: str
    side: str
    comment: str
    fixed: tuple[float | None, ...] | float | None = None
    """Thresholds that are not learnt; or None."""
    budget: float = 0.0
    """Share of good text to lose."""
    strictest: tuple[float | None, ...] = ()
    """By class of length: never stricter than this; None: the check is not made."""
    mildest: float = 0.0
    only: str | None = None


FIVE = len(LENGTH_NAMES)
LESSONS = (
    Lesson("unknown_tokens", "unknown_tokens", "above", "<unk>, ⁇ or U+FFFD: characters that the model can't write", 0),
    Lesson("markup", "markup", "above", "special tokens, tags, entities, placeholders that the English has not", 0),
    Lesson("wrong_script", "script_share", "below", "share of letters in the language's script", 0.5),
    Lesson("source_copy", "source_copy", "above", "share of the English words that came back; one word may be a name or a loanword",
           budget=0.002, strictest=(None, 0.99, 0.7, 0.6, 0.6), mildest=0.99),
    Lesson("repetition", "repetition", "above", "share of the text inside a loop, beyond what the English repeats",
           budget=0.002, strictest=(0.3, 0.2, 0.15, 0.1, 0.1), mildest=0.3),
    Lesson("numbers", "numbers_changed", "above", "share of the numbers that are gone while others came", 0),
    Lesson("options", "options_lost", "above", "share of the option letters (A. B.) that are gone", 0),
    Lesson("too_short", "length_deviation", "below", "standard deviations from the language's usual length",
           budget=0.001, strictest=(-3.5,) * FIVE, mildest=-6.0),
    Lesson("too_wordy", "length_deviation", "above", "as before",
           budget=0.001, strictest=(3.5,) * FIVE, mildest=6.0),
    Lesson("truncated", "truncation", "above", "signs that the text ends early: open brackets, no final mark, shortness",
           budget=0.002, strictest=(2.0, 1.6, 1.4, 1.3, 1.3), mildest=3.0),
    Lesson("log_probability", "log_probability", "below", "the decoder's own score, mean per token of the worst sentence", -5.0),
    Lesson("answer", "answer_agreement", "below", "share of an answer that stands in its question, where the English one is a choice of it", 0.01),
    Lesson("wrong_language", "group_probability", "below",
           "probability of the language or one that it is confused with, against the likeliest other; by the words of all fields",
           budget=0.012, strictest=(0.05, 0.2, 0.3, 0.5, 0.5), mildest=0.003, only="checked"),
    Lesson("english", "english_probability", "above", "for languages that no identifier knows: English is likely among all 96",
           (None, None, 0.08, 0.08, 0.08), only="unverified"),
)  # fmt: skip

HEADER = """\
# Thresholds on the stored scores. Changing one re-runs `accept` and what follows; nothing is translated again.
# The checks are made in this order: a rejected sample's reason in the ledger is the first that applies.
# A list has one threshold for each class of length: 1, 2–3, 4–7, 8–15, 16 and more English words. null: not checked.
# `languages` and `tasks` hold thresholds for some of them, in place of the common ones; tasks win.
# Written by `python -m pipeline.quality.learn`: `budget` is the share of good text that a check was learnt to lose; checks
# without one are set by hand. docs/quality.md tells what each signal measures.
"""


def learn_policy(scores: pa.Table, lessons: Sequence[Lesson] = LESSONS) -> dict[str, Any]:
    """Thresholds (the content of a policy file) from the scores of good text, languages weighing the same."""
    languages = np.array(scores["language"].to_pylist())
    struct = scores["scores"].combine_chunks()
    classes = {name: length_classes(numbers(scores[name])) for name in ("source_words", "words_judged")}
    checks: dict[str, Any] = {}
    for lesson in lessons:
        check: dict[str, Any] = {"signal": lesson.signal}
        if lesson.strictest:
            values = numbers(pc.struct_field(struct, lesson.signal))
            by = classes["words_judged" if lesson.signal.endswith("_probability") else "source_words"]
            common = tuple(_common_limit(lesson, values, languages, by, c) for c in range(FIVE))
            check[lesson.side] = list(common)
            check["budget"] = lesson.budget
            if own := _own_limits(lesson, values, languages, by, common):
                check["languages"] = own
        else:
            check[lesson.side] = list(lesson.fixed) if isinstance(lesson.fixed, tuple) else lesson.fixed
        if lesson.only:
            check["only"] = lesson.only
        checks[lesson.reason] = check
    return {"reject_unfinished": True, "checks": checks}


def _milder(lesson: Lesson, a: float, b: float) -> float:
    return max(a, b) if lesson.side == "above" else min(a, b)


def _bounded(lesson: Lesson, value: float, strictest: float) -> float:
    value = _milder(lesson, value, strictest)
    value = min(value, lesson.mildest) if lesson.side == "above" else max(value, lesson.mildest)
    return round(float(value), 3)


def _quantile(lesson: Lesson, values: np.ndarray, weights: np.ndarray, budget: float) -> float:
    """The threshold that loses `budget` of the weight."""
    order = np.argsort(-values if lesson.side == "above" else values, kind="stable")
    passed = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(int(np.searchsorted(passed, budget, side="right")), len(values) - 1)])


def _common_limit(lesson: Lesson, values: np.ndarray, languages: np.ndarray, by: np.ndarray, c: int) -> float | None:
    strictest = lesson.strictest[c]
    if strictest is None:
        return None
    mine = by == c
    if not mine.any():
        return strictest
    _, code, count = np.unique(languages[mine], return_inverse=True, return_counts=True)
    return _bounded(lesson, _quantile(lesson, values[mine], 1 / count[code], lesson.budget), strictest)


def _own_limits(
    lesson: Lesson, values: np.ndarray, languages: np.ndarray, by: np.ndarray, common: tuple[float | None, ...]
) -> dict[str, list[float | None]]:
    """Thresholds of languages that lose three times the budget or more under the common ones."""
    result = {}
    for language in sorted(set(languages.tolist())):
        own = list(common)
        for c, limit in enumerate(common):
            mine = values[(languages == language) & (by == c)]
            if limit is None or len(mine) < LEAST_TEXTS:
                continue
            lost = np.mean(mine > limit if lesson.side == "above" else mine < limit)
            if lost > max(3 * lesson.budget, 2.5 / len(mine)):
                wanted = _quantile(lesson, mine, np.ones(len(mine)), 2 * lesson.budget)
                own[c] = _bounded(lesson, _milder(lesson, wanted, limit), limit)
        if own != list(common):
            result[language] = own
    return result


def write_policy(path: Path, content: dict[str, Any], lessons: Sequence[Lesson] = LESSONS) -> None:
    lines = [
        HEADER,
        f"reject_unfinished: {'true' if content['reject_unfinished'] else 'false'}   # the output ran into its length limit",
        "checks:",
    ]
    for lesson in lessons:
        check = dict(content["checks"][lesson.reason])
        own = check.pop("languages", {})
        lines += ["", f"  {lesson.reason}:   # {lesson.comment}"]
        lines += [f"    {key}: {_flow(value)}" for key, value in check.items()]
        if own:
            lines += ["    languages:", *(f"      {code}: {_flow(limits)}" for code, limits in own.items())]
    files.write_text(path, "\n".join(lines) + "\n")


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).strip().removesuffix("...").strip()


# --- all -------------------------------------------------------------------------------------------------------------------------------


def learn(pairs: pa.Table, voters: Iterable[Voter]) -> tuple[Learnt, dict[str, Any]]:
    """What `learnt.json` and `policy.yaml` hold, from pairs that are all learnt from."""
    pairs = choose(pairs)
    running = pairs.filter(pc.invert(pc.is_in(pairs["source"], value_set=pa.array(sorted(NAMES)))))
    lengths, final_kept = {}, {}
    for language in (x.nllb for x in LANGUAGES if x.nllb != ENGLISH):
        mine = running.filter(pc.equal(running["language"], language))
        if mine.num_rows >= LEAST_MEASURED:
            lengths[language] = learn_length(mine)
            if (share := learn_final_kept(mine)) is not None:
                final_kept[language] = share
    used = tuple(voters)
    with_english = pa.concat_tables([pairs, _english(running)])
    votes = {v.column: learn_votes(v, with_english, v.known_labels()) for v in used}
    found = Learnt(lengths, final_kept, votes, {}, {})
    identifier = Identifier(used, found)
    scores = score(candidates_of(running), identifier, identifier.resolve([x.nllb for x in LANGUAGES]))
    found = found._replace(told_apart=learn_told_apart(identifier, running))
    return found, learn_policy(scores)


def _english(pairs: pa.Table) -> pa.Table:
    """The English sides as texts of English."""
    unique = pairs.group_by(["english", "source"], use_threads=False).aggregate([])
    rows = unique.num_rows
    table = {
        "english": unique["english"],
        "language": pa.array([ENGLISH] * rows),
        "text": unique["english"],
        "source": unique["source"],
    }
    licence = {"licence": pa.array([""] * rows)} if "licence" in pairs.column_names else {}
    key = {"key": pa.array([""] * rows)} if "key" in pairs.column_names else {}
    found = pa.table({**table, **key, **licence}).select(pairs.column_names)
    return choose(found)


def learn_told_apart(identifier: Identifier, pairs: pa.Table) -> dict[str, dict[str, float]]:
    """For each language and each neighbour in its group: the share of its texts of 8 words or more that are likelier it."""
    classes = {name: i for i, name in enumerate(identifier.classes)}
    words = numbers(pc.count_substring_regex(pairs["english"], r"\S+"))
    result: dict[str, dict[str, float]] = {}
    for code, contract in identifier.resolve([x.nllb for x in LANGUAGES if x.nllb != ENGLISH]).items():
        mine = pairs.filter(pa.array((words >= 8) & np.asarray(pc.equal(pairs["language"], code))))
        if contract.check != "group" or mine.num_rows < LEAST_MEASURED:
            continue
        probabilities = identifier.probabilities(mine["text"])
        result[code] = {
            x: round(float((probabilities[:, classes[code]] > probabilities[:, classes[x]]).mean()), 3)
            for x in contract.accepted[1:]
        }
    return result


def measure_lost(pairs: pa.Table, identifier: Identifier, policy: Policy) -> dict[str, list[float | None]]:
    """By language, the share of good text that the policy loses in each class of length; None under LEAST_MEASURED texts."""
    running = choose(pairs.filter(pc.invert(pc.is_in(pairs["source"], value_set=pa.array(sorted(NAMES))))))
    contracts = identifier.resolve([x.nllb for x in LANGUAGES])
    scores = score(candidates_of(running), identifier, contracts)
    lost = np.any(list(failures(scores, contracts, policy).values()), axis=0)
    languages = np.array(scores["language"].to_pylist())
    by = length_classes(numbers(scores["source_words"]))
    result: dict[str, list[float | None]] = {}
    for code in sorted(set(languages.tolist())):
        mine = [lost[(languages == code) & (by == c)] for c in range(FIVE)]
        result[code] = [round(float(m.mean()), 4) if len(m) >= LEAST_MEASURED else None for m in mine]
    return result


def split(pairs: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The half to learn from and the half to test on."""
    side = pa.array([is_for_learning(e) for e in pairs["english"].to_pylist()])
    return pairs.filter(side), pairs.filter(pc.invert(side))


def main(arguments: list[str] | None = None) -> int:
    from pipeline.quality.lid import load_identifier

    parser = argparse.ArgumentParser(prog="python -m pipeline.quality.learn", description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--learnt", type=Path, default=learnt_module.PATH)
    parser.add_argument("--policy", type=Path, default=DEFAULT_POLICY)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pairs = files.read_table(options.pairs)
    learning, testing = split(pairs)
    voters = load_identifier(None).voters
    found, content = learn(learning, voters)
    write_policy(options.policy, content)
    found = found._replace(
        lost=measure_lost(testing, Identifier(voters, found), parse_policy(content, str(options.policy)))
    )
    sources = pairs.group_by(["source", "licence"], use_threads=False).aggregate([([], "count_all")])
    described = {
        "about": "Counted in human translations that packages ship; no text is kept. Made by python -m pipeline.quality.learn.",
        "sources": sorted(sources.to_pylist(), key=lambda x: x["source"]),
        "identifiers": {v.column: v.version for v in voters},
        **found._asdict(),
    }
    files.write_bytes(options.learnt, files.json_bytes(described) + b"\n")
    logger.info(
        "%s and %s written from %d pairs in %d languages",
        options.learnt,
        options.policy,
        learning.num_rows,
        len(found.lengths),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
