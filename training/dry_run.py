"""What a run will take, measured on its own model and data without keeping anything (`realign.py --dry-run`).

Weights are counted exactly. Memory and time are those of real steps: the worst batch is made of the longest texts of the shards, so no batch of the
run needs more; the pace is that of the first batches of the run's own order.
"""

import itertools
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from model.freeze import PARTS, part_of
from training.loader import Batch
from training.report import duration

ORDINARY_STEPS = 4


@dataclass(frozen=True)
class Part:
    """A part of the model."""

    name: str
    is_trained: bool
    parameters: int
    bytes: int


def parts_of(model: nn.Module) -> list[Part]:
    """Each part's parameters and exact bytes, quantised and tied weights counted once and as they are stored."""
    parts = []
    named = [(part_of(name), parameter) for name, parameter in model.named_parameters()]
    for name in PARTS:
        own = [parameter for part, parameter in named if part == name]
        if own:
            bytes_ = sum(p.numel() * p.element_size() for p in own)
            parts.append(Part(name, own[0].requires_grad, sum(p.numel() for p in own), bytes_))
    return parts


def longest(lengths: np.ndarray, size: int, tokens: int | None) -> list[int]:
    """The samples of the worst batch: the longest, as many as a batch of this size or budget has."""
    by_length = np.argsort(-lengths, kind="stable")
    count = size if tokens is None else max(1, tokens // int(lengths[by_length[0]]))
    return by_length[:count].tolist()


def measure(
    model: nn.Module,
    train: Callable[[Batch], None],
    collate: Callable[[Sequence[int]], Batch],
    asked: Iterator[list[int]],
    worst: list[int],
    total_steps: int,
    device: torch.device,
) -> dict[str, Any]:
    """Train a few steps and tell parts, bytes, peak memory, pace and time. `train` does one whole step; `asked`: the run's batches."""
    parts = parts_of(model)
    trained = sum(part.parameters for part in parts if part.is_trained)
    seconds, samples = [], 0
    train(collate(next(asked)))  # the first step has costs of its own
    for chosen in itertools.islice(asked, ORDINARY_STEPS):
        seconds.append(timed(lambda: train(collate(chosen)), device))  # noqa: B023
        samples += len(chosen)
    forget_peak(device)
    worst_batch = collate(worst)
    seconds_of_worst = timed(lambda: train(worst_batch), device)
    return {
        "parts": [vars(part) for part in parts],
        "weight_bytes": sum(part.bytes for part in parts),
        "gradient_and_optimiser_bytes": trained * 4 * 3,
        "worst_batch": {
            "texts": len(worst),
            "target_tokens": worst_batch.target_tokens,
            "peak_bytes": peak_bytes(device),
            "seconds": seconds_of_worst,
        },
        "seconds_a_step": statistics.median(seconds),
        "samples_per_second": samples / sum(seconds),
        "total_steps": total_steps,
    }


def text(measured: dict[str, Any], device: torch.device) -> str:
    """`measure`'s findings for a person."""
    lines = [f"{'part':<16}{'parameters':>16}{'weights':>12}"]
    for part in measured["parts"]:
        lines.append(
            f"{part['name']:<16}{part['parameters']:>16,}{mib(part['bytes']):>12}  {'trained' if part['is_trained'] else 'frozen'}"
        )
    worst, steps = measured["worst_batch"], measured["total_steps"]
    kind = "of the GPU's memory" if device.type == "cuda" else "of the process's memory"
    lines += [
        f"{'all':<16}{sum(part['parameters'] for part in measured['parts']):>16,}{mib(measured['weight_bytes']):>12}"
        f"  ({measured['weight_bytes']:,} bytes)",
        f"gradients and AdamW's moments: {mib(measured['gradient_and_optimiser_bytes'])}",
        f"worst batch ({worst['texts']} longest texts, {worst['target_tokens']:,} target tokens): peak {mib(worst['peak_bytes'])} {kind}, "
        f"{worst['seconds']:.2f} s",
        f"ordinary batches: {measured['samples_per_second']:.1f} samples/s, {measured['seconds_a_step']:.2f} s a step",
        f"{steps} steps will take {duration(steps * measured['seconds_a_step'])}, at the pace of the worst batch "
        f"{duration(steps * worst['seconds'])}; evaluation and checkpoints come on top",
    ]
    return "\n".join(lines) + "\n"


def mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


def timed(work: Callable[[], None], device: torch.device) -> float:
    """Seconds that `work` takes, waiting for the device."""
    wait(device)
    started = time.monotonic()
    work()
    wait(device)
    return time.monotonic() - started


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    """Let `peak_bytes` count from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access("/proc/self/clear_refs", os.W_OK):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of the resident set (proc(5))


def peak_bytes(device: torch.device) -> int:
    """The most memory since `forget_peak`: allocated on the GPU, or resident (outside Linux: since the process began)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
