"""Closed answers as people translated them: yes and no, numbers, colours, a few things.

A model given "no" or "orange" alone has nothing to go by. `glossaries/` has one CSV a language with such answers, each with its source; a user's own
file goes before them. A glossary answers a field that is an answer as a whole, whatever its case, article and punctuation, and nothing else.
"""

import csv
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pipeline import files
from pipeline.languages import BY_NLLB, ENGLISH, find_language

FOLDER = Path(__file__).with_name("glossaries")
ARTICLE = re.compile(r"^(an?|the)\s+")


class GlossaryError(ValueError):
    """A glossary file that can't be used; says which line and what to change."""


class Entry(NamedTuple):
    text: str
    source: str


def normalise_answer(text: str) -> str:
    """What two answers must share to be the same: NFKC, no case, no punctuation round it, single spaces, no invisible characters."""
    visible = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    words = " ".join(visible.casefold().split())
    first, last = 0, len(words)
    while first < last and unicodedata.category(words[first])[0] in "PSZ":
        first += 1
    while first < last and unicodedata.category(words[last - 1])[0] in "PSZ":
        last -= 1
    return words[first:last]


def normalise_english(text: str) -> str:
    """`normalise_answer`, less an article at the beginning."""
    return ARTICLE.sub("", normalise_answer(text))


class Glossary:
    """Answers by language and English answer. Several glossaries are one: the first that has an answer gives it."""

    def __init__(self, entries: Iterable[dict[tuple[str, str], Entry]] = ()) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}
        for part in entries:
            self._entries = part | self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, language: str, english: str) -> Entry | None:
        """The answer in `language` (NLLB code), with a capital where the English has one; None where there is none."""
        found = self._entries.get((language, normalise_english(english)))
        if found and english.lstrip()[:1].isupper():
            return found._replace(text=found.text[:1].title() + found.text[1:])
        return found

    @property
    def fingerprint(self) -> str:
        """A hash of all entries; empty when there are none."""
        return (
            files.sha256_json([[*key, *entry] for key, entry in sorted(self._entries.items())]) if self._entries else ""
        )


def read_file(path: Path, language: str | None = None) -> dict[tuple[str, str], Entry]:
    """Entries of one CSV file with a header: `english`, `text`, `source`, and `language` (any code) unless all of it is in one.

    Raises GlossaryError that names the file, the line, what is wrong and the remedy.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise GlossaryError(f"The glossary {path} can't be read: {error}. It must be CSV in UTF-8.") from error
    rows = csv.DictReader(text.splitlines(), strict=True)
    needed = ["english", "text", *([] if language else ["language"])]
    if missing := [name for name in needed if name not in (rows.fieldnames or [])]:
        raise GlossaryError(
            f"The glossary {path} has no column {', '.join(missing)}. Its first line must name the columns {', '.join(needed)} "
            "and may name source."
        )
    entries: dict[tuple[str, str], Entry] = {}
    lines: dict[tuple[str, str], int] = {}
    try:
        for row in rows:
            where = f"The glossary {path}, line {rows.line_num}"
            if empty := [name for name in needed if not (row[name] or "").strip()]:
                raise GlossaryError(f"{where}: {' and '.join(empty)} is empty. Fill it, or remove the line.")
            try:
                code = language or find_language(row["language"].strip()).nllb
            except ValueError as error:
                raise GlossaryError(f"{where}: {error}") from error
            if code == ENGLISH:
                raise GlossaryError(f"{where}: the language is English, which is not translated. Remove the line.")
            key = (code, normalise_english(row["english"]))
            if not key[1]:
                raise GlossaryError(f"{where}: {row['english']!r} has no word in it. Remove the line.")
            if key in entries:
                raise GlossaryError(
                    f"{where}: {row['english']!r} in {BY_NLLB[code].name} is there already, in line {lines[key]}. Remove one of them."
                )
            lines[key] = rows.line_num
            entries[key] = Entry(" ".join(row["text"].split()), (row.get("source") or "").strip() or path.name)
    except csv.Error as error:
        raise GlossaryError(f"The glossary {path}, line {rows.line_num}: not CSV ({error}).") from error
    return entries


@cache
def built_in() -> dict[tuple[str, str], Entry]:
    """All entries of `glossaries/`."""
    entries: dict[tuple[str, str], Entry] = {}
    for path in sorted(FOLDER.glob("*.csv")):
        entries |= read_file(path, find_language(path.stem).nllb)
    return entries


def load_glossary(use_built_in: bool, own: Iterable[Path] = ()) -> Glossary:
    """The user's own files, in their order, before the built-in ones. Raises GlossaryError."""
    return Glossary([*(read_file(path) for path in own), *([built_in()] if use_built_in else [])])
