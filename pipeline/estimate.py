"""What a translation will cost, measured before the work: a probe of a few hundred sentences on this machine.

The probe decodes sentences that are really to be translated, a few of each language, chosen by their keys, and measures seconds per source token.
It also counts unknown tokens by language: an NLLB vocabulary lacks many characters (of Chinese above all), and that is better known before the
hours than after them.
"""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, replace

import pyarrow as pa

from pipeline.requests import languages_of
from pipeline.translate import Engine

PROBE_SENTENCES = 384
BYTES_PER_SENTENCE = 120
"""Size of a stored translation in the memory, zstd-compressed: measured on captions and questions (`benchmarks/memory.py` has longer ones)."""


@dataclass(frozen=True)
class Estimate:
    """Cost of a table of requests."""

    tokens: dict[str, int]
    """Source tokens by language."""
    seconds_per_token: float
    probed: int
    """Sentences that were decoded to find out."""
    unknown_share: dict[str, float]
    """Share of the probed sentences whose output has an unknown token, by language."""
    too_long: int
    """Sentences with more tokens than the engine takes; they will be translated in parts."""

    @property
    def seconds(self) -> float:
        return sum(self.tokens.values()) * self.seconds_per_token

    def seconds_of(self, language: str) -> float:
        return self.tokens.get(language, 0) * self.seconds_per_token


def estimate(engine: Engine, requests: pa.Table, probe_sentences: int = PROBE_SENTENCES) -> Estimate:
    """Tokenise all requests (schema REQUESTS) and decode a sample of them."""
    texts = sorted(set(requests["text"].to_pylist()))
    lengths = dict(zip(texts, engine.token_counts(texts), strict=True))
    tokens: Counter[str] = Counter()
    by_language: dict[str, list[tuple[str, str]]] = defaultdict(list)
    too_long = 0
    for row in requests.to_pylist():
        too_long += lengths[row["text"]] > engine.max_source_tokens
        tokens[row["language"]] += lengths[row["text"]]
        by_language[row["language"]].append((row["key"], row["text"]))
    each = max(1, probe_sentences // max(1, len(by_language)))
    sample = [(language, *pair) for language in languages_of(requests) for pair in sorted(by_language[language])[:each]]
    if not sample:
        return Estimate(dict(tokens), 0.0, 0, {}, too_long)
    languages, keys, sentences = (list(column) for column in zip(*sample, strict=True))
    plain = (
        replace(engine, maps=None) if engine.maps else engine
    )  # each language with a map loads the model anew, which must not count here
    seconds, found = _timed(plain, keys, sentences, languages)
    seen, unknown = (
        Counter(languages),
        Counter(x for x, n in zip(languages, found["unknown_tokens"].to_pylist(), strict=True) if n),
    )
    seconds_per_token = seconds / sum(lengths[s] for s in sentences)
    if engine.maps:
        largest = max(tokens, key=lambda language: (tokens[language], language))
        mine = sorted(by_language[largest])[:probe_sentences]
        keys, sentences = [k for k, _ in mine], [s for _, s in mine]
        seconds_per_token = _timed(engine, keys, sentences, [largest] * len(mine))[0] / sum(
            lengths[s] for s in sentences
        )
    return Estimate(
        tokens=dict(tokens),
        seconds_per_token=seconds_per_token,
        probed=len(sample),
        unknown_share={language: unknown[language] / seen[language] for language in seen},
        too_long=too_long,
    )


def _timed(engine: Engine, keys: list[str], sentences: list[str], languages: list[str]) -> tuple[float, pa.Table]:
    """(seconds, translations), without the time to load the weights."""
    engine.translate(keys[:1], sentences[:1], languages[:1])
    start = time.perf_counter()
    found = engine.translate(keys, sentences, languages)
    return time.perf_counter() - start, found
