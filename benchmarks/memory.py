"""Lookup of 100,000 sentences in a translation memory of a million entries: seconds and peak memory, by pyarrow (ours), DuckDB and Polars.

All entries are in one language, the worst case, once as the 250 files that blocks of 4,000 sentences leave and once compacted into one. Each way runs
in a process of its own on the same files and returns the same rows; half of the keys are in the memory. DuckDB and Polars are measured where they
are installed (pip install duckdb polars); they do not check the pages' checksums, ours does.

    python -m benchmarks.memory
"""

import argparse
import hashlib
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from pipeline.corpus import TRANSLATIONS
from pipeline.memory import Memory

LANGUAGE = "deu_Latn"
WAYS = ("pyarrow", "duckdb", "polars")


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def fill(memory: Memory, entries: int, block: int) -> None:
    for start in range(0, entries, block):
        numbers = range(start, min(start + block, entries))
        rows = [
            {
                "key": key(n),
                "source": f"This is sentence number {n} of the memory, of usual length.",
                "text": f"Das ist der Satz Nummer {n} des Speichers, von üblicher Länge.",
                "status": "translated",
                "log_probability": -0.5,
                "unknown_tokens": 0,
                "rung": "first",
            }
            for n in numbers
        ]
        memory.add(LANGUAGE, pa.Table.from_pylist(rows, schema=TRANSLATIONS))


def wanted_keys(entries: int, wanted: int) -> pa.Array:
    step = max(1, 2 * entries // wanted)
    return pa.array([key(n) for n in range(0, step * wanted, step)])


def look_up(way: str, folder: Path, keys: pa.Array) -> int:
    """Number of rows found."""
    pattern = str(folder / "engine" / LANGUAGE / "*.parquet")
    if way == "pyarrow":
        return Memory(folder, "engine").lookup(LANGUAGE, keys).num_rows
    table = pa.table({"key": keys})
    if way == "duckdb":
        import duckdb

        found = duckdb.sql(
            f"select m.* from read_parquet('{pattern}') m semi join (select key from \"table\") t using (key) order by key"
        )
        return found.to_arrow_table().num_rows
    import polars

    scan = polars.scan_parquet(pattern).join(polars.from_arrow(table).lazy(), on="key", how="semi").sort("key")
    return scan.collect(engine="streaming").height


def measure(way: str, folder: Path, entries: int, wanted: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--one", way, str(folder), str(entries), str(wanted)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--wanted", type=int, default=100_000)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, folder, entries, wanted = options.one
        keys = wanted_keys(int(entries), int(wanted))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        rows = look_up(way, Path(folder), keys)
        spent = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sys.stdout.write(
            json.dumps({"rows": rows, "seconds": spent, "peak_mb": peak / 1024, "added_mb": (peak - before) / 1024})
        )
        return
    ways = [w for w in WAYS if w == "pyarrow" or importlib.util.find_spec(w)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        memory = Memory(folder, "engine")
        fill(memory, options.entries, 4000)
        sys.stdout.write(f"{options.wanted:,} of {options.entries:,} entries\n")
        sys.stdout.write(f"{'':<10} {'files':>6} {'rows':>8} {'seconds':>8} {'against ours':>13} {'peak MB':>8}\n")
        for _ in range(2):
            found = {way: measure(way, folder, options.entries, options.wanted) for way in ways}
            assert len({f["rows"] for f in found.values()}) == 1, found
            for way, f in found.items():
                ratio = f["seconds"] / found["pyarrow"]["seconds"]
                files = len(memory.parts(LANGUAGE))
                sys.stdout.write(
                    f"{way:<10} {files:>6} {f['rows']:>8,.0f} {f['seconds']:>8.2f} {ratio:>12.1f}x {f['peak_mb']:>8.0f}\n"
                )
            subprocess.run(
                [sys.executable, "-m", "pipeline.memory", "compact", str(folder)], check=True, stdout=subprocess.DEVNULL
            )


if __name__ == "__main__":
    main()
