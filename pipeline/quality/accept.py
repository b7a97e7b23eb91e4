"""The policy on the scores: which samples are kept, and for each other one the first reason.

Pure and quick: it reads the stored scores and a policy and never a text, so `accept` can be run again with other thresholds at any time.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.corpus import SIGNALS
from pipeline.quality.lid import Contract

VERSION = 1

DEFAULT_POLICY = Path(__file__).with_name("policy.yaml")

VERDICTS = pa.schema([("id", pa.string()), ("reason", pa.string()), ("detail", pa.string())])
"""One row a sample. `reason` is empty for an accepted one."""


class PolicyError(ValueError):
    """A policy file that can't be used."""


class IdentificationPolicy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    min_bytes: int = Field(ge=0)
    min_group_probability: float = Field(ge=0, le=1)
    max_english_probability: float = Field(ge=0, le=1)


class Policy(BaseModel):
    """Thresholds; `policy.yaml` says what each means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reject_unfinished: bool
    max_unknown_tokens: int = Field(ge=0)
    max_source_copy: float = Field(ge=0, le=1)
    min_words_for_source_copy: int = Field(ge=1)
    min_script_share: float = Field(ge=0, le=1)
    max_repetition: float = Field(ge=0, le=1)
    min_length_ratio: float = Field(ge=0)
    max_length_ratio: float = Field(gt=0)
    min_log_probability: float = Field(le=0)
    language_identification: IdentificationPolicy


def read_policy(path: Path | None = None) -> Policy:
    """Raises PolicyError that names the file, the key and what is wrong with it."""
    path = path or DEFAULT_POLICY
    try:
        return Policy.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise PolicyError(f"The quality policy {path} can't be read: {error}.") from error
    except yaml.YAMLError as error:
        raise PolicyError(f"The quality policy {path} is not YAML: {error}.") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(str(x) for x in e['loc'])}: {e['msg']}" for e in error.errors())
        raise PolicyError(f"The quality policy {path}: {problems}.") from error


def accept(scores: pa.Table, contracts: dict[str, Contract], policy: Policy) -> pa.Table:
    """Judge samples by the scores of their fields (schema SCORES). Returns VERDICTS, one row for each id in order of first appearance.

    A sample is rejected by its first field that fails, for the first check that it fails.
    """
    if not scores.num_rows:
        return VERDICTS.empty_table()
    signal = {name: _numbers(pc.struct_field(scores["scores"], name)) for name in SIGNALS}
    status = np.asarray(scores["status"].to_pylist(), dtype=object)
    languages = scores["language"].to_pylist()
    labels = pc.struct_field(scores["scores"], "language_label").to_pylist()
    limits = policy.language_identification
    is_known = np.array([contracts[code].check != "unverified" for code in languages])
    in_group = np.array([label in contracts[code].accepted for label, code in zip(labels, languages, strict=True)])
    is_long_enough = _numbers(scores["bytes_judged"]) >= limits.min_bytes
    words = _numbers(scores["source_words"])
    checks: list[tuple[str, np.ndarray, str]] = [
        ("too_long", status == "too_long", ""),
        ("unfinished", (status == "unfinished") & policy.reject_unfinished, ""),
        ("empty", _numbers(scores["characters"]) == 0, ""),
        ("unknown_tokens", signal["unknown_tokens"] > policy.max_unknown_tokens, "unknown_tokens"),
        (
            "source_copy",
            (signal["source_copy"] > policy.max_source_copy) & (words >= policy.min_words_for_source_copy),
            "source_copy",
        ),
        ("wrong_script", signal["script_share"] < policy.min_script_share, "script_share"),
        ("repetition", signal["repetition"] > policy.max_repetition, "repetition"),
        ("too_short", signal["length_ratio"] < policy.min_length_ratio, "length_ratio"),
        ("too_wordy", signal["length_ratio"] > policy.max_length_ratio, "length_ratio"),
        ("log_probability", signal["log_probability"] < policy.min_log_probability, "log_probability"),
        (
            "wrong_language",
            is_long_enough & is_known & ~in_group & (signal["group_probability"] < limits.min_group_probability),
            "group_probability",
        ),
        (
            "english",
            is_long_enough & ~is_known & (signal["english_probability"] > limits.max_english_probability),
            "english_probability",
        ),
    ]
    failed = np.full(scores.num_rows, len(checks))
    for number in reversed(range(len(checks))):
        failed[checks[number][1]] = number
    verdicts: dict[str, tuple[str, str]] = {}
    for row, (sample, role, number) in enumerate(
        zip(scores["id"].to_pylist(), scores["role"].to_pylist(), failed.tolist(), strict=True)
    ):
        if number == len(checks):
            verdicts.setdefault(sample, ("", ""))
        elif not verdicts.get(sample, ("", ""))[0]:
            reason, _, name = checks[number]
            value = f": {name} is {signal[name][row]:.3g}" if name else ""
            seen = f", identified as {labels[row]}" if reason in ("wrong_language", "english") else ""
            verdicts[sample] = (reason, f"{role}{value}{seen}")
    columns = [list(verdicts), [v[0] for v in verdicts.values()], [v[1] for v in verdicts.values()]]
    return pa.table([pa.array(c, pa.string()) for c in columns], schema=VERDICTS)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.combine_chunks().to_numpy(zero_copy_only=False), dtype=np.float64)
