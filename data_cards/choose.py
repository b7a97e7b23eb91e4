"""Which samples the page shows.

They are drawn by a hash of their id, so nobody picked the pretty ones, and the same run always shows the same. Within
a language the draw goes round the tasks, and an image is shown once, so that four samples tell something about the
whole.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable

import pyarrow as pa


def order(id: str) -> bytes:
    """A fixed shuffle: sort by this."""
    return hashlib.blake2b(id.encode(), digest_size=8).digest()


def draw(rows: Iterable[dict], number: int, kind: Callable[[dict], str]) -> list[dict]:
    """Up to `number` rows, one of each `kind` in turn, and no image twice while there are others."""
    by_kind: dict[str, list[dict]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: order(row["id"])):
        by_kind[kind(row)].append(row)
    turns = [row for turn in _in_turn(list(by_kind.values())) for row in turn]
    seen: set[str] = set()
    first: list[dict] = []
    again: list[dict] = []
    for row in turns:
        (again if row["image_sha256"] in seen else first).append(row)
        seen.add(row["image_sha256"])
    return (first + again)[:number]


def draw_for_each(table: pa.Table, column: str, number: int, kind: str) -> dict[str, list[dict]]:
    """`draw` for every value of `column`. The full rows are read only for what was drawn."""
    slim = table.select(sorted({"id", "image_sha256", column, kind})).to_pylist()
    groups: dict[str, list[dict]] = defaultdict(list)
    for position, row in enumerate(slim):
        groups[row[column]].append({**row, "position": position})
    drawn = {value: draw(rows, number, lambda row: row[kind]) for value, rows in sorted(groups.items())}
    return {value: table.take([row["position"] for row in rows]).to_pylist() for value, rows in drawn.items()}


def most_translated(samples: pa.Table, number: int, script: Callable[[str], str]) -> list[dict]:
    """Samples of the one example that was kept in the most scripts and languages, different scripts first, up to
    `number`.

    Captions are preferred, since their target is a sentence about the picture.
    """
    captions = samples.filter(pa.compute.equal(samples["task"], "captioning"))
    table = captions if captions.num_rows else samples
    languages: dict[str, set[str]] = defaultdict(set)
    length: dict[str, int] = {}
    columns = (table[name].to_pylist() for name in ("example", "target_language", "english"))
    for example, language, english in zip(*columns, strict=True):
        languages[example].add(language)
        length[example] = len(english)
    if not languages:
        return []

    def worth(example: str) -> tuple[int, int, int, bytes]:
        # Eight tenths of what is asked for counts as enough; beyond that a sentence says more than one more language.
        enough = min(len(languages[example]), number * 8 // 10)
        return enough, min(length[example], 60), len({script(code) for code in languages[example]}), order(example)

    best = max(sorted(languages), key=worth)
    rows = table.filter(pa.compute.equal(table["example"], best)).sort_by("target_language").to_pylist()
    by_script: dict[str, list[dict]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: order(row["id"])):
        by_script[script(row["target_language"])].append(row)
    return [row for turn in _in_turn(list(by_script.values())) for row in turn][:number]


def _in_turn(lists: list[list[dict]]) -> Iterable[list[dict]]:
    """First of each list, then second of each, and so on."""
    for position in range(max(map(len, lists), default=0)):
        yield [rows[position] for rows in lists if position < len(rows)]
