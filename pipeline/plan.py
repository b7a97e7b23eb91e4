"""Which example goes to which language.

Every (example, language) pair has a number that depends on nothing but the two names: an exponential race. With u = a hash of the pair in (0, 1)
and w = the language's weight, the pair's arrival time is −ln(u) / w; an example goes to the `per_example` languages that arrive first. For one
language an example this draws each language with probability w / Σw; for more, it is sampling without replacement (Efraimidis and Spirakis,
"Weighted random sampling with a reservoir", 2006). So adding an example moves no other example, adding a language moves only the examples that it
wins, and no rounding leaves a language without examples (mBLIP's `int(N · share)` did). A language below its floor gets the examples that
arrive next; which these are does depend on the other examples, so to grow a dataset without moving anything, name its plan as the one to extend:
all its rows are kept, and only new ones are added.

Memory is bounded: examples are taken in chunks, so the numbers of CHUNK × languages pairs are held at once, and beside them some 100 bytes an
example (measured in `benchmarks/plan.py`).
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.corpus import PLAN
from pipeline.languages import BY_NLLB, ENGLISH
from pipeline.mix import LanguagesConfig
from pipeline.sources.config import SourceConfig, SourceLanguages

VERSION = 2

CHUNK = 100_000
"""Examples whose pairs with all languages are held at once: 76 MB of float64 for 95 languages."""


def language_weights(config: LanguagesConfig) -> np.ndarray:
    """Weights of `config.targets`, shape (languages,), float64, summing to 1."""
    languages = [BY_NLLB[code] for code in config.targets]
    column = {
        "mc4": [x.mc4_percent for x in languages],
        "mt5": [x.mt5_percent for x in languages],
        "uniform": [1.0] * len(languages),
    }[config.shares]
    weights = np.asarray(column, dtype=np.float64) ** config.exponent
    return weights / weights.sum()


def _hash64(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _hashes(names: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A hash of each name, shape (names,), uint64."""
    chunks = names.chunks if isinstance(names, pa.ChunkedArray) else [names]
    parts = [
        np.fromiter((_hash64(i) for i in part.to_pylist()), dtype=np.uint64, count=len(part))
        for chunk in chunks
        for part in (chunk.slice(s, CHUNK) for s in range(0, len(chunk), CHUNK))
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)


def _uniforms(hashes: np.ndarray, name: str) -> np.ndarray:
    """A number in (0, 1) for each pair of an example's hash and `name`, shape (examples,). The mixing is splitmix64's finaliser."""
    with np.errstate(over="ignore"):
        x = hashes ^ np.uint64(_hash64(name))
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return ((x >> np.uint64(11)).astype(np.float64) + 0.5) / float(1 << 53)


@dataclass(frozen=True)
class _Rules:
    """What the mix says about the examples of one source."""

    weights: np.ndarray
    per_example: float
    english: float
    english_instead: bool
    translates: bool


def _rules(config: LanguagesConfig, source: SourceConfig | None) -> _Rules:
    own, weight = (source.languages, source.weight) if source is not None else (None, 1.0)
    if own == "english":
        return _Rules(language_weights(config), 0.0, 1.0, True, False)
    if isinstance(own, SourceLanguages):
        config = config.model_copy(update={k: v for k, v in own.model_dump().items() if v is not None})
    rules = _Rules(
        language_weights(config),
        config.languages_per_example * weight,
        config.english,
        config.english_is == "instead",
        weight > 0,
    )
    return rules


def plan_languages(
    examples: pa.Table,
    config: LanguagesConfig,
    sources: Sequence[SourceConfig] = (),
    given: pa.Table | None = None,
    existing: pa.Table | None = None,
) -> pa.Table:
    """The plan (schema PLAN), sorted by language in table order, then by example id; English is last.

    `examples`: the column `id`, and where they matter `source`, `group` and `given` (schema EXAMPLES). `given`: schema GIVEN. `existing`: a plan to
    extend. Its rows for examples that are still there are all in the result, as they are; an old example gets a new language only if it has
    fewer than the mix now asks for, or for a floor.
    """
    examples = examples.select([c for c in ("id", "source", "group", "given") if c in examples.column_names]).sort_by(
        "id"
    )
    if not examples.num_rows:
        return PLAN.empty_table()
    ids = examples["id"].combine_chunks()
    groups = examples["group"] if "group" in examples.column_names else pa.nulls(len(ids), pa.string())
    names = pc.if_else(pc.fill_null(pc.equal(groups, ""), True), ids, groups)
    state = _Planning(ids, _hashes(names), config, _allowed(examples, names, config, given))
    rule_of = _rule_of(examples, config, {s.name: s for s in sources})
    if existing is not None and existing.num_rows:
        state.keep(existing)
    for rules, rows in rule_of:
        state.assign(rules, rows)
    state.fill_floors(
        np.concatenate([rows for rules, rows in rule_of if rules.translates] or [np.empty(0, dtype=np.int64)])
    )
    return state.table()


def _rule_of(
    examples: pa.Table, config: LanguagesConfig, sources: Mapping[str, SourceConfig]
) -> list[tuple[_Rules, np.ndarray]]:
    """(rules, positions of the examples), one pair a source."""
    if "source" not in examples.column_names or not sources:
        return [(_rules(config, None), np.arange(examples.num_rows))]
    encoded = examples["source"].combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    return [
        (_rules(config, sources.get(name)), np.flatnonzero(codes == code))
        for code, name in enumerate(encoded.dictionary.to_pylist())
    ]


def _allowed(
    examples: pa.Table, names: pa.ChunkedArray | pa.Array, config: LanguagesConfig, given: pa.Table | None
) -> dict[int, np.ndarray]:
    """For examples with given names: which of the targets have one, shape (languages,), bool, by position. Examples of one group share what they
    all have."""
    if given is None or "given" not in examples.column_names:
        return {}
    column = {code: i for i, code in enumerate(config.targets)}
    have: dict[str, np.ndarray] = {}
    for key, language in zip(given["key"].to_pylist(), given["language"].to_pylist(), strict=True):
        if language in column:
            have.setdefault(key, np.zeros(len(column), dtype=bool))[column[language]] = True
    keys = examples["given"].combine_chunks()
    positions = np.flatnonzero(pc.fill_null(pc.not_equal(keys, ""), False).to_numpy(zero_copy_only=False))
    none = np.zeros(len(column), dtype=bool)
    allowed: dict[int, np.ndarray] = {}
    of_group: dict[str, np.ndarray] = {}
    wanted = list(
        zip(positions.tolist(), keys.take(positions).to_pylist(), names.take(positions).to_pylist(), strict=True)
    )
    shared: dict[tuple[bytes], np.ndarray] = {}
    for _, key, group in wanted:
        mask = have.get(key, none)
        mask = of_group[group] & mask if group in of_group else mask
        of_group[group] = shared.setdefault((mask.tobytes(),), mask)
    for position, _, group in wanted:
        allowed[position] = of_group[group]
    return allowed


class _Planning:
    """The plan while it is made: for each language the positions of its examples, and why each is there."""

    def __init__(
        self, ids: pa.Array, hashes: np.ndarray, config: LanguagesConfig, allowed: dict[int, np.ndarray]
    ) -> None:
        self.ids, self.hashes, self.config = ids, hashes, config
        self.limited = np.asarray(sorted(allowed), dtype=np.int64)
        self.masks = (
            np.stack([allowed[i] for i in self.limited.tolist()]) if allowed else np.empty((0, len(config.targets)))
        )
        self.rows: dict[str, list[tuple[np.ndarray, str]]] = {code: [] for code in (*config.targets, ENGLISH)}
        self.had = np.zeros(len(ids), dtype=np.int16)
        """How many languages but English an example of the existing plan has by its share."""
        self.kept: dict[str, np.ndarray] = {}
        """Positions of the examples of the existing plan, by language."""

    def keep(self, existing: pa.Table) -> None:
        """Take over all rows of a plan whose examples are still there."""
        positions = pc.index_in(existing["example"], value_set=self.ids)
        rows = existing.append_column("position", positions).filter(pc.is_valid(positions))
        for code in pc.unique(rows["language"]).to_pylist():
            if code not in self.rows:
                continue
            mine = rows.filter(pc.equal(rows["language"], code))
            for reason in pc.unique(mine["assigned_by"]).to_pylist():
                found = mine.filter(pc.equal(mine["assigned_by"], reason))["position"].to_numpy().astype(np.int64)
                self.rows[code].append((np.sort(found), reason))
                if code != ENGLISH and reason == "share":
                    np.add.at(self.had, found, 1)
            self.kept[code] = np.unique(np.concatenate([r for r, _ in self.rows[code]]))

    def assign(self, rules: _Rules, rows: np.ndarray) -> None:
        """Give languages to the examples at the positions `rows`, by the shares of their source."""
        new: dict[str, list[np.ndarray]] = {code: [] for code in self.rows}
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            hashes = self.hashes[part]
            wanted = _wanted(rules.per_example, hashes, len(self.config.targets))
            english = _uniforms(hashes, ENGLISH) < rules.english
            if rules.english_instead:
                wanted[english] = 0
            new[ENGLISH].append(part[english])
            missing = np.maximum(wanted - self.had[part], 0)
            short = np.flatnonzero(missing)
            part, hashes, missing = part[short], hashes[short], missing[short]
            chosen = self._winners(rules, part, hashes, missing)
            for column, code in enumerate(self.config.targets):
                new[code].append(part[chosen[:, column]])
        for code, parts in new.items():
            found = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
            if code == ENGLISH and ENGLISH in self.kept:
                found = np.setdiff1d(found, self.kept[ENGLISH])
            self.rows[code].append((found, "english" if code == ENGLISH else "share"))

    def _winners(self, rules: _Rules, part: np.ndarray, hashes: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """Which pairs are assigned, shape (examples of the part, languages), bool: of each example the first `missing` that arrive."""
        chosen = np.zeros((len(part), len(self.config.targets)), dtype=bool)
        most = int(missing.max(initial=0))
        if not most:
            return chosen
        times = np.empty(chosen.shape)
        for column, code in enumerate(self.config.targets):
            times[:, column] = -np.log(_uniforms(hashes, code)) / rules.weights[column]
            if (kept := self.kept.get(code)) is not None:
                here = kept[np.searchsorted(kept, part[0]) : np.searchsorted(kept, part[-1], "right")]
                times[np.isin(part, here, assume_unique=True), column] = np.inf
        is_limited = np.isin(part, self.limited, assume_unique=True)
        times[is_limited] = np.where(
            self.masks[np.searchsorted(self.limited, part[is_limited])], times[is_limited], np.inf
        )
        first = np.argpartition(times, most - 1, axis=1)[:, :most]
        arrivals = np.take_along_axis(times, first, axis=1)
        rank = np.argsort(np.argsort(arrivals, axis=1, kind="stable"), axis=1, kind="stable")
        np.put_along_axis(chosen, first, (rank < missing[:, None]) & np.isfinite(arrivals), axis=1)
        return chosen

    def fill_floors(self, rows: np.ndarray) -> None:
        """Give each language below its floor the examples at the positions `rows` that arrive next."""
        rows = np.sort(rows)
        for column, code in enumerate(self.config.targets):
            has = np.concatenate([r for r, _ in self.rows[code]] or [np.empty(0, dtype=np.int64)])
            missing = self.config.floor_of(code) - len(has)
            if missing <= 0:
                continue
            able = np.ones(len(self.ids), dtype=bool)
            able[self.limited] = self.masks[:, column] > 0
            able[has] = False
            others = rows[able[rows]]
            arrivals = -np.log(_uniforms(self.hashes[others], code))
            next_ones = others[np.argsort(arrivals, kind="stable")[:missing]]
            self.rows[code].append((np.sort(next_ones), "floor"))

    def table(self) -> pa.Table:
        parts = []
        for code, found in self.rows.items():
            positions = np.concatenate([r for r, _ in found] or [np.empty(0, dtype=np.int64)])
            reasons = np.concatenate(
                [np.full(len(r), n) for n, (r, _) in enumerate(found)] or [np.empty(0, dtype=np.int64)]
            )
            order = np.argsort(positions, kind="stable")
            names = pa.array([reason for _, reason in found], pa.string())
            if not len(order):
                continue
            columns = [
                self.ids.take(pa.array(positions[order])),
                pa.repeat(pa.scalar(code, pa.string()), len(order)),
                names.take(pa.array(reasons[order])),
            ]
            parts.append(pa.table(columns, schema=PLAN))
        return pa.concat_tables(parts) if parts else PLAN.empty_table()


def _wanted(per_example: float, hashes: np.ndarray, languages: int) -> np.ndarray:
    """Into how many languages each example goes, shape (examples,), int64: `per_example` on average, whole numbers by a hash."""
    whole = int(per_example)
    wanted = np.full(len(hashes), whole, dtype=np.int64)
    if per_example > whole:
        wanted += _uniforms(hashes, "how many languages") < per_example - whole
    return np.minimum(wanted, languages)


@dataclass(frozen=True)
class Overview:
    """What every source and language will get."""

    by_source: dict[str, Counter[str]]
    """Planned texts by source, then by language."""
    examples: Counter[str]
    """Examples by source."""
    used: Counter[str]
    """Examples with at least one planned text, by source."""
    warnings: tuple[str, ...]

    @property
    def by_language(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for counts in self.by_source.values():
            total.update(counts)
        return total

    def grid(self) -> Iterator[str]:
        """Texts by language and source, one line a language, for people."""
        names = list(self.by_source)
        yield f"{'texts of each source':<30}" + "".join(f" {name[:11]:>11}" for name in names)
        totals = self.by_language
        for code in sorted(totals, key=lambda c: (c == ENGLISH, list(BY_NLLB).index(c))):
            yield f"{code:<10} {BY_NLLB[code].name:<19}" + "".join(f" {self.by_source[n][code]:>11,}" for n in names)

    def lines(self) -> Iterator[str]:
        """The table of the sources and the warnings, for people."""
        head = f"{'examples':>10} {'used':>10} {'texts':>11} {'share':>7} {'English':>8}"
        yield f"{'source':<24} {head} {'languages':>10} {'least':>7} {'median':>7} {'most':>8}"
        total = max(sum(c.total() for c in self.by_source.values()), 1)
        for source, counts in self.by_source.items():
            texts, each = counts.total(), sorted(n for code, n in counts.items() if code != ENGLISH) or [0]
            numbers = f"{self.examples[source]:>10,} {self.used[source]:>10,} {texts:>11,} {texts / total:>7.1%}"
            english = f"{counts[ENGLISH] / max(texts, 1):>8.1%}"
            spread = f"{sum(n > 0 for n in each):>10} {each[0]:>7,} {each[len(each) // 2]:>7,} {each[-1]:>8,}"
            yield f"{source:<24} {numbers} {english} {spread}"
        yield from (f"warning: {w}" for w in self.warnings)


def overview(
    examples: pa.Table, plan: pa.Table, config: LanguagesConfig, sources: Sequence[SourceConfig] = ()
) -> Overview:
    """Count a plan by source and language, and say where a language gets too little to matter.

    A language is too small below `config.warn_below` examples; a source that is translated and gives a language nothing is named too, since a
    language then never sees that task (19 languages of mBLIP lacked a source through rounding).
    """
    encoded = examples["source"].combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    places = pc.index_in(plan["example"], value_set=examples["id"].combine_chunks())
    source_of = encoded.indices.take(places.combine_chunks() if isinstance(places, pa.ChunkedArray) else places)
    pairs = (
        pa.table({"source": source_of, "language": plan["language"]})
        .group_by(["source", "language"])
        .aggregate([([], "count_all")])
    )
    by_source: dict[str, Counter[str]] = {name: Counter() for name in sorted(names)}
    for code, language, count in zip(*(pairs[c].to_pylist() for c in ("source", "language", "count_all")), strict=True):
        by_source[names[code]][language] = count
    used = np.bincount(encoded.indices.take(pa.array(np.unique(places.to_numpy()))).to_numpy(), minlength=len(names))
    result = Overview(
        by_source,
        Counter({x["values"]: x["counts"] for x in pc.value_counts(examples["source"].combine_chunks()).to_pylist()}),
        Counter(dict(zip(names, used.tolist(), strict=True))),
        (),
    )
    return Overview(result.by_source, result.examples, result.used, tuple(_warnings(result, config, sources)))


def _warnings(result: Overview, config: LanguagesConfig, sources: Sequence[SourceConfig]) -> Iterator[str]:
    totals = result.by_language
    small = [code for code in config.targets if totals[code] < config.warn_below]
    if small:
        shown = ", ".join(f"{BY_NLLB[c].name} ({totals[c]:,})" for c in small[:12]) + (", …" if len(small) > 12 else "")
        yield (
            f"{len(small)} of the languages get fewer than {config.warn_below:,} texts, too few to matter: {shown}. "
            "Raise `floor` or lower `exponent`, or leave them out."
        )
    stays_english = {s.name for s in sources if s.languages == "english"}
    for source, counts in result.by_source.items():
        without = [code for code in config.targets if not counts[code]]
        if without and source not in stays_english:
            shown = ", ".join(BY_NLLB[c].name for c in without[:12]) + (", …" if len(without) > 12 else "")
            yield f"the source {source} gives nothing to {len(without)} of the languages: {shown}."
    for config_of in sources:
        if config_of.name not in result.by_source:
            yield f"the source {config_of.name} gave no usable example."
