"""The sums on the card: who planned what, and where it went.

Two balances must hold. Of every source: rows read = usable examples + unusable rows (+ what a `limit` left out). Of
every language: planned texts = samples + ledger rows, and not only as numbers: each planned text must be found again
exactly once. A sum alone would not see one text lost and another counted twice.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc


class UnbalancedRun(ValueError):
    """The run folder lost or doubled something; the message names the first of it."""


@dataclass(frozen=True)
class LanguageCount:
    """One line of the account: `planned` texts of a language, and what became of them."""

    language: str
    planned: int
    kept: int
    rejected: dict[str, int]
    """Rows of the ledger by reason."""

    @property
    def turned_away(self) -> int:
        return sum(self.rejected.values())

    @property
    def balanced(self) -> bool:
        return self.planned == self.kept + self.turned_away

    @property
    def kept_share(self) -> float:
        return self.kept / self.planned if self.planned else 0.0


@dataclass(frozen=True)
class SourceCount:
    """What was read from one English dataset, and what it became."""

    source: str
    read: int
    usable: int
    unusable: dict[str, int]
    beyond_limit: int
    """Left out by the mix's options: more than a `limit` asked for, duplicates, other splits, not selected."""
    images: int
    planned: int
    kept: int

    @property
    def balanced(self) -> bool:
        return self.read == self.usable + sum(self.unusable.values()) + self.beyond_limit


@dataclass(frozen=True)
class Tally:
    languages: list[LanguageCount]
    """Largest plan first, then by code."""
    sources: list[SourceCount]
    tasks: dict[str, int]
    """Samples by task."""
    tasks_by_source: dict[str, dict[str, int]]
    reasons: dict[str, int]
    """Ledger rows by reason, most frequent first. This order also fixes the colours on the page."""
    images: int
    examples: int
    planned: int
    kept: int
    faults: list[str] = field(default_factory=list)
    """What does not add up, in words. Empty when all is well."""

    @property
    def turned_away(self) -> int:
        return sum(self.reasons.values())

    @property
    def balanced(self) -> bool:
        return not self.faults


def count_run(
    examples: pa.Table,
    unusable: pa.Table,
    plan: pa.Table,
    samples: pa.Table,
    ledger: pa.Table,
    manifest: dict,
    records_read: dict[str, int],
) -> Tally:
    """Count a run and check it.

    `examples` and `unusable` are the two tables of the examples stage; `plan`, `samples` and `ledger` are those of the
    stages of the same name. `manifest` is that of the shards. `records_read` is what the examples stage has in its
    manifest under this name: rows by source, and under `NAME:REASON` (such as `NAME:beyond_limit`) how many the mix's
    options left out.
    """
    planned = _count(plan, "language")
    kept = _count(samples, "language")
    rejected = _count_pairs(ledger, "language", "reason")
    reasons = Counter({reason: n for reason, n in _count(ledger, "reason").items()})

    languages = [
        LanguageCount(language, planned.get(language, 0), kept.get(language, 0), _by_frequency(rejected[language]))
        for language in sorted({*planned, *kept, *rejected})
    ]
    languages.sort(key=lambda row: (-row.planned, row.language))

    source_of = dict(zip(examples["id"].to_pylist(), examples["source"].to_pylist(), strict=True))
    planned_by_source = Counter(source_of.get(example, "?") for example in plan["example"].to_pylist())
    usable_by_source = _count(examples, "source")
    unusable_by_source = _count_pairs(unusable, "source", "reason")
    kept_by_source = _count(samples, "source")
    images_by_source = _count(examples.group_by(["source", "image_sha256"]).aggregate([]), "source")
    sources = []
    for source in sorted({*usable_by_source, *unusable_by_source, *(name for name in records_read if ":" not in name)}):
        lost = _by_frequency(unusable_by_source[source])
        usable = usable_by_source.get(source, 0)
        beyond = sum(n for reason, n in records_read.items() if reason.startswith(f"{source}:"))
        read = records_read.get(source, 0)
        images = images_by_source.get(source, 0)
        sources.append(
            SourceCount(
                source, read, usable, lost, beyond, images, planned_by_source[source], kept_by_source.get(source, 0)
            )
        )

    tasks_by_source = _count_pairs(samples, "source", "task")
    tasks = _by_frequency(_count(samples, "task"))
    return Tally(
        languages=languages,
        sources=sources,
        tasks=tasks,
        tasks_by_source={source: dict(tasks_by_source[source]) for source in sorted(tasks_by_source)},
        reasons=_by_frequency(reasons),
        images=pc.count_distinct(samples["image_sha256"]).as_py(),
        examples=examples.num_rows,
        planned=plan.num_rows,
        kept=samples.num_rows,
        faults=_find_faults(languages, sources, plan, samples, ledger, manifest),
    )


def _find_faults(
    languages: list[LanguageCount],
    sources: list[SourceCount],
    plan: pa.Table,
    samples: pa.Table,
    ledger: pa.Table,
    manifest: dict,
) -> list[str]:
    faults = [
        f"{row.language}: {row.planned} planned, but {row.kept} samples + {row.turned_away} ledger rows"
        for row in languages
        if not row.balanced
    ]
    faults += [
        f"source {row.source}: {row.read} rows read, but {row.usable} usable + {sum(row.unusable.values())} unusable"
        + (f" + {row.beyond_limit} left out by the mix" if row.beyond_limit else "")
        for row in sources
        if not row.balanced
    ]
    planned_ids = set(
        pc.binary_join_element_wise(
            plan["example"].cast(pa.string()), plan["language"].cast(pa.string()), "@"
        ).to_pylist()
    )
    found = Counter(samples["id"].to_pylist())
    found.update(ledger["id"].to_pylist())
    for what, ids in (
        ("planned but neither a sample nor in the ledger", planned_ids - found.keys()),
        ("a sample or in the ledger but not planned", found.keys() - planned_ids),
        ("found more than once", {id for id, times in found.items() if times > 1}),
    ):
        if ids:
            faults.append(f"{len(ids)} texts are {what}, for example {min(ids)}")
    if manifest["samples"] != samples.num_rows:
        faults.append(f"the shards hold {manifest['samples']} samples, {samples.num_rows} were rendered")
    return faults


def _count(table: pa.Table, column: str) -> dict[str, int]:
    counts = table.group_by(column).aggregate([([], "count_all")]).to_pydict()
    return dict(sorted(zip(counts[column], counts["count_all"], strict=True)))


def _count_pairs(table: pa.Table, first: str, second: str) -> defaultdict[str, dict[str, int]]:
    counts = table.group_by([first, second]).aggregate([([], "count_all")]).to_pydict()
    pairs: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for a, b, n in sorted(zip(counts[first], counts[second], counts["count_all"], strict=True)):
        pairs[a][b] = n
    return pairs


def _by_frequency(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
