"""Memory over time while a million sentences, 60 % of them repeats, go from examples through the translation memory and back.

The stages are those of the flow, in the same order, with the same tables and blocks: plan, unique sentences, what the memory lacks, blocks, decoding,
storing, collecting, fields. The model is the embedded one, its outputs limited to a token and the ladder off, because what is measured is memory and
not translation; everything else is the real thing. Printed are the resident set at each stage, and during decoding at every twentieth of the
work; at the end by how much it grew from the first tenth of decoding to the last.

    python -m benchmarks.million                          # a million sentences
    python -m benchmarks.million --sentences 50000
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from benchmarks.translate import EMBEDDED, things
from pipeline import translate
from pipeline.corpus import EXAMPLES
from pipeline.memory import Memory
from pipeline.mix import TranslationConfig
from pipeline.requests import Segmenter, cut_blocks, planned_rows, translated_fields, unanswered, wanted_sentences
from pipeline.translate import load_engine

REPEATS = 0.6
LANGUAGES_PER_EXAMPLE = 4
BLOCK_SENTENCES = 4000


def resident_mb() -> float:
    """Resident set of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def make_examples(number: int) -> pa.Table:
    """Captioning examples (schema EXAMPLES), `REPEATS` of whose captions came before."""
    choose = random.Random(4)
    names = things()
    different = max(1, round(number * (1 - REPEATS)))
    texts = [
        f"A {names[i % len(names)]} and number {i} of the {names[(i // 7) % len(names)]}." for i in range(different)
    ]
    texts += choose.choices(texts, k=number - different)
    choose.shuffle(texts)
    rows = [
        {
            "id": f"x:{i}",
            "source": "x",
            "task": "captioning",
            "image": "",
            "fields": [{"role": "caption", "text": text}],
        }
        for i, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=EXAMPLES)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sentences", type=int, default=1_000_000)
    parser.add_argument("--languages", nargs="+", default=["deu_Latn", "hin_Deva", "zho_Hans", "arb_Arab"])
    options = parser.parse_args()
    start = time.perf_counter()

    def tell(what: str) -> None:
        sys.stdout.write(f"{time.perf_counter() - start:>8.0f} s {resident_mb():>8,.0f} MB  {what}\n")
        sys.stdout.flush()

    translate.max_target_tokens = lambda tokens: 2  # the language's code and a token
    engine = load_engine(TranslationConfig(model=str(EMBEDDED / "ct2-int8"), retry=False))
    engine.translate(["warm"], ["warm up"], options.languages[0])
    tell("the model is loaded")
    examples = make_examples(options.sentences // len(options.languages))
    ids = examples["id"].to_pylist()
    plan = pa.table({"example": ids * len(options.languages), "language": [x for x in options.languages for _ in ids]})
    tell(f"{examples.num_rows:,} examples, {plan.num_rows:,} planned sentences")
    planned = planned_rows(examples, plan, [])
    wanted = wanted_sentences(planned, engine.key, Segmenter())
    tell(f"{wanted.num_rows:,} different ones to translate ({1 - wanted.num_rows / plan.num_rows:.0%} are repeats)")
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(Path(folder), engine.key)
        blocks = cut_blocks(unanswered(wanted, memory), BLOCK_SENTENCES)
        seen: list[float] = []
        for number in range(blocks.num_rows):
            (block,) = blocks.slice(number, 1).to_pylist()
            memory.add(block["language"], engine.translate(block["keys"], block["texts"], block["language"]))
            seen.append(resident_mb())
            if (number + 1) % max(1, blocks.num_rows // 20) == 0:
                tell(f"decoded {number + 1:,} of {blocks.num_rows:,} blocks")
        tenth = max(1, len(seen) // 10)
        growth = sum(seen[-tenth:]) / tenth - sum(seen[:tenth]) / tenth
        left = unanswered(wanted, memory).num_rows
        fields = 0
        for language in options.languages:
            keys = wanted.filter(pa.compute.equal(wanted["language"], language))["key"]
            found = memory.lookup(language, keys)
            fields += translated_fields(language, planned[language], found, Segmenter()).num_rows
            tell(f"{language}: every text has its translation")
    tell(f"{fields:,} texts; {left} sentences without an answer; during decoding the memory grew by {growth:,.0f} MB")


if __name__ == "__main__":
    main()
