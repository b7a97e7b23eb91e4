"""Train an NLLB-format tokenizer: SentencePiece BPE pieces and the language codes as special tokens.

It loads with transformers' `AutoTokenizer` like NLLB's own and gives `src_lang … </s>`. Pieces are trained on a sample that is balanced
over languages, so that none falls apart into letters. NLLB's tokenizer has no byte fallback: every character of a CLDR name is
required to be a piece of its own. There is no normalisation (NFKC would take Thai and Lao vowels apart); the texts are NFC.
"""

from __future__ import annotations

import argparse
import io
import logging
import random
import string
import tempfile
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import sentencepiece
from transformers import NllbTokenizer

from demo.translation_model.split import training_pairs
from pipeline.languages import LANGUAGES

log = logging.getLogger("vocabulary")

PIECES = 10_000
LETTERS_PER_LANGUAGE = 120_000
SEED = 1


def balanced_sentences(pairs: pa.Table) -> list[str]:
    """Text of every language up to the same number of letters (names first), scarce ones repeated up to four times; English has ten times as many."""
    order = {"cldr-annotations": 0, "cldr-names": 1, "udhr": 2, "iso-codes": 3, "django": 4, "libreoffice": 5}
    texts: dict[str, dict[str, int]] = defaultdict(dict)
    for row in sorted(pairs.to_pylist(), key=lambda row: order[row["source"]]):
        texts[row["language"]].setdefault(row["text"], order[row["source"]])
        texts["eng_Latn"].setdefault(row["english"], order[row["source"]])
    sentences: list[str] = []
    for language in sorted(texts):
        lines = list(texts[language])
        random.Random(SEED).shuffle(lines)
        lines.sort(key=lambda line: texts[language][line] > 2)
        room = LETTERS_PER_LANGUAGE * (10 if language == "eng_Latn" else 1)
        chosen: list[str] = []
        for _ in range(4):
            for line in lines:
                if room > 0:
                    chosen.append(line)
                    room -= len(line)
        sentences += chosen
    return sentences


def required_characters(pairs: pa.Table) -> str:
    names = (row["text"] for row in pairs.to_pylist() if row["source"] == "cldr-annotations")
    return "".join(sorted(set(string.printable.strip()).union(*names) - {" ", "\xa0", "▁"}))


def train_vocabulary(pairs: pa.Table) -> bytes:
    """A serialised SentencePiece model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(balanced_sentences(pairs)),
        model_writer=model,
        model_type="bpe",
        vocab_size=PIECES,
        character_coverage=0.9998,
        required_chars=required_characters(pairs),
        normalization_rule_name="identity",
        num_threads=2,
        shuffle_input_sentence=False,
        minloglevel=1,
    )
    return model.getvalue()


def save_tokenizer(model: bytes, folder: Path) -> NllbTokenizer:
    """Write the tokenizer's files as `AutoTokenizer.from_pretrained(folder)` reads them, the SentencePiece model beside them."""
    codes = [language.nllb for language in LANGUAGES]
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "sentencepiece.bpe.model").write_bytes(model)
        tokenizer = NllbTokenizer.from_pretrained(
            scratch, extra_special_tokens=codes, src_lang="eng_Latn", model_max_length=512
        )
    tokenizer.save_pretrained(folder)
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the tokenizer's folder")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tokenizer = save_tokenizer(train_vocabulary(training_pairs(pq.read_table(arguments.pairs))), arguments.out)
    log.info("%d tokens", len(tokenizer))


if __name__ == "__main__":
    main()
