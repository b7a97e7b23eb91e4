"""Take samples back that the policy rejected and a person found to be good.

    python -m pipeline.quality.readmit RUN IDS.txt

reads ids from a file (one a line; what follows a tab or a # is a remark), checks them against the run's ledger, and adds them to
RUN/readmitted.txt. The next run of the flow accepts them and writes the shards anew; nothing is translated. To take a decision back, delete the
line. A sample that has no text (too long for the translator, or empty) can't be readmitted.
"""

import argparse
import sys
from pathlib import Path

from pipeline import files

NAME = "readmitted.txt"
WITHOUT_TEXT = ("too_long", "empty")


def read_ids(path: Path) -> list[str]:
    """Ids in a file, in its order, each once. Raises ValueError that names the file when it can't be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"The file of ids {path} can't be read: {error}.") from error
    ids = (line.split("\t")[0].split(" #")[0].strip() for line in lines if not line.startswith("#"))
    return list(dict.fromkeys(x for x in ids if x))


def read_readmitted(run: Path) -> frozenset[str]:
    """Ids that were readmitted in a run folder."""
    path = run / NAME
    return frozenset(read_ids(path)) if path.exists() else frozenset()


def readmit(run: Path, ids: list[str]) -> list[str]:
    """Add ids to the run's file; returns those that are new in it.

    Raises ValueError that names the ids that the ledger does not have, or that have no text.
    """
    ledger_path = run / "accept" / "ledger.parquet"
    if not ledger_path.exists():
        raise ValueError(f"{ledger_path} is missing: {run} is no run folder, or the run has not come to `accept` yet.")
    ledger = files.read_table(ledger_path, columns=["id", "reason"])
    reasons = dict(zip(ledger["id"].to_pylist(), ledger["reason"].to_pylist(), strict=True))
    known = read_readmitted(run)
    if unknown := [x for x in ids if x not in reasons and x not in known]:
        raise ValueError(
            f"{ledger_path} has no rejected sample {', '.join(map(repr, unknown[:5]))}"
            f"{' and others' if len(unknown) > 5 else ''}. An id is like source:own_id@language; copy it from the ledger."
        )
    if empty := [x for x in ids if reasons.get(x) in WITHOUT_TEXT]:
        raise ValueError(f"{', '.join(empty[:5])}: rejected as {reasons[empty[0]]}; there is no text to readmit.")
    new = sorted(set(ids) - known)
    if new:
        files.write_text(run / NAME, "".join(f"{x}\n" for x in sorted({*known, *new})))
    return new


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.quality.readmit", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("ids", type=Path, help="a file with one id a line")
    options = parser.parse_args(arguments)
    try:
        new = readmit(options.run, read_ids(options.ids))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(
        f"{len(new)} readmitted in {options.run / NAME}. Run the flow again: it judges anew and translates nothing.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
