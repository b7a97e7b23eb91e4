"""WebDataset tars: files of one name before the first dot are one sample, a picture and its texts.

    00000.tar:  000000012.jpg  000000012.json  000000012.txt

This is what img2dataset writes with `--output_format webdataset`, and what `webdataset` reads. Pictures stay where they are: an example's image is
`00000.tar/000000012.jpg`. An example's id is the tar's name and the sample's, unless the mix names a column for `id`.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.corpus import ROLES, Example, SourceError
from pipeline.sources.build import MAX_TEXT_CHARACTERS, build_example
from pipeline.sources.config import WebdatasetSource

PICTURES = ("jpg", "jpeg", "png", "webp")


def tars_of(path: Path) -> list[Path]:
    """The tars of a source, in the order of their names."""
    return sorted(path.glob("*.tar")) if path.is_dir() else [path]


def read(source: WebdatasetSource) -> Iterator[Example | SourceError]:
    """Stream the samples of all tars. A tar that breaks off costs what stands after the break."""
    paths = tars_of(source.path)
    if not paths:
        yield SourceError(f"{source.path}", "", "wrong_schema", "there is no tar in the folder")
    for path in paths:
        key, parts = "", dict[str, str | bytes]()
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    if not member.isfile():
                        continue
                    folder, _, base = member.name.rpartition("/")
                    stem, _, extension = base.partition(".")
                    name = f"{folder}/{stem}" if folder else stem
                    if name != key and parts:
                        yield _example(source, path, key, parts)
                        parts = {}
                    key = name
                    parts[extension.lower()] = _content(tar, member, extension.lower())
            if parts:
                yield _example(source, path, key, parts)
        except (tarfile.TarError, OSError, EOFError) as error:
            yield SourceError(
                f"{path}, at sample {key or 'none'}", "", "truncated_tar", f"{type(error).__name__}: {error}"
            )


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, extension: str) -> str | bytes:
    """A picture's name, or a text's bytes."""
    if extension in PICTURES or member.size > 10 * MAX_TEXT_CHARACTERS:
        return member.name
    file = tar.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise tarfile.ReadError(f"{member.name} is cut off")
    return data


def _example(source: WebdatasetSource, path: Path, key: str, parts: dict[str, Any]) -> Example | SourceError:
    where = f"{path}, sample {key}"
    image = next((parts[e] for e in PICTURES if e in parts), None)
    if image is None:
        return SourceError(where, key, "no_image", f"the sample has {', '.join(parts)}, and no {', '.join(PICTURES)}")
    try:
        content = json.loads(parts["json"]) if "json" in parts else {}
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        return SourceError(where, key, "not_json", f"{error}")

    def value(name: str) -> Any:
        place = source.columns.get(name) or ("txt" if name == "caption" else f"json.{name}")  # type: ignore[call-overload]
        if place.startswith("json."):
            return content.get(place.removeprefix("json.")) if isinstance(content, dict) else None
        data = parts.get(place)
        return data.decode("utf-8", "surrogateescape").strip() if isinstance(data, bytes) else None

    own_id = value("id") if "id" in source.columns else f"{path.stem}/{key}"
    texts = [(role, value(role)) for role in ROLES[source.task]]
    return build_example(
        source, where, str(own_id), source.task, f"{path.name}/{image}", texts, value("licence"), value("credit")
    )
