"""Sentences a second and peak memory of four ways to translate the same English texts with the same weights, each in a process of its own.

    (a) transformers, float32, greedy, batches in the given order: what mBLIP's published scripts do
    (b) a plain CTranslate2 int8 loop over batches in the given order
    (c) Polyalign from an empty memory: each sentence once, like lengths together, all workers busy
    (c, maps) the same with a vocabulary map of 16,384 tokens (NLLB's shape only)
    (d) Polyalign again, with what (c) remembered

Two lists. Captions: all different. VQA: questions and answers of which each text comes several times, as VQAv2's do: `--distinct-questions` and
`--distinct-answers` set the shares that differ (a third and a twentieth by default, about those of VQAv2's training half at its full size; set them
to your own data's). Every different text comes at least once, the rest is drawn by Zipf's law. The texts are put together from words of the embedded
sample.

Two models. `nllb` has the shape of NLLB-200-distilled-600M and random weights (`nllb_shape.py`). Random weights never end a sentence where they
should, so lengths are forced, sentence by sentence: a translation has as many tokens as its source. CTranslate2 gets that by a callback that
stops each sentence at its length, under (b), (c) and (d) alike; transformers computes every row of a batch until its longest is done, as it always
does. The ladder of retries is off there, because every output of random weights is faulty. `embedded` is the model of the demo: 7 million
parameters, real ends, real output, retries on.

(a) is so slow that it gets the first texts of a list only (`--first`); its speed is per text like the others', and the ratios are of speeds.
CPU time is printed beside, because it says more than the clock where other work shares the cores.

Printed at the end: where the time of (c) went, and the limit, which is the multiply–adds that the texts of (c) need by what one core does in int8
matrix products.

    python -m benchmarks.translate                                  # both models, sizes for ten minutes on two idle cores
    python -m benchmarks.translate --model embedded --captions 2000 --questions 4000
"""

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.nllb_shape import SHAPE, VOCABULARY, make_model
from pipeline import retry
from pipeline.languages import ENGLISH
from pipeline.memory import Memory
from pipeline.mix import TranslationConfig
from pipeline.own_text import translate_texts
from pipeline.processes import available_cores
from pipeline.requests import Segmenter
from pipeline.translate import Engine, load_engine
from pipeline.vocabulary import VocabularyMaps, vocabulary_fingerprint

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "demo" / "translation_model"
BATCH = 32
LONGEST = 64
MAP_TOKENS = 16_384
WAYS = {
    "a": "(a) transformers, float32",
    "b": "(b) plain CTranslate2",
    "c": "(c) Polyalign, empty memory",
    "c-maps": "(c, maps) with a vocabulary map",
    "d": "(d) Polyalign, warm memory",
}
TARGETS = {
    ("captions", "c", "b"): 2,
    ("vqa", "c", "b"): 5,
    ("captions", "c", "a"): 10,
    ("vqa", "c", "a"): 10,
    ("vqa", "d", "b"): 200,
}


# --- texts ------------------------------------------------------------------------------------------------------------------------------------


def things() -> list[str]:
    """Names of the sample's pictures, such as "dog face"."""
    rows = [json.loads(line) for line in (ROOT / "demo" / "sample" / "emoji.jsonl").read_text("utf-8").splitlines()]
    return list(dict.fromkeys(row["caption"] for row in rows if row["task"] == "captioning"))


def captions(number: int) -> list[str]:
    """Different captions of 5 to 20 words."""
    choose = random.Random(1)
    names, colours = things(), ["red", "small", "old", "wooden", "bright blue", "white"]
    begin = ["A {c} {x}", "Two people look at a {c} {x}", "There is a {c} {x}", "A close-up of a {c} {x}"]
    middle = ["", " next to a {y}", " between a {y} and a {z}", " in front of a {c2} {y} and some trees"]
    end = [
        " on a table.",
        " in the street.",
        " on a sunny day while somebody walks by.",
        " with a {z} in the background.",
    ]
    found: dict[str, None] = {}
    while len(found) < number:
        pattern = choose.choice(begin) + choose.choice(middle) + choose.choice(end)
        x, y, z = choose.sample(names, 3)
        found[pattern.format(x=x, y=y, z=z, c=choose.choice(colours), c2=choose.choice(colours))] = None
    return list(found)


def vqa(number: int, distinct_questions: float, distinct_answers: float) -> list[str]:
    """Questions and answers in turn, with the shares of different ones; 2 x `number` texts."""
    choose = random.Random(2)
    names = things()
    kinds = [
        "What color is the {x}?",
        "Is there a {x} in the picture?",
        "How many times can you see a {x}?",
        "Is the {x} on the left of the {y}?",
        "What is the {x} next to the {y} made of?",
        "Does the person hold a {x} or a {y}?",
    ]
    questions: dict[str, None] = {}
    while len(questions) < max(1, round(distinct_questions * number)):
        x, y = choose.sample(names, 2)
        questions[choose.choice(kinds).format(x=x, y=y)] = None
    answers = (["yes", "no", "red", "white", "blue", "two", *names])[: max(2, round(distinct_answers * number))]

    def drawn(texts: list[str]) -> list[str]:
        weights = [1 / (rank + 1) for rank in range(len(texts))]
        all_of_them = texts + choose.choices(texts, weights, k=number - len(texts))
        choose.shuffle(all_of_them)
        return all_of_them

    return [text for pair in zip(drawn(list(questions)), drawn(answers), strict=True) for text in pair]


# --- ways -------------------------------------------------------------------------------------------------------------------------------------


def batches(texts: list[str]) -> list[list[str]]:
    return [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]


class ForcedLength:
    """A CTranslate2 translator whose greedy translations have as many tokens as their sources."""

    def __init__(self, translator: Any) -> None:
        self.translator = translator

    def translate_batch(self, source: list[list[str]], **options: Any) -> Any:
        lengths = [len(tokens) for tokens in source]
        longest = max(lengths) + 1  # the target's language code
        forced = {"min_decoding_length": longest, "max_decoding_length": longest}
        return self.translator.translate_batch(
            source, **{**options, **forced}, callback=lambda step: step.step >= lengths[step.batch_id]
        )


def with_transformers(folder: Path, texts: list[str], language: str, threads: int, forced: bool) -> Callable[[], None]:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(str(folder), src_lang=ENGLISH)
    model = AutoModelForSeq2SeqLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    first = tokenizer.convert_tokens_to_ids(language)

    def work() -> None:
        for batch in batches(texts):
            inputs = tokenizer(batch, return_tensors="pt", padding=True)
            longest = inputs["input_ids"].shape[1] + 1
            length = {"min_new_tokens": longest, "max_new_tokens": longest} if forced else {"max_new_tokens": LONGEST}
            with torch.inference_mode():
                out = model.generate(**inputs, forced_bos_token_id=first, num_beams=1, **length)
            tokenizer.batch_decode(out, skip_special_tokens=True)

    return work


def with_plain_ctranslate2(engine: Engine, texts: list[str], language: str, forced: bool) -> Callable[[], None]:
    import ctranslate2

    tokenizer = engine.tokenizer
    plain = ctranslate2.Translator(str(engine.folder), compute_type="int8", intra_threads=engine.threads)
    translator: Any = ForcedLength(plain) if forced else plain

    def work() -> None:
        for batch in batches(texts):
            tokens = [e.tokens for e in tokenizer(batch).encodings]
            results = translator.translate_batch(
                tokens, target_prefix=[[language]] * len(batch), beam_size=1, max_decoding_length=LONGEST
            )
            ids = [tokenizer.convert_tokens_to_ids(r.hypotheses[0][1:]) for r in results]
            tokenizer.batch_decode(ids, skip_special_tokens=True)

    return work


def with_polyalign(engine: Engine, texts: list[str], language: str, memory: Memory) -> Callable[[], None]:
    def work() -> None:
        translate_texts(texts, [language], engine, memory, lambda done, total: None)

    return work


def forced_engine(engine: Engine) -> Engine:
    """The engine with forced lengths, and without the ladder."""
    engine = replace(engine, retry=False)
    load = engine._load
    object.__setattr__(engine, "_load", lambda folder: ForcedLength(load(folder)))
    return engine


def some_map(engine: Engine, language: str) -> VocabularyMaps:
    """A map of as many tokens as a learnt one may have. Which ones makes no difference to the speed of random weights."""
    special = {token.content for token in engine.tokenizer.added_tokens_decoder.values()}
    tokens = sorted(set(engine.tokenizer.get_vocab()) - special)
    chosen = random.Random(3).sample(tokens, min(MAP_TOKENS, len(tokens)))
    return VocabularyMaps(vocabulary_fingerprint(engine.tokenizer), {language: tuple(sorted(chosen))}, {})


# --- measuring --------------------------------------------------------------------------------------------------------------------------------

STAGES: tuple[tuple[str, Any, str], ...] = (
    ("segment", Segmenter, "pieces"),
    ("tokenise", Engine, "_tokens"),
    ("detokenise", Engine, "_read"),
    ("look for faults", retry, "faults"),
    ("memory", Memory, "add"),
    ("memory", Memory, "lookup"),
)


@contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """Seconds by stage, while the block runs."""
    seconds: dict[str, float] = {}
    originals = [(owner, name, getattr(owner, name)) for _, owner, name in STAGES]

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - start

        return call

    for (stage, _, _), (owner, name, function) in zip(STAGES, originals, strict=True):
        setattr(owner, name, timed(stage, function))
    try:
        yield seconds
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)


def peak_mb() -> float:
    """Most memory that this program held. Not `ru_maxrss` where it can be helped: a child's starts at its parent's, which made the weights."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one way in this process: the weights are loaded before the clock starts."""
    forced = options.model == "nllb"
    texts, language = json.loads(Path(options.texts).read_text("utf-8")), options.language
    if way == "a":
        texts = texts[: options.first]
    hugging_face, converted = (
        (options.work / x for x in ("hf", "ct2-int8")) if forced else (EMBEDDED / "hf", EMBEDDED / "ct2-int8")
    )
    engine = load_engine(TranslationConfig(model=str(converted), device="cpu", compute_type="int8"), options.threads)
    if way == "a":
        work = with_transformers(hugging_face, texts, language, options.threads, forced)
    elif way == "b":
        work = with_plain_ctranslate2(engine, texts, language, forced)
    else:
        if way == "c-maps":
            engine = replace(engine, maps=some_map(engine, language))
        if forced:
            engine = forced_engine(engine)
        engine.translate(["warm"], ["A dog runs over the grass."], language)
        work = with_polyalign(engine, texts, language, Memory(options.memory / way.replace("d", "c"), engine.key))
    with stopwatch() as seconds:
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        total, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak = peak_mb()
    return {"texts": len(texts), "seconds": total, "cpu_seconds": cpu, "peak_mb": peak, "stages": seconds}


def in_own_process(way: str, options: argparse.Namespace, texts: Path, memory: Path) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.translate",
        "--way",
        way,
        "--texts",
        str(texts),
        "--memory",
        str(memory),
    ]
    for name in ("model", "language", "threads", "work", "first"):
        command += [f"--{name}", str(getattr(options, name))]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1]
    )
    return found


def int8_speed() -> float:
    """Multiply–adds a second of one core in an int8 matrix product of decoding's shape: 64 rows, 1,024 wide, 4,096 columns."""
    torch.set_num_threads(1)
    left = torch.randint(-127, 127, (64, 1024), dtype=torch.int8)
    right = torch.randint(-127, 127, (4096, 1024), dtype=torch.int8).t()
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(20):
            torch._int_mm(left, right)
        best = min(best, (time.perf_counter() - start) / 20)
    return left.shape[0] * left.shape[1] * right.shape[1] / best


def multiply_adds(output_tokens: int) -> int:
    """For one token of the source and one of the translation, of NLLB-600M's shape with an output layer of so many tokens. Attention's products of
    short sentences are left out: they are under one percent."""
    width, inner = SHAPE["d_model"], SHAPE["encoder_ffn_dim"]
    encoder = SHAPE["encoder_layers"] * (4 * width**2 + 2 * width * inner)
    crossing = SHAPE["decoder_layers"] * 2 * width**2  # keys and values of the source
    decoder = SHAPE["decoder_layers"] * (6 * width**2 + 2 * width * inner)
    return encoder + crossing + decoder + width * output_tokens


def speed(measured: dict[str, Any]) -> float:
    """Texts a second."""
    return float(measured["texts"] / measured["seconds"])


def compare(options: argparse.Namespace) -> None:
    write = sys.stdout.write
    lists = {
        "captions": captions(options.captions),
        "vqa": vqa(options.questions, options.distinct_questions, options.distinct_answers),
    }
    ways = [way for way in WAYS if options.model == "nllb" or way != "c-maps"]
    if options.model == "nllb":
        make_model(EMBEDDED / "hf", options.work)
    engine = load_engine(TranslationConfig(model=str(EMBEDDED / "ct2-int8")))
    for name, texts in lists.items():
        different = list(dict.fromkeys(texts))
        tokens = sum(engine.token_counts(different))
        write(
            f"\n{options.model}, {name}: {len(texts):,} texts, {len(different):,} different with {tokens:,} tokens, into {options.language}, "
        )
        write(
            f"{options.threads} threads\n{'':<32} {'texts/s':>9} {'CPU ms/text':>12} {'peak MB':>8} {'x (a)':>7} {'x (b)':>7}\n"
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "texts.json"
            path.write_text(json.dumps(texts), encoding="utf-8")
            found: dict[str, dict[str, Any]] = {}
            for way in ways:
                found[way] = in_own_process(way, options, path, Path(folder))
                mine = found[way]
                ratios = [f"{speed(mine) / speed(found[x]):.1f}x" if x in found else "–" for x in ("a", "b")]
                cpu = 1000 * mine["cpu_seconds"] / mine["texts"]
                numbers = f"{speed(mine):>9,.1f} {cpu:>12,.1f} {mine['peak_mb']:>8,.0f}"
                write(f"{WAYS[way]:<32} {numbers} {ratios[0]:>7} {ratios[1]:>7}\n")
                sys.stdout.flush()
        for (where, way, against), factor in TARGETS.items():
            for tried in (way, f"{way}-maps"):
                if where == name and tried in found:
                    reached = speed(found[tried]) / speed(found[against])
                    write(f"  aim: ({tried}) {factor} times ({against}): {reached:.1f}\n")
        for way in ("c", "c-maps"):
            if way in found:
                spent = found[way]["stages"]
                rest = found[way]["seconds"] - sum(spent.values())
                parts = [f"decode and all else {rest:.2f} s", *(f"{k} {v:.2f} s" for k, v in spent.items())]
                write(f"  where ({way}) spent its {found[way]['seconds']:.2f} s: {', '.join(parts)}\n")
                if options.model == "nllb":
                    work = tokens * multiply_adds(VOCABULARY if way == "c" else MAP_TOKENS)
                    least = work / (options.int8_speed * options.threads)
                    write(
                        f"  limit of ({way}): {work / 1e9:,.0f} G multiply–adds at {options.int8_speed / 1e9:,.0f} G/s a core: "
                    )
                    write(f"{least:.2f} s, {least / found[way]['seconds']:.0%} of the time it took\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", choices=("nllb", "embedded", "both"), default="both")
    parser.add_argument("--language", default="deu_Latn")
    parser.add_argument("--captions", type=int, default=512)
    parser.add_argument("--questions", type=int, default=1024)
    parser.add_argument("--first", type=int, default=64, help="texts of each list that (a) gets (default: %(default)s)")
    parser.add_argument("--distinct-questions", type=float, default=1 / 3)
    parser.add_argument("--distinct-answers", type=float, default=1 / 20)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "nllb-shape", help="where the random weights go")
    parser.add_argument("--keep", action="store_true", help="keep the random weights (3 GB) for the next time")
    for name in ("--way", "--texts", "--memory"):
        parser.add_argument(name, type=Path if name == "--memory" else str, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        sys.stdout.write(json.dumps(measure(options.way, options)) + "\n")
        return
    options.int8_speed = int8_speed()
    try:
        for model in ("nllb", "embedded") if options.model == "both" else (options.model,):
            compare(argparse.Namespace(**{**vars(options), "model": model}))
    finally:
        if not options.keep:
            shutil.rmtree(options.work, ignore_errors=True)


if __name__ == "__main__":
    main()
