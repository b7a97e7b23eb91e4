"""What would be kept and lost under other thresholds: one check of the policy swept over its range, on the stored scores of a run.

    python -m pipeline.quality.sweep RUN --check wrong_language --limits 0.01 0.05 0.1 0.2 0.5 [--out SWEEP.csv]

Prints the share of samples that is kept, per language and threshold; the file has the counts. All other checks stay as in the run's policy
(or `--policy`). Nothing is translated, scored or changed.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline import files
from pipeline.quality.accept import accept
from pipeline.quality.lid import Contract
from pipeline.quality.policy import Check, Policy, PolicyError, read_policy
from pipeline.quality.release import read_policy_of, read_scores


def with_limit(policy: Policy, reason: str, limit: float | None) -> Policy:
    """The policy with one threshold for all lengths, languages and tasks in one check; None leaves the check out."""
    if reason not in policy.checks:
        raise PolicyError(f"The policy has no check {reason!r}; it has {', '.join(policy.checks)}.")
    check = policy.checks[reason]
    side = "above" if check.above is not None else "below"
    off = float("inf") if side == "above" else float("-inf")
    new = {side: off if limit is None else limit, "languages": {}, "tasks": {}}
    changed = Check.model_validate({**check.model_dump(), **new})
    return Policy(reject_unfinished=policy.reject_unfinished, checks={**policy.checks, reason: changed})


def sweep(
    scores: pa.Table, contracts: dict[str, Contract], policy: Policy, reason: str, limits: Sequence[float]
) -> list[dict[str, object]]:
    """Rows of (language, limit, samples, kept, lost, lost_to_check): under each threshold, under none ("off") and under the policy as it is."""
    settings = [("policy", policy), ("off", with_limit(policy, reason, None))]
    settings += [(f"{limit:g}", with_limit(policy, reason, limit)) for limit in limits]
    ids = scores["id"].combine_chunks().dictionary_encode()
    first = np.unique(np.asarray(ids.indices), return_index=True)[1]
    languages = np.array(scores["language"].to_pylist(), dtype=object)[first]
    result: list[dict[str, object]] = []
    for name, setting in settings:
        reasons = np.array(accept(scores, contracts, setting)["reason"].to_pylist(), dtype=object)
        for code in (*sorted(set(languages.tolist())), "all"):
            mine = reasons if code == "all" else reasons[languages == code]
            kept = int((mine == "").sum())
            result.append(
                {
                    "language": code,
                    "limit": name,
                    "samples": len(mine),
                    "kept": kept,
                    "lost": len(mine) - kept,
                    "lost_to_check": int((mine == reason).sum()),
                }
            )
    return result


def table(rows: list[dict[str, object]]) -> str:
    """Kept share in percent, a line a language."""
    limits = list(dict.fromkeys(str(r["limit"]) for r in rows))
    kept = {(r["language"], r["limit"]): (r["kept"], r["samples"]) for r in rows}
    lines = [f"{'kept, %':<12} {'samples':>9} " + " ".join(f"{x:>8}" for x in limits)]
    for code in dict.fromkeys(str(r["language"]) for r in rows):
        cells = [kept[code, x] for x in limits]
        lines.append(
            f"{code:<12} {cells[0][1]:>9,} "
            + " ".join(f"{100 * int(str(k)) / max(int(str(n)), 1):>8.2f}" for k, n in cells)
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.quality.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--check", required=True, help="the check of the policy to sweep")
    parser.add_argument("--limits", type=float, nargs="+", required=True)
    parser.add_argument("--policy", type=Path, help="another policy than the run's")
    parser.add_argument("--out", type=Path, help="CSV with the counts")
    options = parser.parse_args(arguments)
    try:
        policy, contracts = read_policy_of(options.run)
        rows = sweep(
            read_scores(options.run),
            contracts,
            read_policy(options.policy) if options.policy else policy,
            options.check,
            options.limits,
        )
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if options.out:
        with files.written_aside(options.out) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    sys.stdout.write(table(rows) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
