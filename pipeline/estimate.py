"""What a translation will cost, measured before the work: a probe of a few hundred sentences on this machine.

The probe decodes sentences that are really to be translated, a few of each language, chosen by their keys, and measures seconds per source token.
It also counts unknown tokens by language: an NLLB vocabulary lacks many characters (of Chinese above all), and that is better known before the
hours than after them.
"""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass

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
    """Sentences with more tokens than the engine takes; they will not be translated."""

    @property
    def seconds(self) -> float:
        return sum(self.tokens.values()) * self.seconds_per_token

    def seconds_of(self, language: str) -> float:
        return self.tokens.get(language, 0) * self.seconds_per_token


def estimate(engine: Engine, requests: pa.Table, probe_sentences: int = PROBE_SENTENCES) -> Estimate:
    """Tokenise all requests (schema REQUESTS) and decode a sample of them."""
    texts = sorted(set(requests["text"].to_pylist()))
    lengths = (
        {text: len(e.ids) for text, e in zip(texts, engine.tokenizer(texts).encodings, strict=True)} if texts else {}
    )
    tokens: Counter[str] = Counter()
    by_language: dict[str, list[tuple[str, str]]] = defaultdict(list)
    too_long = 0
    for row in requests.to_pylist():
        if lengths[row["text"]] > engine.max_source_tokens:
            too_long += 1
            continue
        tokens[row["language"]] += lengths[row["text"]]
        by_language[row["language"]].append((row["key"], row["text"]))
    each = max(1, probe_sentences // max(1, len(by_language)))
    sample = [(language, *pair) for language in languages_of(requests) for pair in sorted(by_language[language])[:each]]
    if not sample:
        return Estimate(dict(tokens), 0.0, 0, {}, too_long)
    languages, keys, sentences = (list(column) for column in zip(*sample, strict=True))
    engine.translate(keys[:1], sentences[:1], languages[:1])  # loads the weights
    start = time.perf_counter()
    found = engine.translate(keys, sentences, languages)
    seconds = time.perf_counter() - start
    seen, unknown = (
        Counter(languages),
        Counter(x for x, n in zip(languages, found["unknown_tokens"].to_pylist(), strict=True) if n),
    )
    return Estimate(
        tokens=dict(tokens),
        seconds_per_token=seconds / sum(lengths[s] for s in sentences),
        probed=len(sample),
        unknown_share={language: unknown[language] / seen[language] for language in seen},
        too_long=too_long,
    )
