"""Anything that `datasets.load_dataset` opens, streaming: a folder (Parquet, JSON, CSV, imagefolder, WebDataset …) or an id on the hub.

Pictures inside the dataset are written once, as they are, into the source's `images` folder under their sha256, since later stages read images by
path. A column of strings is taken as paths below that folder. A row without an id gets one from its image and texts.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.corpus import ROLES, Example, SourceError
from pipeline.sources.build import build_example, content_id
from pipeline.sources.config import DatasetsSource

EXTENSION_OF = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp"}


def read(source: DatasetsSource) -> Iterator[Example | SourceError]:
    """Stream the rows. A dataset that can't be opened, or breaks off, is one error."""
    import datasets

    name, number = str(source.path), 0
    roles = ROLES[source.task]
    column = {n: source.columns.get(n, n) for n in (*roles, "image", "id", "licence", "credit")}  # type: ignore[call-overload]
    try:
        rows: Any = datasets.load_dataset(
            name, source.config, split=source.split, revision=source.revision, streaming=True
        )
        names = rows.column_names or list(next(iter(rows)))
        if missing := [column[n] for n in ("image", *roles) if column[n] not in names]:
            detail = f"there is no column {', '.join(missing)}; there are {', '.join(names)}"
            yield SourceError(
                f"{name}, split {source.split}",
                "",
                "wrong_schema",
                f"{detail}. Name them as `columns:` in the mix file",
            )
            return
        if rows.features is not None and isinstance(rows.features.get(column["image"]), datasets.Image):
            rows = rows.cast_column(column["image"], datasets.Image(decode=False))
        for number, row in enumerate(rows, start=1):
            yield _example(source, f"{name}, split {source.split}, row {number}", column, row)
    except Exception as error:  # loaders raise a different type for each format and each way to fail
        detail = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        yield SourceError(f"{name}, split {source.split}, after row {number}", "", "unreadable", detail)


def _example(source: DatasetsSource, where: str, column: dict[str, str], row: dict[str, Any]) -> Example | SourceError:
    image = row[column["image"]]
    if isinstance(image, dict):
        data = image.get("bytes") or (Path(image["path"]).read_bytes() if image.get("path") else None)
        if not data:
            return SourceError(where, str(row.get(column["id"]) or ""), "image_missing", "the row has no picture")
        image = _store(source.image_folder, data)
    texts = [(role, row[column[role]]) for role in ROLES[source.task]]
    own_id = row.get(column["id"])
    own_id = str(own_id) if own_id is not None else content_id(str(image), *(str(text) for _, text in texts))
    return build_example(
        source, where, own_id, source.task, image, texts, row.get(column["licence"]), row.get(column["credit"])
    )


def _store(folder: Path, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    extension = next((e for start, e in EXTENSION_OF.items() if data.startswith(start)), "bin")
    name = f"{digest[:2]}/{digest}.{extension}"
    if not (folder / name).exists():
        files.write_bytes(folder / name, data)
    return name
