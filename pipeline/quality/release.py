"""Reads what was judged: the scores and verdicts of a run folder, or a published dataset (a folder of shards with its `_rejected`)."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import files
from pipeline.corpus import SCORES
from pipeline.quality.accept import VERDICTS
from pipeline.quality.lid import Contract
from pipeline.quality.policy import Policy, parse_policy

REJECTED = Path("_rejected") / "rejected.parquet"
"""Where a dataset keeps what was rejected, below the folder of its shards. Names that begin with _ are no data to those who load it."""

ABOUT_REJECTED = """\
# What was rejected

`rejected.parquet` holds all {rows} texts that are not in the shards: the English and its translation (`fields`), every score, the first `reason`
and a `detail` in words. `stage` is `accept` for a translation that the quality policy rejected, and `examples` for an English record that could
not be used.

Is a good translation of your language among them? Send its `id`. Whoever builds the dataset puts the ids into a file, one a line, and runs

    python -m pipeline.quality.readmit RUN IDS.txt

and the flow again: the samples are in the next release, and nothing is translated again.
"""


class ReleaseError(ValueError):
    """A folder that holds no run and no dataset."""


def read_description(run: Path) -> dict[str, Any]:
    path = run / "run.json"
    if not path.exists():
        raise ReleaseError(f"{path} is missing: {run} is no run folder.")
    content: dict[str, Any] = files.read_json(path)
    return content


def read_scores(run: Path) -> pa.Table:
    """Stored scores of every language of a run (schema SCORES)."""
    paths = sorted((run / "score").glob("scores-*.parquet"))
    if not paths:
        raise ReleaseError(
            f"{run / 'score'} has no scores: {run} is no run folder, or the run has not come to `score` yet."
        )
    return pa.concat_tables([files.read_table(path).cast(SCORES) for path in paths])


def read_policy_of(run: Path) -> tuple[Policy, dict[str, Contract]]:
    """The policy and the checks of each language that a run was made with."""
    content = read_description(run)
    contracts = {code: Contract(x["check"], None, ()) for code, x in content["languages"].items()}
    return parse_policy(content["policy"], str(run / "run.json")), contracts


def read_verdicts(folder: Path) -> pa.Table:
    """Verdicts (schema VERDICTS) of a run folder, or of a published dataset by its index and its `_rejected`."""
    if (folder / "accept" / "verdicts.parquet").exists():
        return files.read_table(folder / "accept" / "verdicts.parquet").cast(VERDICTS)
    shards = folder / "shards" if (folder / "shards" / "index.parquet").exists() else folder
    if not (shards / "index.parquet").exists() or not (shards / REJECTED).exists():
        raise ReleaseError(f"{folder} is no run folder, and no dataset with index.parquet and {REJECTED}.")
    kept = files.read_table(shards / "index.parquet", columns=["id"])["id"]
    rejected = files.read_table(shards / REJECTED, columns=["id", "stage", "reason", "detail"])
    rejected = rejected.filter(pc.equal(rejected["stage"], "accept")).drop_columns(["stage"])
    nothing = pa.array([""] * len(kept), pa.string())
    return pa.concat_tables([pa.table([kept, nothing, nothing], schema=VERDICTS), rejected.cast(VERDICTS)])
