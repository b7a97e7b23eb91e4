"""How much of training each task and each language gets, decided when samples are drawn and never in the shards.

The share of a task is its number of samples to the power 1/T, normalised (T: the task's temperature; 1 leaves the data as they are, a large one
makes the tasks equal); within a task, languages get shares in the same way with a temperature of their own. A mixture file (YAML) may hold both
temperatures and factors for single tasks and languages, by which a share is multiplied before it is normalised:

    language_temperature: 2
    task_temperature: 1
    languages: {eng_Latn: 0.5, yor_Latn: 3}
    tasks: {matching: 0.5, reasoning: 0}

Temperature-balanced sampling is that of mBERT, mT5 (exponent 1/T = 0.3) and NLLB.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Temperature = Annotated[float, Field(ge=1)]
Factor = Annotated[float, Field(ge=0)]


class Mixture(BaseModel):
    """A validated mixture; the default leaves the data as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    language_temperature: Temperature = 1.0
    task_temperature: Temperature = 1.0
    languages: dict[str, Factor] = {}
    tasks: dict[str, Factor] = {}

    @property
    def leaves_all_as_it_is(self) -> bool:
        return self == Mixture()


def read_mixture(path: Path | None, language_temperature: float | None, task_temperature: float | None) -> Mixture:
    """The mixture in the file `path`, if any, with temperatures replaced by those that are given. Raises ValueError that names what is wrong."""
    content: dict[str, object] = {}
    if path is not None:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not YAML: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path} must hold names and values, for example `language_temperature: 2`.")
    given = {"language_temperature": language_temperature, "task_temperature": task_temperature}
    try:
        return Mixture.model_validate({**content, **{k: v for k, v in given.items() if v is not None}})
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path or 'The mixture'} can't be used: {where}.") from error


def cells_of(
    tasks: Sequence[str], languages: Sequence[str], mixture: Mixture
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(cell of each sample (samples,), share of each cell (cells,), summing to 1); a cell is a task in a language.

    Raises ValueError when the mixture names a task or language that no sample has, or leaves nothing.
    """
    for what, named, there in (("task", mixture.tasks, set(tasks)), ("language", mixture.languages, set(languages))):
        unknown = sorted(named.keys() - there)
        if unknown:
            raise ValueError(
                f"The mixture names the {what} {', '.join(unknown)}, of which the selected shards have no text; there are {', '.join(sorted(there))}."
            )
    pairs = np.array([f"{task}\t{language}" for task, language in zip(tasks, languages, strict=True)])
    names, cells = np.unique(pairs, return_inverse=True)
    counts = np.bincount(cells)
    by_task: dict[str, dict[str, int]] = {}
    for name, count in zip(names.tolist(), counts.tolist(), strict=True):
        task, language = name.split("\t")
        by_task.setdefault(task, {})[language] = count
    shares_of_tasks = _shares({t: sum(n.values()) for t, n in by_task.items()}, mixture.task_temperature, mixture.tasks)
    within = {t: _shares(n, mixture.language_temperature, mixture.languages) for t, n in by_task.items()}
    shares = np.array([shares_of_tasks[t] * within[t][x] for t, x in (name.split("\t") for name in names.tolist())])
    if not shares.sum() > 0:
        raise ValueError("The mixture gives every task or language the factor 0: nothing is left to train on.")
    return cells.astype(np.int64), shares / shares.sum()


def _shares(counts: Mapping[str, int], temperature: float, factors: Mapping[str, float]) -> dict[str, float]:
    weights = {name: count ** (1 / temperature) * factors.get(name, 1.0) for name, count in counts.items()}
    total = sum(weights.values())
    return {name: weight / total if total else 0.0 for name, weight in weights.items()}
