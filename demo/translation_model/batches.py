"""Draw training batches: short rows of one target length, grouped by their English text.

An English text is encoded once and decoded into every language drawn for it, so a batch carries its unique English texts and, for each
target row, the index of its text. Rows come in few fixed shapes: bfloat16 kernels are prepared once a shape.

What is drawn how often is the `MASS` table: a share of rows for each kind of pair, within it scarce languages drawn more often than
their number of pairs (exponent `BALANCE`). The sample's own names are oversampled on purpose, which the model card says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from demo.translation_model.split import sample_emoji, training_pairs
from pipeline.languages import BY_NLLB

MASS = {
    "sample": 0.65,
    "cldr-annotations": 0.2,
    "cldr-names": 0.03,
    "libreoffice": 0.02,
    "django": 0.015,
    "iso-codes": 0.015,
    "udhr": 0.03,
    "sentence": 0.04,
}
BALANCE = 0.4
WITHOUT_NAMES = 4.0
"""How much more often a pair of a language without CLDR emoji names is drawn."""

MAX_INTERFACE_LETTERS = 24
"""Longer texts of LibreOffice are left out: there are half a million, and none is about what a picture shows."""

TARGET_LENGTHS = (6, 8, 10, 12, 16, 24, 48, 96)
SOURCE_LENGTHS = (8, 12, 24, 96)
DRAWN = 50_000
ROWS_A_TEXT = 10
# fmt: off
FULL_STOPS = {
    "Deva": "।", "Beng": "।", "Guru": "।", "Hans": "。", "Jpan": "。", "Armn": "։", "Ethi": "።", "Mymr": "။", "Khmr": "។", "Thai": "", "Laoo": "",
}
# fmt: on
"""The full stop of each script that does not write "." (Thai and Lao write none)."""

URDU_FULL_STOP = "۔"


@dataclass(frozen=True)
class Batch:
    source: np.ndarray
    """[texts, source length] token ids: eng_Latn … </s>, padded with <pad>"""
    rows: np.ndarray
    """[rows] index into `source`"""
    decoder_input: np.ndarray
    """[rows, target length] token ids: </s>, language code, … """
    positions: np.ndarray
    """[predicted] flat indices into rows × target length whose next token counts"""
    labels: np.ndarray
    """[predicted] the tokens to predict; -100 fills up to a multiple of 256"""


class Sampler:
    """Weighted pairs, tokenised once."""

    def __init__(self, pairs: pa.Table, tokenizer: PreTrainedTokenizerBase, tokens_per_batch: int, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.tokens_per_batch = tokens_per_batch
        self.pad, self.eos = tokenizer.pad_token_id, tokenizer.eos_token_id
        rows = weighted_rows(pairs)
        english = sorted({row[0] for row in rows})
        number = {text: index for index, text in enumerate(english)}
        self.sources = [np.array(ids, np.int64) for ids in tokenizer(english)["input_ids"]]
        bodies = tokenizer([row[2] for row in rows], add_special_tokens=False)["input_ids"]
        codes = tokenizer.convert_tokens_to_ids([row[1] for row in rows])
        fits = [
            index
            for index, (row, body) in enumerate(zip(rows, bodies, strict=True))
            if body and len(body) + 2 <= TARGET_LENGTHS[-1] and len(self.sources[number[row[0]]]) <= SOURCE_LENGTHS[-1]
            and tokenizer.unk_token_id not in body
        ]  # fmt: skip
        self.text = np.array([number[rows[index][0]] for index in fits])
        self.targets = [np.array([self.eos, codes[index], *bodies[index]], np.int64) for index in fits]
        lengths = np.array([len(target) for target in self.targets])
        self.bucket = np.searchsorted(TARGET_LENGTHS, lengths)
        self.cumulative = np.cumsum([rows[index][3] for index in fits])

    def __iter__(self) -> Iterator[Batch]:
        while True:
            draws = np.searchsorted(self.cumulative, self.random.random(DRAWN) * self.cumulative[-1])
            draws = self.in_chunks(draws)
            chunks = []
            for bucket, length in enumerate(TARGET_LENGTHS):
                members = draws[self.bucket[draws] == bucket]
                size = self.tokens_per_batch // length
                chunks += [(length, members[start : start + size]) for start in range(0, len(members) - size + 1, size)]
            for index in self.random.permutation(len(chunks)):
                yield self.batch(*chunks[index])

    def in_chunks(self, draws: np.ndarray) -> np.ndarray:
        """Draws by target length, and within it in random order, but up to `ROWS_A_TEXT` of one English text side by side.

        Not more: a batch about a handful of texts teaches the decoder to follow the batch instead of the encoder.
        """
        draws = draws[np.lexsort((self.text[draws], self.bucket[draws]))]
        begins = np.ones(len(draws), bool)
        begins[1:] = (np.diff(self.text[draws]) != 0) | (np.diff(self.bucket[draws]) != 0)
        place = np.arange(len(draws)) - np.flatnonzero(begins)[np.cumsum(begins) - 1]
        chunk = np.cumsum(place % ROWS_A_TEXT == 0) - 1
        order = self.random.permutation(chunk[-1] + 1)
        return draws[np.lexsort((order[chunk], self.bucket[draws]))]

    def batch(self, length: int, members: np.ndarray) -> Batch:
        texts, rows = np.unique(self.text[members], return_inverse=True)
        longest = max(len(self.sources[text]) for text in texts)
        source_length = SOURCE_LENGTHS[int(np.searchsorted(SOURCE_LENGTHS, longest))]
        # Fill up to a multiple of 16 texts, to keep the shapes few.
        source = np.full((-(-len(texts) // 16) * 16, source_length), self.pad)
        source[:, 0] = self.eos
        for index, text in enumerate(texts):
            source[index, : len(self.sources[text])] = self.sources[text]
        decoder_input = np.full((len(members), length), self.pad)
        labels = np.full((len(members), length), -100)
        for index, member in enumerate(members):
            target = self.targets[member]
            decoder_input[index, : len(target)] = target
            labels[index, 1 : len(target)] = (*target[2:], self.eos)
        positions = np.flatnonzero(labels.ravel() != -100)
        filled = np.zeros(-(-len(positions) // 256) * 256, np.int64)
        filled[: len(positions)] = positions
        chosen = np.full(len(filled), -100)
        chosen[: len(positions)] = labels.ravel()[positions]
        return Batch(source, rows, decoder_input, filled, chosen)


def weighted_rows(pairs: pa.Table) -> list[tuple[str, str, str, float]]:
    """(english, language, text, weight) of every training pair. Names also come once as a sentence: capitalised, with a full stop."""
    own = set(sample_emoji())
    kinds: list[tuple[str, str, str, str]] = []
    for row in training_pairs(pairs).to_pylist():
        if row["source"] == "libreoffice" and len(row["english"]) > MAX_INTERFACE_LETTERS:
            continue
        kind = "sample" if row["source"] == "cldr-annotations" and row["key"] in own else row["source"]
        kinds.append((row["english"], row["language"], row["text"], kind))
        if kind in ("sample", "cldr-annotations"):
            language = row["language"]
            stop = URDU_FULL_STOP if language == "urd_Arab" else FULL_STOPS.get(BY_NLLB[language].script, ".")
            english, text = (name[0].upper() + name[1:] for name in (row["english"], row["text"]))
            kinds.append((f"{english}.", language, text + stop, "sentence"))
    keys = [(kind, language) for _, language, _, kind in kinds]
    counts: dict[tuple[str, str], int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    named = {language for kind, language in counts if kind == "cldr-annotations" and counts[kind, language] > 500}
    raw = [counts[key] ** -BALANCE * (1.0 if key[1] in named else WITHOUT_NAMES) for key in keys]
    totals: dict[str, float] = {}
    for (kind, _), weight in zip(keys, raw, strict=True):
        totals[kind] = totals.get(kind, 0.0) + weight
    return [
        (english, language, text, MASS[kind] * weight / totals[kind])
        for (english, language, text, kind), weight in zip(kinds, raw, strict=True)
    ]
