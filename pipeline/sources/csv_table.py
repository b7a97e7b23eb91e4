"""A CSV or TSV file: one example a row, its texts in columns.

    image,caption
    dog.jpg,A dog on a beach.

The first row names the columns; the mix file says which is which where they are not called like the role. A row without an id gets one from its
image and texts, so rows can be added, moved and sorted.
"""

import csv
from collections.abc import Iterator

from pipeline.corpus import ROLES, Example, SourceError
from pipeline.sources.build import MAX_TEXT_CHARACTERS, build_example, content_id
from pipeline.sources.config import CsvSource


def read(source: CsvSource) -> Iterator[Example | SourceError]:
    """Stream the rows in file order. A file whose columns are wrong is one error."""
    roles = ROLES[source.task]
    column = {name: source.columns.get(name, name) for name in (*roles, "image", "id", "licence", "credit")}  # type: ignore[call-overload]
    csv.field_size_limit(10 * MAX_TEXT_CHARACTERS)
    delimiter = "\t" if source.path.suffix.lower() in (".tsv", ".tab") else ","
    number = 1
    try:
        with open(source.path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter=delimiter)
            missing = [column[name] for name in ("image", *roles) if column[name] not in (rows.fieldnames or [])]
            if missing:
                detail = f"there is no column {', '.join(missing)}; there are {', '.join(rows.fieldnames or ['none'])}"
                yield SourceError(
                    f"{source.path}, line 1", "", "wrong_schema", f"{detail}. Name them as `columns:` in the mix file"
                )
                return
            for row in rows:
                number = rows.line_num
                where = f"{source.path}, line {number}"
                if None in row or any(v is None for v in row.values()):
                    yield SourceError(
                        where,
                        str(row.get(column["id"]) or ""),
                        "wrong_schema",
                        "the row has more or fewer cells than line 1",
                    )
                    continue
                texts: list[tuple[str, object]] = [(role, row[column[role]].strip()) for role in roles]
                image = row[column["image"]].strip()
                own_id = row.get(column["id"]) or content_id(image, *(str(text) for _, text in texts))
                yield build_example(
                    source,
                    where,
                    own_id,
                    source.task,
                    image,
                    texts,
                    row.get(column["licence"]),
                    row.get(column["credit"]),
                )
    except csv.Error as error:
        yield SourceError(f"{source.path}, after line {number}", "", "not_csv", f"{error}")
    except UnicodeDecodeError as error:
        yield SourceError(f"{source.path}, after line {number}", "", "not_utf8", f"{error}; save the file as UTF-8")
