"""The translation memory: a sentence is translated once per (text, language, model, decoding settings), ever.

An entry's key is a hash of exactly these things, so entries of different models live side by side and nothing has to be invalidated. On disk the
memory is Parquet: one folder a model-and-settings (`engine`), one folder a language in it, one file a finished block. Writers need no lock: a file
is renamed into place whole. A file that is damaged is noticed by its page checksums, set aside as `.damaged`, and its sentences are translated
again. Where several files answer a key, the answer is chosen by its content, so it does not matter who wrote when, or what was compacted.

Lookups go through the files with pyarrow in groups, so memory depends on the group and what is found, not on the folder. `benchmarks/memory.py`
holds it against DuckDB and Polars, which are no dependency of ours and do not check the pages' checksums.

    python -m pipeline.memory size    runs/memory
    python -m pipeline.memory compact runs/memory
    python -m pipeline.memory merge   OTHER runs/memory
    python -m pipeline.memory export  runs/memory memory.tmx --to deu_Latn        # or memory.jsonl
"""

import argparse
import hashlib
import json
import logging
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import files
from pipeline.corpus import TRANSLATIONS
from pipeline.languages import BY_NLLB, ENGLISH, find_language

logger = logging.getLogger(__name__)

GROUP_ROWS = 400_000
ENGINE_FILE = "engine.json"
NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class MemoryFolderError(ValueError):
    """A folder that is no translation memory, or an export that can't be made."""


def normalise(text: str) -> str:
    """Unicode NFC: two ways to write one character are one sentence."""
    return unicodedata.normalize("NFC", text)


def sentence_key(engine: str, language: str, text: str) -> str:
    """Content address of a translation, 32 hexadecimal digits. `engine`: model fingerprint and decoding settings (`translate.py`)."""
    content = "\0".join((engine, language, normalise(text)))
    return hashlib.sha256(content.encode("utf-8")).hexdigest()[:32]


def part_name(keys: list[str]) -> str:
    """Name of the file that answers these keys, in this order."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32]


def best_answers(found: pa.Table) -> pa.Table:
    """One row a key, sorted by key. Of several answers the most probable one, and of equally probable ones the one whose text sorts first."""
    ordered = found.sort_by(
        [("key", "ascending"), ("log_probability", "descending"), ("text", "ascending"), ("status", "ascending")]
    )
    keys = ordered["key"].combine_chunks()
    return ordered.take(pc.index_in(pc.unique(keys), value_set=keys)) if len(keys) else ordered


def _filtered(tables: list[pa.Table], wanted: pa.Array | None) -> pa.Table:
    table = pa.concat_tables(tables)
    return table if wanted is None else table.filter(pc.is_in(table["key"], value_set=wanted))


class Memory:
    """The translations of one engine below a folder. Cheap to make; holds no open file."""

    def __init__(self, folder: Path, engine: str, description: dict[str, Any] | None = None) -> None:
        """`description` is written beside the entries for people: which model and settings `engine` stands for."""
        self.folder = folder / engine
        self.engine = engine
        self.description = description

    def parts(self, language: str) -> list[Path]:
        return sorted((self.folder / language).glob("*.parquet"))

    def languages(self) -> list[str]:
        return sorted(p.name for p in self.folder.iterdir() if p.is_dir()) if self.folder.is_dir() else []

    def add(self, language: str, translations: pa.Table) -> None:
        """Store a finished block (schema TRANSLATIONS)."""
        if self.description is not None and not (self.folder / ENGINE_FILE).exists():
            files.write_json(self.folder / ENGINE_FILE, self.description)
        name = part_name(translations["key"].to_pylist())
        files.write_table(self.folder / language / f"{name}.parquet", translations.cast(TRANSLATIONS))

    def lookup(self, language: str, keys: pa.Array | pa.ChunkedArray) -> pa.Table:
        """Entries for `keys` (schema TRANSLATIONS), sorted by key, each key once; keys without an entry are left out."""
        wanted = pc.unique(keys)
        found = list(self.read(language, wanted)) if len(wanted) else []
        return best_answers(pa.concat_tables(found or [TRANSLATIONS.empty_table()]))

    def known(self, language: str, keys: pa.Array | pa.ChunkedArray) -> pa.Array:
        """Those of `keys` that have an entry."""
        return self.lookup(language, keys)["key"].combine_chunks()

    def read(self, language: str, wanted: pa.Array | None = None) -> Iterator[pa.Table]:
        """Entries of a language in tables of about `GROUP_ROWS`, only those with a key in `wanted` if given.

        A damaged file gives nothing, not even the part before the damage: it is set aside with a warning. Files are filtered together in
        groups, since the hash table of `wanted` is built anew for each call.
        """
        group: list[pa.Table] = []
        for path in self.parts(language):
            try:
                group.append(self._read_part(path))
            except FileNotFoundError:
                continue  # compacted in this moment; its entries are in a file that is there
            except (pa.ArrowInvalid, OSError, ValueError) as error:
                logger.warning(
                    "translation memory: %s is damaged (%s). Set aside; its sentences are translated again.",
                    path,
                    error,
                )
                path.replace(path.with_suffix(".damaged"))
            if sum(t.num_rows for t in group) >= GROUP_ROWS:
                yield _filtered(group, wanted)
                group = []
        if group:
            yield _filtered(group, wanted)

    @staticmethod
    def _read_part(path: Path) -> pa.Table:
        table = files.read_table(path)
        if not table.schema.equals(TRANSLATIONS):
            raise ValueError("it has another schema")
        return table

    def compact(self, language: str) -> int:
        """Join the files of a language into one; returns how many there were. Entries are never lost: the new file is in place before the
        old ones go, and files that others write meanwhile are not touched."""
        paths = self.parts(language)
        if len(paths) > 1:
            tables = list(self.read(language))
            if tables:
                joined = best_answers(pa.concat_tables(tables))
                self.add(language, joined)
                kept = f"{part_name(joined['key'].to_pylist())}.parquet"
                for path in paths:
                    if path.name != kept:
                        path.unlink(missing_ok=True)
        return len(paths)


def engines(folder: Path) -> list[Memory]:
    """The memories of all engines below a folder. Raises MemoryFolderError when it is none."""
    found = (
        sorted(p.name for p in folder.iterdir() if p.is_dir() and any(p.glob("*/*.parquet"))) if folder.is_dir() else []
    )
    if not found:
        raise MemoryFolderError(
            f"{folder} is no translation memory: a memory has a folder for each engine, with a folder for each language."
        )
    return [Memory(folder, name) for name in found]


def is_into_english(memory: Memory) -> bool:
    """True for a memory of texts that were translated back; its folders of languages are then those of the sources."""
    path = memory.folder / ENGINE_FILE
    return path.exists() and files.read_json(path).get("target_language") == ENGLISH


def entries(memory: Memory, languages: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(language, entry), each key once, sorted by language and key."""
    for language in languages:
        tables = list(memory.read(language))
        if tables:
            for batch in best_answers(pa.concat_tables(tables)).to_batches():
                for entry in batch.to_pylist():
                    yield language, entry


def merge(other: Path, folder: Path) -> int:
    """Take over all files of the memory `other`; returns how many were new. Equal blocks have equal names and are taken once."""
    taken = 0
    for memory in engines(other):
        target = Memory(folder, memory.engine)
        if (memory.folder / ENGINE_FILE).exists() and not (target.folder / ENGINE_FILE).exists():
            files.write_json(target.folder / ENGINE_FILE, files.read_json(memory.folder / ENGINE_FILE))
        for language in memory.languages():
            there = {p.name for p in target.parts(language)}
            for path in memory.parts(language):
                if path.name not in there:
                    files.write_table(target.folder / language / path.name, files.read_table(path))
                    taken += 1
    return taken


def export(folder: Path, out: Path, languages: list[str] | None) -> int:
    """Write finished translations as TMX 1.4 or JSONL, by the ending of `out`; returns how many. Characters that XML can't hold are left out
    of a TMX file, with a warning."""
    if out.suffix not in (".tmx", ".jsonl"):
        raise MemoryFolderError(f"{out}: the ending says the format; use .tmx or .jsonl.")
    count = changed = 0
    with files.written_aside(out) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        if out.suffix == ".tmx":
            file.write('<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4">\n')
            header = 'creationtool="polyalign" creationtoolversion="1" segtype="sentence" o-tmf="parquet" adminlang="en" datatype="plaintext"'
            file.write(f'<header {header} srclang="{BY_NLLB[ENGLISH].tag}"/>\n<body>\n')
        for memory in engines(folder):
            direction = -1 if is_into_english(memory) else 1
            for language, entry in entries(memory, languages or memory.languages()):
                if entry["status"] != "translated":
                    continue
                count += 1
                if out.suffix == ".jsonl":
                    source, target = [ENGLISH, language][::direction]
                    row = {"engine": memory.engine, "source_language": source, "language": target, **entry}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    continue
                tags = [BY_NLLB[ENGLISH].tag, BY_NLLB[language].tag][::direction]
                pair = list(zip(tags, (entry["source"], entry["text"]), strict=True))
                changed += any(NOT_IN_XML.search(text) for _, text in pair)
                segments = (
                    f'<tuv xml:lang="{tag}"><seg>{escape(NOT_IN_XML.sub("", text))}</seg></tuv>' for tag, text in pair
                )
                file.write(f"<tu>{''.join(segments)}</tu>\n")
        if out.suffix == ".tmx":
            file.write("</body>\n</tmx>\n")
        file.flush()
    if changed:
        logger.warning(
            "%s: %d translations lost control characters that XML can't hold; JSONL keeps them.", out, changed
        )
    return count


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.memory", description="Work on a translation memory.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("size", "entries, files and bytes, by engine"),
        ("compact", "join the files of each language into one"),
    ):
        commands.add_parser(name, help=text).add_argument("folder", type=Path)
    merge_parser = commands.add_parser("merge", help="take over the entries of another memory")
    merge_parser.add_argument("other", type=Path)
    merge_parser.add_argument("folder", type=Path)
    export_parser = commands.add_parser("export", help="write the translations as TMX or JSONL")
    export_parser.add_argument("folder", type=Path)
    export_parser.add_argument("out", type=Path, help="a .tmx or .jsonl file")
    export_parser.add_argument("--to", nargs="+", metavar="LANGUAGE", help="only these languages")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    write = sys.stdout.write
    try:
        if options.command == "size":
            for memory in engines(options.folder):
                path = memory.folder / ENGINE_FILE
                name = files.read_json(path).get("model", "") if path.exists() else ""
                write(f"engine {memory.engine} {name}\n{'language':<24} {'entries':>12} {'files':>8} {'MB':>9}\n")
                total = [0, 0, 0.0]
                for language in memory.languages():
                    paths = memory.parts(language)
                    row = [
                        sum(pq.read_metadata(p).num_rows for p in paths),
                        len(paths),
                        sum(p.stat().st_size for p in paths) / 1e6,
                    ]
                    total = [a + b for a, b in zip(total, row, strict=True)]
                    write(f"{language:<24} {row[0]:>12,} {row[1]:>8,} {row[2]:>9.2f}\n")
                write(f"{'all':<24} {total[0]:>12,} {total[1]:>8,} {total[2]:>9.2f}\n")
        elif options.command == "compact":
            joined = sum(m.compact(language) for m in engines(options.folder) for language in m.languages())
            write(f"{joined:,} files joined into {sum(len(m.languages()) for m in engines(options.folder)):,}\n")
        elif options.command == "merge":
            write(f"{merge(options.other, options.folder):,} files taken over into {options.folder}\n")
        else:
            wanted = [find_language(code).nllb for code in options.to] if options.to else None
            write(f"{export(options.folder, options.out, wanted):,} translations written to {options.out}\n")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
