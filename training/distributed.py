"""One process, or several under torchrun.

    torchrun --nproc-per-node 8 training/realign.py --shards …

Every process has the whole model and a share of each global batch. The gradients of what is trained (a few per cent of the model) are summed, each
weighted by its target tokens, so the step is that of one process with the whole batch; frozen parts are equal everywhere and never sent. It is a
plain all-reduce after the backward passes and not DistributedDataParallel, which would average over processes instead of tokens, and whose
overlap hides little where a step has many passes and one exchange. Only rank 0 writes.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET = 1 << 25
"""Numbers that are exchanged at a time, at most (128 MiB), unless a parameter is larger."""

PATIENCE = timedelta(minutes=60)
"""How long a process waits for another: rank 0 may make a tiny base or look over the shards meanwhile."""


class ProcessLost(RuntimeError):
    """Another process of the run is gone."""


@dataclass(frozen=True)
class World:
    """The processes of a run."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor` summed over all processes, in place."""
        if self.size > 1:
            with _told_when_another_is_gone():
                dist.all_reduce(tensor)
        return tensor

    def total(self, number: float) -> float:
        """`number` summed over all processes."""
        return (
            float(self.sum(torch.tensor(number, dtype=torch.float64, device=self.device))) if self.size > 1 else number
        )

    def wait(self) -> None:
        """Return when every process has come here."""
        self.total(0.0)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum the gradients of `parameters` over all processes, in place; one that a process does not have counts as zero there."""
        if self.size == 1:
            return
        for bucket in _buckets(parameters):
            flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in bucket])
            self.sum(flat)
            for parameter, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                parameter.grad = part.view_as(parameter)

    def check_alike(self, what: Mapping[str, str]) -> None:
        """Raise ValueError that names what differs between processes, such as shards or base model on machines with disks of their own."""
        for name, text in what.items():
            number = float(int(hashlib.sha256(text.encode()).hexdigest()[:8], 16))
            mean = self.total(number) / self.size  # exact where all are equal
            if self.total(abs(number - mean)):
                raise ValueError(
                    f"The processes of this run do not have the same {name}: give all of them the same files and options."
                )

    def leave(self) -> None:
        if self.size > 1:
            dist.destroy_process_group()


def join(device: str) -> World:
    """The world that torchrun started this process in, or a world of one; each process gets a GPU of its own."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(torch.device(device))
    own = torch.device(device)
    if own.type == "cuda":
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
    return World(own, dist.get_rank(), size)


@contextmanager
def _told_when_another_is_gone() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(
            "Another process of this run is gone, so this one stops too; what that one wrote last says why. "
            f"Go on from the last checkpoint with --resume. ({str(error).splitlines()[0]})"
        ) from error


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        if bucket and sum(p.numel() for p in bucket) + parameter.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket
