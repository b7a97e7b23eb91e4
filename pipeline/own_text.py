"""Translate anyone's own text file with the engine and the memory of the pipeline: `python -m pipeline.translate`.

    python -m pipeline.translate captions.txt captions.{language}.txt --to deu_Latn swh_Latn --model facebook/nllb-200-distilled-600M
    python -m pipeline.translate data.csv out.csv --column caption --to all --model MODEL

Text files (.txt) are a text a line. Tables (.csv, .tsv, .jsonl, .parquet) keep their rows, their order and every column, and get a column
`COLUMN_LANGUAGE` for each language. Every finished block of sentences is in the memory at once, so a killed run goes on where it was. A text that
could not be translated is empty (null) in the output and is reported with its row and the reason.
"""

import csv
import io
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import files, requests
from pipeline.corpus import REQUESTS
from pipeline.languages import ENGLISH, LANGUAGES, find_language
from pipeline.memory import Memory, sentence_key
from pipeline.segment import join
from pipeline.translate import Engine

logger = logging.getLogger(__name__)

FORMATS = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")
MAX_TEXT_CHARACTERS = 100_000


class TextFileError(ValueError):
    """A text file that can't be read or written."""


@dataclass
class TextFile:
    """A read file: the texts to translate, one a row (None where the cell is empty or null), and how to write it with more columns."""

    texts: list[str | None]
    write: Callable[[Path, dict[str, list[str | None]]], None]


def read_texts(path: Path, column: str | None) -> TextFile:
    """Read a file by its ending. Raises TextFileError that names the file, the row and the remedy."""
    if path.suffix not in FORMATS:
        raise TextFileError(f"{path}: the ending says the format; it must be one of {', '.join(FORMATS)}.")
    if (path.suffix == ".txt") != (column is None):
        need = (
            "a text file has no columns: leave --column out" if column else "name the column to translate with --column"
        )
        raise TextFileError(f"{path}: {need}.")
    try:
        reader = {".txt": _read_lines, ".jsonl": _read_jsonl, ".parquet": _read_parquet}.get(path.suffix, _read_csv)
        found = reader(path, column or "")
    except OSError as error:
        raise TextFileError(f"{path} can't be read: {error}.") from error
    for number, text in enumerate(found.texts, start=1):
        if text is not None and len(text) > MAX_TEXT_CHARACTERS:
            limit = f"the limit is {MAX_TEXT_CHARACTERS:,}; split it"
            raise TextFileError(f"{path}, row {number}: the text has {len(text):,} characters; {limit}.")
    return found


def _decoded_lines(path: Path) -> Iterator[str]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise TextFileError(
                    f"{path}, line {number} is not UTF-8 ({error}). Convert the file: iconv -f … -t UTF-8."
                ) from error


def _read_lines(path: Path, _: str) -> TextFile:
    def write(out: Path, columns: dict[str, list[str | None]]) -> None:
        for language, texts in columns.items():
            # a line break inside a text would move all lines after it
            lines = (" ".join((t or "").splitlines()) + "\n" for t in texts)
            files.write_text(Path(str(out).replace("{language}", language)), "".join(lines))

    return TextFile(list(_decoded_lines(path)), write)


def _read_csv(path: Path, column: str) -> TextFile:
    text = "\n".join(_decoded_lines(path))
    dialect: Any = csv.excel_tab if path.suffix == ".tsv" else csv.excel
    rows = list(csv.reader(io.StringIO(text, newline=""), dialect, strict=True))
    header = rows[0] if rows else []
    if header.count(column) != 1:
        raise TextFileError(
            f"{path} has {header.count(column)} columns {column!r}; it has {', '.join(header) or 'none'}."
        )
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise TextFileError(
                f"{path}, record {number} has {len(row)} cells, the header has {len(header)}. Quote cells with commas."
            )

    def write(out: Path, columns: dict[str, list[str | None]]) -> None:
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, dialect, lineterminator="\n")
        writer.writerow([*header, *(f"{column}_{x}" for x in columns)])
        writer.writerows(
            [*row, *(t or "" for t in cells)] for row, *cells in zip(rows[1:], *columns.values(), strict=True)
        )
        files.write_text(out, buffer.getvalue())

    return TextFile([row[header.index(column)] or None for row in rows[1:]], write)


def _read_jsonl(path: Path, column: str) -> TextFile:
    records: list[dict[str, Any]] = []
    for number, line in enumerate(_decoded_lines(path), start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise TextFileError(f"{path}, line {number} is not JSON ({error}).") from error
        if not isinstance(record, dict) or not isinstance(record.get(column), str | None) or column not in record:
            raise TextFileError(f"{path}, line {number}: there must be an object with the text {column!r} (or null).")
        records.append(record)

    def write(out: Path, columns: dict[str, list[str | None]]) -> None:
        names = [f"{column}_{x}" for x in columns]
        rows = (
            {**r, **dict(zip(names, cells, strict=True))} for r, *cells in zip(records, *columns.values(), strict=True)
        )
        files.write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    return TextFile([r[column] for r in records], write)


def _read_parquet(path: Path, column: str) -> TextFile:
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise TextFileError(f"{path} is no Parquet file ({error}).") from error
    if column not in table.column_names or not pa.types.is_string(table.schema.field(column).type):
        raise TextFileError(f"{path} has no text column {column!r}; it has {', '.join(table.column_names)}.")

    def write(out: Path, columns: dict[str, list[str | None]]) -> None:
        wider = table
        for language, texts in columns.items():
            wider = wider.append_column(f"{column}_{language}", pa.array(texts, pa.string()))
        files.write_table(out, wider)

    return TextFile(table[column].to_pylist(), write)


def target_languages(codes: Sequence[str]) -> list[str]:
    """NLLB codes of `codes`, or of all languages for `all`. Raises ValueError for an unknown one."""
    if list(codes) == ["all"]:
        return [x.nllb for x in LANGUAGES if x.nllb != ENGLISH]
    return list(dict.fromkeys(find_language(code).nllb for code in codes))


def check_output(source: Path, out: Path, languages: Sequence[str]) -> None:
    """Raises TextFileError or OSError when the output can't be what is asked for; made before any work."""
    if out.suffix != source.suffix:
        raise TextFileError(f"{out}: the output has the format of the input, so its ending must be {source.suffix}.")
    if out.resolve() == source.resolve():
        raise TextFileError(f"{out} is the input. Name another file.")
    if source.suffix == ".txt" and len(languages) > 1 and "{language}" not in out.name:
        raise TextFileError(
            f"{out}: a text file for each of {len(languages)} languages needs {{language}} in its name."
        )
    files.check_writable(out.parent)


def translate_texts(
    texts: Sequence[str | None],
    languages: Sequence[str],
    engine: Engine,
    memory: Memory,
    progress: Callable[[int, int], None],
) -> tuple[dict[str, list[str | None]], list[tuple[int, str, str]]]:
    """Translate texts into languages. Returns the columns by language, and (row from 1, language, reason) of what was not translated.

    `progress` is called with (sentences just done, sentences to do) after each block.
    """
    segmenter = requests.Segmenter()
    sentences = sorted({s for text in texts if text for s in segmenter.sentences(text)}, key=lambda s: (len(s), s))
    wanted = {x: pa.array([sentence_key(engine.key, x, s) for s in sentences], pa.string()) for x in languages}
    table = pa.concat_tables(
        pa.table([keys, pa.array([x] * len(sentences), pa.string()), pa.array(sentences, pa.string())], schema=REQUESTS)
        for x, keys in wanted.items()
    )
    new = requests.unanswered(table, memory)
    for block in requests.cut_blocks(new, engine.block_sentences).to_pylist():
        memory.add(block["language"], engine.translate(block["keys"], block["texts"], block["language"]))
        progress(len(block["keys"]), new.num_rows)
    columns: dict[str, list[str | None]] = {}
    failures: list[tuple[int, str, str]] = []
    for language in languages:
        found = memory.lookup(language, wanted[language])
        failed = found.filter(pc.not_equal(found["status"], "translated"))
        bad = dict(zip(failed["source"].to_pylist(), failed["status"].to_pylist(), strict=True))
        answers = dict(zip(found["source"].to_pylist(), found["text"].to_pylist(), strict=True))
        column: list[str | None] = []
        for number, text in enumerate(texts, start=1):
            reason = next((bad[s] for s in segmenter.sentences(text) if s in bad), None) if text else None
            if reason:
                failures.append((number, language, reason))
            column.append(None if text is None or reason else join(segmenter.pieces(text), answers))
        columns[language] = column
    return columns, failures
