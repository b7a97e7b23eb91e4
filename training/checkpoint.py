"""Checkpoints as free functions: write one, read one, find the last.

A checkpoint is a folder `step-00000100/` with `tensors.safetensors` and `state.json`. It is written under another name, flushed to the disk
and renamed, so whatever has the name is whole; a process that dies while writing leaves a `.partial-` folder that nothing ever picks and the
next save removes. Nothing is pickled.
"""

import json
import os
import re
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

NAME = re.compile(r"step-(\d{8})")
PARTIAL = ".partial-"


def fsync(path: Path) -> None:
    """Flush a file's or a folder's data to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_aside(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that the file is there whole or not at all."""
    aside = path.with_name(PARTIAL + path.name)
    aside.write_bytes(data)
    fsync(aside)
    aside.rename(path)
    fsync(path.parent)


def save(folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any], keep: int) -> Path:
    """Write the checkpoint of `step` into `folder`, remove all but the newest `keep`, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(PARTIAL + "*"):
        shutil.rmtree(leftover)
    aside, final = folder / f"{PARTIAL}step-{step:08d}", folder / f"step-{step:08d}"
    aside.mkdir()
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, aside / "tensors.safetensors"
    )
    (aside / "state.json").write_text(json.dumps({"step": step, **state}, indent=1, sort_keys=True))
    for path in (*aside.iterdir(), aside):
        fsync(path)
    if final.exists():  # the same step of a run that was taken up again from an earlier checkpoint
        shutil.rmtree(final)
    aside.rename(final)
    fsync(folder)
    for old in _all(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, state) of the checkpoint at `path`. Raises FileNotFoundError when `path` is not a whole checkpoint."""
    if (
        not NAME.fullmatch(path.name)
        or not (path / "state.json").is_file()
        or not (path / "tensors.safetensors").is_file()
    ):
        raise FileNotFoundError(
            f"{path} is not a checkpoint (a folder step-NNNNNNNN with tensors.safetensors and state.json)."
        )
    return load_file(path / "tensors.safetensors"), json.loads((path / "state.json").read_text())


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`, or None."""
    return _all(folder)[-1] if _all(folder) else None


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if NAME.fullmatch(path.name)) if folder.is_dir() else []


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    """The optimiser's tensors, named `optimizer/PARAMETER/WHAT`; `names` maps `id(parameter)` to the parameter's name."""
    return {
        f"optimizer/{names[id(parameter)]}/{what}": value
        for group in optimizer.param_groups
        for parameter in group["params"]
        for what, value in optimizer.state[parameter].items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, names: dict[int, str], tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took; the parameters and groups must be the same."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            name, what = key.removeprefix("optimizer/").rsplit("/", 1)
            found.setdefault(name, {})[what] = value
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = found[names[id(parameter)]]
            optimizer.state[parameter] = {
                what: value.clone() if what == "step" else value.to(parameter.device, copy=True)
                for what, value in state.items()
            }


def state_tensors(names: dict[int, str], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything of a run's state that is a tensor: what learns and the optimiser's moments. Random numbers are a function of seed, step and
    process (`training.step.seed_step`)."""
    parameters = {f"model/{names[id(p)]}": p for group in optimizer.param_groups for p in group["params"]}
    return {**parameters, **optimizer_tensors(optimizer, names)}


def restore(
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    names: dict[int, str],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
) -> None:
    """Put a checkpoint's state back in place."""
    with torch.no_grad():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.copy_(tensors[f"model/{names[id(parameter)]}"])
    restore_optimizer(optimizer, names, tensors)
    schedule.last_epoch = state["schedule"]
    for group, base_rate, factor in zip(optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = base_rate * factor(state["schedule"])
    schedule._last_lr = [group["lr"] for group in optimizer.param_groups]


def check_identity(now: dict[str, Any], then: dict[str, Any], path: Path) -> None:
    """Raise ValueError when a checkpoint belongs to a run with other data or settings."""
    different = [name for name in now if now[name] != then.get(name)]
    if "shards" in different:
        raise ValueError(
            f"{path} was made with other shards, or another selection of them (--languages, --held-out), than --shards names now: "
            "bring the old ones back, or start a new run with another --out."
        )
    if "base" in different:
        raise ValueError(
            f"{path} was made on another base model: name that one with --base, or start a new run with another --out."
        )
    if "mixture" in different:
        raise ValueError(
            f"{path} was made with another mixture (--mixture, --language-temperature, --task-temperature): "
            "set it back, or start a new run with another --out."
        )
    if different:
        changes = ", ".join(f"{name} was {then.get(name)} and is {now[name]}" for name in different)
        raise ValueError(
            f"{path} can't be gone on from, settings differ ({changes}): set them back, or start a new run with another --out."
        )


def code_version() -> dict[str, str]:
    """What the numbers of a run depend on besides its options: kept in checkpoints, to look at when two runs differ."""
    found = {}
    for name in ("polyalign", "torch", "transformers", "peft"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # ours, when it is run from a folder without having been installed
            found[name] = "not installed"
    return found


class Logs:
    """The logs of a run, a JSON line an event: `train_log` (a line a step), `groups` (losses by language and task), `bad_samples`."""

    NAMES = ("train_log", "groups", "bad_samples")

    def __init__(self, folder: Path, step: int, writes: bool = True) -> None:
        """Drops what a killed run wrote after `step`, its last checkpoint; `writes`: whether this process is the one that writes."""
        self.folder, self.writes = folder, writes
        self.rows = {name: _read_until(self.path(name), step) for name in self.NAMES}
        """The lines of each log, also those of the runs before."""
        for name in self.NAMES if writes else ():
            if self.rows[name] or self.path(name).exists():
                write_aside(self.path(name), "".join(_line(row) for row in self.rows[name]).encode())

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Append a line, which the operating system then has: it outlives this process."""
        self.rows[name].append(row)
        if self.writes:
            with self.path(name).open("a", encoding="utf-8") as file:
                file.write(_line(row))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _read_until(path: Path, step: int) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:  # the line that the run was killed in
            break
        if row["step"] <= step:
            rows.append(row)
    return rows
