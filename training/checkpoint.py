"""Checkpoints as free functions: write one, read one, find the last.

A checkpoint is a folder `step-00000100/` with `tensors.safetensors` and `state.json`. It is written under another name, flushed to the disk
and renamed, so whatever has the name is whole; a process that dies while writing leaves a `.partial-` folder that nothing ever picks and the
next save removes. Nothing is pickled.
"""

import json
import os
import re
import shutil
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
