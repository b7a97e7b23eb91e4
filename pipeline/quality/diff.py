"""Which samples changed their verdict between two releases, and why.

    python -m pipeline.quality.diff RUN_A RUN_B [--out CHANGES.csv]

Each is a run folder or a published dataset. The table counts the changes by language and kind; the file has a row for each sample.
"""

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa

from pipeline import files
from pipeline.quality.release import read_verdicts

ACCEPTED, ABSENT = "accepted", "absent"


def changes(before: pa.Table, after: pa.Table) -> list[dict[str, str]]:
    """Samples whose reason is not the same, or that are in one of the two only (schema VERDICTS each), sorted by id."""
    old, new = ({v["id"]: v for v in t.to_pylist()} for t in (before, after))
    result = []
    for name in sorted(old.keys() | new.keys()):
        a, b = (_state(x.get(name)) for x in (old, new))
        if a != b:
            details = [x[name]["detail"] if name in x else "" for x in (old, new)]
            result.append(
                {
                    "id": name,
                    "language": name.rsplit("@", 1)[-1],
                    "before": a,
                    "after": b,
                    "detail_before": details[0],
                    "detail_after": details[1],
                }
            )
    return result


def _state(verdict: dict[str, str] | None) -> str:
    return ABSENT if verdict is None else verdict["reason"] or ACCEPTED


def table(found: list[dict[str, str]]) -> str:
    count = Counter((x["language"], x["before"], x["after"]) for x in found)
    lines = [f"{'language':<12} {'samples':>8}  change"]
    lines += [f"{language:<12} {n:>8,}  {before} → {after}" for (language, before, after), n in sorted(count.items())]
    rescued, dropped = (
        sum(1 for x in found if x[a] == ACCEPTED and x[b] != ABSENT)
        for a, b in (("after", "before"), ("before", "after"))
    )
    lines.append(f"{len(found):,} changed: {rescued:,} are accepted now, {dropped:,} no longer")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.quality.diff", description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--out", type=Path, help="CSV with a row for each sample that changed")
    options = parser.parse_args(arguments)
    try:
        found = changes(read_verdicts(options.before), read_verdicts(options.after))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if options.out:
        with files.written_aside(options.out) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["id", "language", "before", "after", "detail_before", "detail_after"])
            writer.writeheader()
            writer.writerows(found)
    sys.stdout.write(table(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
