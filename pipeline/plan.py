"""Which example goes to which language.

Every (example, language) pair has a number that depends on nothing but the two names: an exponential race. With u = a hash of the pair in (0, 1)
and w = the language's weight, the pair's arrival time is −ln(u) / w; an example goes to the `per_example` languages that arrive first. For one
language an example this draws each language with probability w / Σw; for more, it is sampling without replacement (Efraimidis and Spirakis,
"Weighted random sampling with a reservoir", 2006). So adding an example moves no other example, adding a language moves only the examples that it
wins, and no rounding leaves a language without examples (mBLIP's `int(N · share)` did). A language below its floor gets the examples that
arrive next.
"""

import hashlib

import numpy as np
import pyarrow as pa

from pipeline.corpus import PLAN
from pipeline.languages import BY_NLLB, ENGLISH
from pipeline.mix import LanguagesConfig

VERSION = 1


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


def _uniforms(example_ids: list[str], name: str) -> np.ndarray:
    """A number in (0, 1) for each pair of an example and `name`, shape (examples,). The mixing is splitmix64's finaliser."""
    x = np.fromiter((_hash64(i) for i in example_ids), dtype=np.uint64, count=len(example_ids))
    with np.errstate(over="ignore"):
        x = x ^ np.uint64(_hash64(name))
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return ((x >> np.uint64(11)).astype(np.float64) + 0.5) / float(1 << 53)


def arrival_times(example_ids: list[str], config: LanguagesConfig) -> np.ndarray:
    """Arrival time of each pair, shape (examples, languages), float64. Smaller comes first."""
    weights = language_weights(config)
    times = np.empty((len(example_ids), len(config.targets)))
    for column, code in enumerate(config.targets):
        times[:, column] = -np.log(_uniforms(example_ids, code)) / weights[column]
    return times


def plan_languages(example_ids: list[str], config: LanguagesConfig) -> pa.Table:
    """The plan (schema PLAN) for examples with unique ids, sorted by language in table order, then by example id."""
    ids = sorted(example_ids)
    if not ids:
        return PLAN.empty_table()
    times = arrival_times(ids, config)
    k = config.per_example
    chosen = np.zeros(times.shape, dtype=bool)
    np.put_along_axis(chosen, np.argpartition(times, k - 1, axis=1)[:, :k], True, axis=1)
    rows: list[tuple[str, str, str]] = []
    for column, code in enumerate(config.targets):
        by_share = np.flatnonzero(chosen[:, column])
        missing = min(config.floor, len(ids)) - len(by_share)
        by_floor = np.empty(0, dtype=np.int64)
        if missing > 0:
            others = np.flatnonzero(~chosen[:, column])
            by_floor = others[np.argsort(times[others, column], kind="stable")[:missing]]
        assigned = {int(i): "share" for i in by_share} | {int(i): "floor" for i in by_floor}
        rows += [(ids[i], code, assigned[i]) for i in sorted(assigned)]
    if config.english > 0:
        in_english = _uniforms(ids, ENGLISH) < config.english
        rows += [(ids[i], ENGLISH, "english") for i in np.flatnonzero(in_english)]
    columns = list(zip(*rows, strict=True))
    return pa.table([pa.array(c, type=pa.string()) for c in columns], schema=PLAN)
