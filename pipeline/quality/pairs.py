"""Judges anyone's own pairs, from a file to a file: what `python -m pipeline.quality` does (`__main__.py`).

Batches are read, judged and written one after the other, or judged by other processes; a process needs this module by its name, which the module
that Python was started with has not.
"""

import json
import sys
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from tqdm import tqdm

from pipeline import files
from pipeline.corpus import CANDIDATES, SCORES_STRUCT, SIGNALS
from pipeline.languages import BY_NLLB, ENGLISH, find_language
from pipeline.processes import process_pool
from pipeline.quality.accept import accept
from pipeline.quality.characters import column
from pipeline.quality.lid import Contract, Identifier, IdentifierSource, load_identifier
from pipeline.quality.policy import Policy
from pipeline.quality.score import score

ROWS = 20_000
"""Rows that are read, scored and written at once."""
BATCHES_FOR_PROCESSES = 5
"""Batches from which more processes pay: each takes some seconds to start."""
NEEDED = ("source", "text", "language")
ADDED = (*(field.name for field in SCORES_STRUCT), "verdict", "reason", "detail")
SUFFIXES = (".parquet", ".csv", ".jsonl")


class PairsError(ValueError):
    """A file of pairs that can't be used: names the file, the row, the reason and the remedy."""


# --- reading ---------------------------------------------------------------------------------------------------------------------------


def read_batches(path: Path) -> Iterator[pa.Table]:
    """The rows of a file in batches; CSV and JSONL as Arrow infers them from their first megabytes. Raises PairsError."""
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=ROWS):
                    yield pa.Table.from_batches([batch])
        elif path.suffix == ".csv":
            kept = pa_csv.ConvertOptions(
                column_types=dict.fromkeys((*NEEDED, "task", "id"), pa.string()), strings_can_be_null=False
            )
            parse = pa_csv.ParseOptions(newlines_in_values=True)
            with pa_csv.open_csv(path, convert_options=kept, parse_options=parse) as reader:
                for batch in reader:
                    yield pa.Table.from_batches([batch])
        else:
            yield from _read_jsonl(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise PairsError(
            f"{path} can't be read: {error}. Give a .parquet, .csv (UTF-8, with a header) or .jsonl file."
        ) from error


def _read_jsonl(path: Path) -> Iterator[pa.Table]:
    schema: pa.Schema | None = None
    rows: list[dict[str, Any]] = []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise PairsError(f"{path}, line {number}: not JSON ({error.msg}). Give one object a line.") from error
            if not isinstance(row, dict):
                raise PairsError(f"{path}, line {number}: {type(row).__name__}, not an object. Give one object a line.")
            if schema is not None and (new := sorted(set(row) - set(schema.names))):
                raise PairsError(
                    f"{path}, line {number}: the key {new[0]!r} was in none of the first {ROWS:,} rows. "
                    "Give it there too, null where there is nothing."
                )
            rows.append({k: column([v])[0].as_py() if isinstance(v, str) else v for k, v in row.items()})
            if len(rows) == ROWS:
                batch = pa.Table.from_pylist(_with_all_keys(rows), schema=schema)
                schema = batch.schema
                yield batch
                rows = []
    if rows:
        yield pa.Table.from_pylist(_with_all_keys(rows), schema=schema)


def _with_all_keys(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


# --- judging ---------------------------------------------------------------------------------------------------------------------------


def judge(
    pairs: pa.Table, identifier: Identifier, policy: Policy, where: str = "pairs", first_row: int = 1
) -> pa.Table:
    """`pairs` with a column more for each of ADDED, in the same order. A row in English gets no scores and is accepted.

    Raises PairsError for a missing column or an unknown language.
    """
    if missing := [name for name in NEEDED if name not in pairs.column_names]:
        raise PairsError(
            f"{where} has no column {', '.join(missing)}; it has {', '.join(pairs.column_names)}. "
            "Columns `source` (English), `text` and `language` are needed."
        )
    if twice := [name for name in ADDED if name in pairs.column_names]:
        raise PairsError(f"{where} has a column {twice[0]!r} already, which would be added. Rename or drop it.")
    languages = _codes(pairs["language"], where, first_row)
    rows = pairs.num_rows
    names = pa.array([str(i) for i in range(rows)], pa.string())
    fields = pa.StructArray.from_arrays(
        [
            pa.array(["caption"] * rows),
            *(pc.fill_null(pc.cast(pairs[x], pa.string()), "").combine_chunks() for x in NEEDED[:2]),
        ],
        names=["role", "source", "text"],
    )
    has_task = "task" in pairs.column_names
    task = pc.fill_null(pc.cast(pairs["task"], pa.string()), "") if has_task else pa.array(["captioning"] * rows)
    candidates = pa.table(
        {
            "id": names,
            "example": names,
            "source": pa.array([""] * rows, pa.string()),
            "task": task,
            "language": pa.array(languages, pa.string()),
            "fields": pa.ListArray.from_arrays(pa.array(np.arange(rows + 1), pa.int32()), fields),
            "status": pa.array(["translated"] * rows, pa.string()),
            "log_probability": pa.array(np.zeros(rows), pa.float32()),
            "unknown_tokens": pa.array(np.zeros(rows), pa.int32()),
        }
    ).cast(CANDIDATES)
    contracts = identifier.resolve(sorted(set(languages)))
    scores = score(candidates, identifier, contracts)
    verdicts = accept(scores, contracts, policy)
    place = pc.index_in(names, value_set=scores["id"].combine_chunks())
    judged = verdicts.take(pc.index_in(names, value_set=verdicts["id"].combine_chunks()))
    struct = scores["scores"].combine_chunks()
    for field in SCORES_STRUCT:
        pairs = pairs.append_column(field.name, pc.struct_field(struct, field.name).take(place))
    reason = pc.fill_null(judged["reason"], "")
    pairs = pairs.append_column("verdict", pc.if_else(pc.equal(reason, ""), "accepted", "rejected"))
    return pairs.append_column("reason", reason).append_column("detail", pc.fill_null(judged["detail"], ""))


def _codes(values: pa.ChunkedArray, where: str, first_row: int) -> list[str]:
    listed = [x if x is None else str(x) for x in values.to_pylist()]
    known = {}
    for code in dict.fromkeys(listed):
        try:
            known[code] = find_language(code or "").nllb
        except ValueError as error:
            raise PairsError(f"{where}, row {first_row + listed.index(code)}: {error}") from error
    return [known[x] for x in listed]


class Tally:
    """Counts of a run, by language."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.reasons: dict[str, Counter[str]] = {}

    def add(self, judged: pa.Table) -> None:
        for code, reason in zip(judged["language"].to_pylist(), judged["reason"].to_pylist(), strict=True):
            language = find_language(code).nllb
            self.rows[language] += 1
            self.reasons.setdefault(language, Counter())[reason] += 1

    def table(self, contracts: dict[str, Contract]) -> str:
        """Rows, accepted rows and reasons per language, and how far its language can be checked."""
        lines = [f"{'language':<30} {'rows':>9} {'accepted':>9} {'%':>6}  {'check':<10} rejected for"]
        for code in sorted(self.rows):
            count = self.reasons[code]
            reasons = ", ".join(f"{r} {n:,}" for r, n in count.most_common() if r)
            check = contracts[code].check if code in contracts else "–"
            name = f"{code} {BY_NLLB[code].name}"
            lines.append(
                f"{name:<30} {self.rows[code]:>9,} {count['']:>9,} {100 * count[''] / self.rows[code]:>6.1f}  {check:<10} {reasons}"
            )
        accepted, total = sum(c[""] for c in self.reasons.values()), self.rows.total()
        lines.append(f"{'all':<30} {total:>9,} {accepted:>9,} {100 * accepted / max(total, 1):>6.1f}")
        return "\n".join(lines)


# --- writing ---------------------------------------------------------------------------------------------------------------------------


class Writer:
    """Writes batches to Parquet, CSV or JSONL by the suffix; the file appears whole when the block ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()
        self._writer: Any = None

    def __enter__(self) -> "Writer":
        self._temporary = self._stack.enter_context(files.written_aside(self.path))
        self._temporary.touch()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        if self._writer is not None:
            self._writer.close()
        return self._stack.__exit__(*error)

    def write(self, batch: pa.Table) -> None:
        if self.path.suffix == ".jsonl":
            self._writer = self._writer or open(self._temporary, "w", encoding="utf-8")  # noqa: SIM115
            self._writer.writelines(
                json.dumps(_readable(row), ensure_ascii=False, default=str) + "\n" for row in batch.to_pylist()
            )
            return
        if self._writer is None:
            is_parquet = self.path.suffix == ".parquet"
            self._writer = (pq.ParquetWriter if is_parquet else pa_csv.CSVWriter)(self._temporary, batch.schema)
        self._writer.write_table(batch)


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its scores in no more digits than they have: they are float32."""
    return {k: float(f"{v:.7g}") if k in SIGNALS and v is not None else v for k, v in row.items()}


def judge_file(pairs: Path, policy: Policy, identifier: Identifier, processes: int) -> Iterator[pa.Table]:
    """Judged batches of a file, in its order."""
    numbered = _with_first_rows(read_batches(pairs))
    first = list(islice(numbered, BATCHES_FOR_PROCESSES))
    if processes < 2 or len(first) < BATCHES_FOR_PROCESSES:
        for batch, row in chain(first, numbered):
            yield judge(batch, identifier, policy, str(pairs), row)
        return
    with process_pool(processes) as pool:
        waiting: deque[Future[pa.Table]] = deque()
        for batch, row in chain(first, numbered):
            waiting.append(pool.submit(_judge_there, batch, identifier.source, policy, str(pairs), row))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _with_first_rows(batches: Iterator[pa.Table]) -> Iterator[tuple[pa.Table, int]]:
    row = 1
    for batch in batches:
        yield batch, row
        row += batch.num_rows


def _judge_there(batch: pa.Table, source: IdentifierSource, policy: Policy, where: str, row: int) -> pa.Table:
    """`judge` in another process, which loads the identifiers once."""
    return judge(batch, load_identifier(*source), policy, where, row)


def run(pairs: Path, out: Path, policy: Policy, identifier: Identifier, processes: int = 1) -> str:
    """Judge a file; returns the table per language."""
    for path in (pairs, out):
        if path.suffix not in SUFFIXES:
            raise PairsError(f"{path}: the suffix must be one of {', '.join(SUFFIXES)}.")
    tally = Tally()
    with Writer(out) as writer, tqdm(unit=" rows", unit_scale=True, mininterval=1, delay=5, file=sys.stderr) as bar:
        bar.total = pq.ParquetFile(pairs).metadata.num_rows if pairs.suffix == ".parquet" and pairs.exists() else None
        for judged in judge_file(pairs, policy, identifier, processes):
            tally.add(judged)
            writer.write(judged)
            bar.update(judged.num_rows)
        if not tally.rows:
            raise PairsError(f"{pairs} has no rows.")
    return tally.table(identifier.resolve([code for code in tally.rows if code != ENGLISH]))
