"""The policy file: thresholds on the stored scores, per signal, language and task, in one YAML that people read and edit."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.corpus import SIGNALS, TASKS
from pipeline.languages import find_language
from pipeline.quality.learnt import LENGTHS

DEFAULT_POLICY = Path(__file__).with_name("policy.yaml")

JUDGED_TOGETHER = frozenset({"language_probability", "group_probability", "english_probability"})
"""Signals that see all texts of a sample, and so go by the words of all of them."""

Limit = (
    float | None | Annotated[tuple[float | None, ...], Field(min_length=len(LENGTHS) + 1, max_length=len(LENGTHS) + 1)]
)
"""One threshold, or one for each class of length (1, 2–3, 4–7, 8–15, 16 and more English words). null: not checked."""


class PolicyError(ValueError):
    """A policy file that can't be used."""


class Check(BaseModel):
    """One check; its name in the policy is the reason in the ledger."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    signal: Literal[SIGNALS]  # type: ignore[valid-type]
    above: Limit = None
    """Reject when the signal is above this."""
    below: Limit = None
    """Reject when the signal is below this."""
    languages: dict[str, Limit] = {}
    """Other thresholds for some languages (any code of `languages.csv`), in place of the above."""
    tasks: dict[str, Limit] = {}
    """Other thresholds for some tasks; they win over the languages'."""
    only: Literal["checked", "unverified"] | None = None
    """Look only at languages that the identifiers can check, or only at those they can't."""
    budget: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of good text that the thresholds were learnt to lose."""

    @model_validator(mode="after")
    def _makes_sense(self) -> "Check":
        if (self.above is None) == (self.below is None):
            raise ValueError("give `above` or `below`, one of the two")
        for code in self.languages:
            find_language(code)
        if unknown := sorted(set(self.tasks) - {*TASKS, "prompt"}):
            raise ValueError(f"there is no task {unknown[0]!r}; the tasks are {', '.join(TASKS)} and prompt")
        return self

    @cached_property
    def _by_language(self) -> dict[str, np.ndarray]:
        return {find_language(code).nllb: _limits(limit) for code, limit in self.languages.items()}

    def limits(self, languages: Sequence[str], tasks: Sequence[str]) -> np.ndarray:
        """float64 [languages, tasks, classes of length]: the threshold that holds; NaN where there is none."""
        common = _limits(self.above if self.above is not None else self.below)
        table = np.stack([self._by_language.get(code, common) for code in languages])
        table = np.repeat(table[:, None, :], len(tasks), axis=1)
        for number, task in enumerate(tasks):
            if task in self.tasks:
                table[:, number] = _limits(self.tasks[task])
        return table


def _limits(limit: Limit) -> np.ndarray:
    values = limit if isinstance(limit, tuple) else (limit,) * (len(LENGTHS) + 1)
    return np.array([np.nan if x is None else x for x in values], np.float64)


class Policy(BaseModel):
    """Thresholds; `policy.yaml` says what each means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reject_unfinished: bool
    checks: dict[str, Check]
    """By reason, in the order in which they are made."""


def read_policy(path: Path | None = None) -> Policy:
    """Raises PolicyError that names the file, the key and what is wrong with it."""
    path = path or DEFAULT_POLICY
    try:
        return parse_policy(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"The quality policy {path} can't be read: {error}.") from error
    except yaml.YAMLError as error:
        raise PolicyError(f"The quality policy {path} is not YAML: {error}.") from error


def parse_policy(content: Any, path: str) -> Policy:
    try:
        return Policy.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(str(x) for x in e['loc'])}: {e['msg']}" for e in error.errors())
        raise PolicyError(f"The quality policy {path}: {problems}.") from error
