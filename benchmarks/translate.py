"""Sentences a second of four ways to translate the same texts with the same weights, measured in one run.

    (a) transformers, float32, greedy, batches in the given order: what mBLIP's published scripts do
    (b) a plain CTranslate2 int8 loop over batches in the given order
    (c) Polyalign from an empty memory: each sentence once, like lengths together
    (d) Polyalign again, with what (c) remembered

The texts are the fields of the embedded sample as they come: captions and questions with the repetition that VQA really has. The model is the
embedded one (7 million parameters), so the figures say how the ways compare on small weights; with a larger model decoding weighs more and
everything around it less.

    python -m benchmarks.translate --languages deu_Latn hin_Deva zho_Hans --limit 800
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import torch

from pipeline.corpus import UNTRANSLATED_ROLES
from pipeline.languages import ENGLISH
from pipeline.memory import Memory
from pipeline.mix import Mix, TranslationConfig, read_mix
from pipeline.requests import Segmenter, cut_blocks, planned_rows, unanswered, wanted_sentences
from pipeline.sources.read import read_examples
from pipeline.translate import Engine, load_engine

ROOT = Path(__file__).resolve().parents[1]
BATCH = 32
MAX_NEW_TOKENS = 64


def batches(texts: list[str]) -> list[list[str]]:
    return [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]


def with_transformers(folder: Path, texts: list[str], languages: list[str]) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), src_lang=ENGLISH)
    model = AutoModelForSeq2SeqLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    for language in languages:
        first = tokenizer.convert_tokens_to_ids(language)
        for batch in batches(texts):
            inputs = tokenizer(batch, return_tensors="pt", padding=True)
            with torch.inference_mode():
                out = model.generate(**inputs, forced_bos_token_id=first, num_beams=1, max_new_tokens=MAX_NEW_TOKENS)
            tokenizer.batch_decode(out, skip_special_tokens=True)


def with_plain_ctranslate2(engine: Engine, texts: list[str], languages: list[str]) -> None:
    tokenizer, translator = engine.tokenizer, engine.translator
    for language in languages:
        for batch in batches(texts):
            tokens = [e.tokens for e in tokenizer(batch).encodings]
            results = translator.translate_batch(
                tokens, target_prefix=[[language]] * len(batch), beam_size=1, max_decoding_length=MAX_NEW_TOKENS
            )
            ids = [tokenizer.convert_tokens_to_ids(r.hypotheses[0][1:]) for r in results]
            tokenizer.batch_decode(ids, skip_special_tokens=True)


def with_polyalign(engine: Engine, planned: dict[str, list[dict]], memory: Memory) -> int:
    """Returns how many sentences were decoded."""
    wanted = wanted_sentences(planned, engine.key, Segmenter())
    decoded = 0
    for block in cut_blocks(unanswered(wanted, memory), 4000).to_pylist():
        memory.add(block["language"], engine.translate(block["keys"], block["texts"], block["language"]))
        decoded += len(block["keys"])
    for language in planned:
        keys = wanted.filter(pa.compute.equal(wanted["language"], language))["key"]
        memory.lookup(language, keys)
    return decoded


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--languages", nargs="+", default=["deu_Latn", "hin_Deva", "zho_Hans", "arb_Arab"])
    parser.add_argument("--limit", type=int, default=600, help="texts in each language")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    mix: Mix = read_mix(ROOT / "demo" / "mix.yaml")
    examples = read_examples(mix).examples
    rows = examples.to_pylist()
    kept, texts = [], []
    for row in rows:
        mine = [f["text"] for f in row["fields"] if f["role"] not in UNTRANSLATED_ROLES]
        if row["task"] in ("captioning", "vqa", "matching") and len(texts) + len(mine) <= options.limit:
            kept.append(row["id"])
            texts += mine
    plan = pa.table(
        {"example": kept * len(options.languages), "language": [x for x in options.languages for _ in kept]}
    )
    planned = planned_rows(examples, plan, [])
    engine = load_engine(TranslationConfig(model=str(ROOT / "demo" / "translation_model" / "ct2-int8")))
    torch.set_num_threads(engine.threads)
    engine.translate(["warm"], ["warm up"], options.languages[0])
    total = len(texts) * len(options.languages)
    sys.stdout.write(
        f"{len(texts):,} texts ({len(set(texts)):,} different) into {len(options.languages)} languages, {engine.threads} threads, "
        f"torch {torch.get_num_threads()} threads\n"
    )
    names = ("(a) transformers", "(b) plain CTranslate2", "(c) Polyalign, empty memory", "(d) Polyalign, warm memory")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            memory = Memory(Path(folder), engine.key)
            times[names[0]].append(
                seconds(lambda: with_transformers(ROOT / "demo" / "translation_model" / "hf", texts, options.languages))
            )
            times[names[1]].append(seconds(lambda: with_plain_ctranslate2(engine, texts, options.languages)))
            for name in names[2:]:
                times[name].append(seconds(lambda m=memory: with_polyalign(engine, planned, m)))  # type: ignore[misc]
    median = {name: sorted(t)[len(t) // 2] for name, t in times.items()}
    sys.stdout.write(
        f"{'median of ' + str(options.rounds) + ' rounds':<30} {'texts/s':>9} {'against (a)':>12} {'against (b)':>12}\n"
    )
    for name, value in median.items():
        sys.stdout.write(
            f"{name:<30} {total / value:>9,.0f} {median[names[0]] / value:>11.1f}x {median[names[1]] / value:>11.1f}x\n"
        )


if __name__ == "__main__":
    main()
