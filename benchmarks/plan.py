"""Planning millions of examples: time and memory, with generated rows in the real schema.

    OMP_NUM_THREADS=1 python benchmarks/plan.py --examples 5000000

The sources and their sizes are in the proportions of `mixes/mblip.yaml`: Web CapFilt, captions, VQA, matching pairs, ImageNet with given names,
English rationales. It plans as the flow does, with a floor and an English share, counts the table of sources and languages, writes the plan as
Parquet, and then extends it by a tenth more examples. Prints seconds of each step and the peak of the resident memory.

Measured on two cores that were busy with three other jobs, with one thread: 5,000,000 examples are planned in 147 s, and the plan is extended by
500,000 in 46 s; the peak is 1.8 GB (that of generating the rows) and 2.1 GB.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline import files
from pipeline.corpus import EXAMPLES, GIVEN
from pipeline.languages import ENGLISH, LANGUAGES
from pipeline.mix import LanguagesConfig
from pipeline.plan import overview, plan_languages
from pipeline.sources.config import JsonlSource, SourceConfig, SourceLanguages

SHARES = {
    "capfilt": ("captioning", 0.45),
    "coco": ("captioning", 0.11),
    "vqa": ("vqa", 0.09),
    "vqg": ("question_generation", 0.09),
    "matching": ("matching", 0.12),
    "imagenet": ("classification", 0.12),
    "aokvqa": ("reasoning", 0.02),
}
BATCH = 250_000


def generate(count: int, first: int = 0) -> pa.Table:
    """`count` examples (schema EXAMPLES), in batches so that making them costs little beside holding them."""
    parts = []
    for source, (task, share) in SHARES.items():
        total = round(count * share)
        for start in range(0, total, BATCH):
            numbers = range(first + start, first + min(start + BATCH, total))
            size = len(numbers)
            texts = [
                {"caption": "a red bus stands beside the old house in the snow, number %d"}.get("caption", "") % n
                for n in numbers
            ]
            offsets = pa.array(np.arange(size + 1, dtype=np.int32))
            fields = pa.ListArray.from_arrays(
                offsets,
                pa.StructArray.from_arrays([pa.repeat("caption", size), pa.array(texts)], names=["role", "text"]),
            )
            columns = {
                "id": [f"{source}:{n * 2654435761 % (1 << 40):012x}" for n in numbers],
                "source": pa.repeat(source, size),
                "task": pa.repeat(task, size),
                "image": [f"{n // 10000:05d}.tar/{n:09d}.jpg" for n in numbers],
                "image_sha256": [f"{n:064x}" for n in numbers],
                "image_format": pa.repeat("jpg", size),
                "image_width": pa.repeat(pa.scalar(256, pa.int32()), size),
                "image_height": pa.repeat(pa.scalar(256, pa.int32()), size),
                "fields": fields,
                "licence": pa.repeat("BSD-3-Clause", size),
                "credit": pa.repeat("", size),
                "group": [f"matching:{n // 2}" for n in numbers] if source == "matching" else pa.repeat("", size),
                "given": [f"n{n % 1000:08d}" for n in numbers] if source == "imagenet" else pa.repeat("", size),
            }
            parts.append(
                pa.table({k: pa.array(v) if isinstance(v, list) else v for k, v in columns.items()}, schema=EXAMPLES)
            )
    return pa.concat_tables(parts)


def given_names() -> pa.Table:
    """Names of 1,000 classes in all languages, each missing a fifth of them."""
    codes = [x.nllb for x in LANGUAGES if x.nllb != ENGLISH]
    rows = [(f"n{c:08d}", code, f"name {c}") for c in range(1000) for i, code in enumerate(codes) if (c + i) % 5]
    return pa.table([pa.array(column) for column in zip(*rows, strict=True)], schema=GIVEN)


def peak_gigabytes() -> float:
    """Peak resident memory of this process so far (Linux counts it in kB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def timed(what: str, function: Callable[[], pa.Table]) -> pa.Table:
    start = time.perf_counter()
    result = function()
    sys.stdout.write(f"{what:<42} {time.perf_counter() - start:>7.1f} s   peak {peak_gigabytes():.2f} GB\n")
    sys.stdout.flush()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--examples", type=int, default=5_000_000)
    parser.add_argument("--per-example", type=int, default=1)
    options = parser.parse_args()
    config = LanguagesConfig(
        shares="mt5", per_example=options.per_example, floor=20_000, english=0.1, english_is="instead"
    )
    sources: list[SourceConfig] = [JsonlSource(name=name, path=Path("x")) for name in SHARES]
    sources = [
        s.model_copy(
            update={"languages": {"aokvqa": "english", "imagenet": SourceLanguages(shares="uniform")}.get(s.name)}
        )
        for s in sources
    ]
    given = given_names()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "examples.parquet"
        files.write_table(path, timed("generate and write examples.parquet", lambda: generate(options.examples)))
        generated = peak_gigabytes()
        columns = ["id", "source", "group", "given"]
        examples = timed("read its columns", lambda: files.read_table(path, columns=columns))
        plan = timed("plan", lambda: plan_languages(examples, config, sources, given))
        table = overview(examples, plan, config, sources)
        timed("count by source and language", lambda: overview(examples, plan, config, sources))
        timed("write plan.parquet", lambda: files.write_table(Path(folder) / "plan.parquet", plan))
        sys.stdout.write(
            "\n".join(table.lines()) + f"\n{examples.num_rows:,} examples, {plan.num_rows:,} rows of the plan\n\n"
        )
        more = generate(options.examples // 10, first=options.examples).select(columns)
        grown = pa.concat_tables([examples, more])
        longer = timed("extend by a tenth", lambda: plan_languages(grown, config, sources, given, plan))
    kept = longer.num_rows - plan.num_rows
    sys.stdout.write(f"{kept:,} rows added; generating alone peaked at {generated:.2f} GB\n")


if __name__ == "__main__":
    main()
