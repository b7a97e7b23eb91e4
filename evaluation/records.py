"""What every benchmark's reader gives: `Item`s with their images, and `Missing`s for what is not there.

A reader changes nothing: texts are those of the file (only decoded), languages are the codes that the owner writes, and what it can't use is
an error that names file and record. Which files, languages and counts a benchmark has is in `benchmarks.json`, from the owners' own files.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pipeline.languages import Language, find_language

Task = Literal["caption", "vqa", "choice"]
"""How the answer is judged: against reference captions, against accepted short answers, or as one of a few labels."""


class BenchmarkError(ValueError):
    """A benchmark's file that can't be used; the message names the file, the record and the remedy."""


@dataclass(frozen=True)
class Item:
    """One thing to ask a model."""

    id: str
    """Unique in its benchmark; the owner's id where there is one. Stable when languages or items are added."""
    code: str
    """The language as the benchmark writes it."""
    images: tuple[Path, ...]
    """One image, or left and right."""
    text: str
    """The question, hypothesis or statement; empty for a caption."""
    answers: tuple[str, ...]
    """Reference captions, accepted answers, or the one true label."""
    group: str = ""
    """What is drawn together in the bootstrap: questions on one image are not independent."""


@dataclass(frozen=True)
class Missing:
    """A file that a benchmark needs and that is not there."""

    kind: Literal["file", "language", "image", "records"]
    what: str
    code: str = ""
    count: int = 1


@cache
def facts() -> dict[str, dict[str, Any]]:
    """Per benchmark: the task, the owner's language codes, expected number of items per language, where the files come from."""
    return json.loads(Path(__file__).with_name("benchmarks.json").read_text(encoding="utf-8"))


def language_of(code: str) -> Language | None:
    """The row of `languages.csv` of an owner's code; None for the two of XM3600 that are outside it (Croatian, Quechua)."""
    try:
        return find_language(code)
    except ValueError:
        return None


def language_name(code: str) -> str:
    """The English name that prompts and reports use: the table's, or that of `benchmarks.json` for a code outside the table."""
    language = language_of(code)
    return language.name if language is not None else _outside(code)["name"]


def nllb_code(code: str) -> str:
    """NLLB's code of an owner's code, which models with language tokens are told: also of a language outside the table.

    XM3600's Quechua is Cusco's (quz); NLLB-200 has only Ayacucho's, its near relative.
    """
    language = language_of(code)
    return language.nllb if language is not None else _outside(code)["nllb"]


def _outside(code: str) -> dict[str, str]:
    outside = facts()["languages outside the table"]
    if code not in outside:
        raise BenchmarkError(
            f"There is no language {code!r} in languages.csv or in benchmarks.json; correct the benchmark's folder."
        )
    return outside[code]


def read_json(path: Path) -> Any:
    """Raises BenchmarkError that names the file and the position."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BenchmarkError(f"{path} is not there. Run with --check to see all that is missing.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{path} is not JSON ({error}). Download it again.") from error


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, record). Raises BenchmarkError that names the file and the line."""
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except json.JSONDecodeError as error:
                    raise BenchmarkError(
                        f"{path}, line {number} is not JSON ({error}). Download the file again."
                    ) from error
                if not isinstance(record, dict):
                    raise BenchmarkError(f"{path}, line {number} is not an object. Is this the benchmark's own file?")
                yield number, record
    except FileNotFoundError as error:
        raise BenchmarkError(f"{path} is not there. Run with --check to see all that is missing.") from error


def field(record: dict[str, Any], name: str, where: str) -> Any:
    """A field that must be there. Raises BenchmarkError that says where it is not."""
    if name not in record:
        raise BenchmarkError(
            f"{where} has no {name!r}, but {', '.join(sorted(record)[:8])}. Is this the owner's own file?"
        )
    return record[name]
