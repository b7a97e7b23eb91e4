"""The records of a JSON file, one after the other, however long the file is.

The published files are single JSON values of up to some gigabytes, so they are parsed as a stream (ijson, on YAJL). A file that breaks off
yields what came before the break, then one error that says after which record.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson

from pipeline.corpus import SourceError


def read_records(path: Path, prefix: str = "item") -> Iterator[tuple[str, Any] | SourceError]:
    """Yield (place, record) for each item of the list at `prefix` in ijson's notation: `item` for a list at the top, `images.item` for the list
    under the key `images`."""
    number = 0
    wanted = "a list at its top" if prefix == "item" else f"a list under the key {prefix.removesuffix('.item')!r}"
    try:
        with open(path, "rb") as file:
            for number, record in enumerate(ijson.items(file, prefix, use_float=True, buf_size=4096), start=1):
                yield f"{path}, record {number}", record
    except ijson.IncompleteJSONError as error:
        yield SourceError(
            f"{path}, after record {number}", "", "truncated_json", f"the file breaks off: {_line(error)}"
        )
        return
    except (ijson.JSONError, UnicodeDecodeError) as error:
        yield SourceError(f"{path}, after record {number}", "", "not_json", _line(error))
        return
    if not number:
        yield SourceError(f"{path}", "", "wrong_schema", f"the file has no {wanted} with records in it")


def _line(error: Exception) -> str:
    return " ".join(
        error.args[0].decode("utf-8", "replace").split() if isinstance(error.args[0], bytes) else str(error).split()
    )


def get(record: Any, *keys: str) -> Any:
    """The value at these keys one in another, or None where one is missing."""
    for key in keys:
        if not isinstance(record, dict):
            return None
        record = record.get(key)
    return record
