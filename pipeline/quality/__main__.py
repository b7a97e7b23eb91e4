"""Scores anyone's own pairs: a source and its translation a row.

    python -m pipeline.quality PAIRS.parquet OUT.parquet       # or .csv, or .jsonl; in and out need not be alike

Columns `source` (English), `text`, `language` (NLLB code, or any code of `languages.csv`), and optionally `task` and `id`. Every row comes out
again, in the same order, with every score, the likeliest language, `verdict` (accepted or rejected), `reason` and `detail`. A table per language
goes to the terminal. `--policy FILE` judges by other thresholds. Rows are read and written in batches, so memory does not grow with the file; a
large file is judged by as many processes as there are cores (`--processes N`), and the result is the same.
"""

import argparse
import sys
from pathlib import Path

from pipeline.processes import available_cores
from pipeline.quality.lid import load_identifier
from pipeline.quality.pairs import run
from pipeline.quality.policy import read_policy


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.quality", description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path, help="Parquet, CSV or JSONL with source, text, language")
    parser.add_argument("out", type=Path, help="where to write; Parquet, CSV or JSONL by its suffix")
    parser.add_argument("--policy", type=Path, default=None, help="thresholds (default: those of the package)")
    parser.add_argument("--identifier", type=Path, default=None, help="a fastText model in place of lid.176")
    parser.add_argument("--labels", default="lid176", help="the column of languages.csv with the identifier's labels")
    parser.add_argument("--processes", type=int, default=available_cores(), help="at once (default: the cores)")
    options = parser.parse_args(arguments)
    try:
        identifier = load_identifier(options.identifier, options.labels)
        table = run(options.pairs, options.out, read_policy(options.policy), identifier, options.processes)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(table + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
