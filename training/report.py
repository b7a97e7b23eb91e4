"""What a person sees of a training run while it runs and at its end: progress lines, losses by group, TensorBoard.

Losses are given as nats per target token (what training minimises; comparable within one tokenizer) and as bits per byte of UTF-8 target text
(comparable across scripts and tokenizers, since a byte is a byte).
"""

import logging
import math
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

from model.inputs import IGNORED
from training.distributed import World
from training.loader import Batch

log = logging.getLogger(__name__)


@dataclass
class LossSum:
    """A sum of losses over targets."""

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0
    samples: int = 0

    def add(self, nats: float, tokens: int, target_bytes: int) -> None:
        self.nats += nats
        self.tokens += tokens
        self.bytes += target_bytes
        self.samples += 1

    @property
    def nats_per_token(self) -> float:
        return self.nats / max(1, self.tokens)

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / max(1, self.bytes)


def group(samples: Iterable[dict[str, Any]], by: str | None) -> dict[str, LossSum]:
    """Losses summed by the column `by` (`task`, `language`; None: all in one), sorted by name; samples have nats, tokens, target_bytes."""
    sums: dict[str, LossSum] = {}
    for sample in samples:
        name = sample[by] if by else "all"
        sums.setdefault(name, LossSum()).add(sample["nats"], sample["tokens"], sample["target_bytes"])
    return dict(sorted(sums.items()))


def compare(right: Sequence[dict], shuffled: Sequence[dict] | None, by: str | None) -> dict[str, dict[str, float]]:
    """For each value of the column `by` (for "all" when None): samples, nats a token with the right and with shuffled images, and
    bits per byte with the right ones."""
    others = group(shuffled, by) if shuffled is not None else {}
    return {
        name: {
            "samples": loss.samples,
            "loss_right_images": round(loss.nats_per_token, 4),
            **({"loss_shuffled_images": round(others[name].nats_per_token, 4)} if name in others else {}),
            "bits_per_byte": round(loss.bits_per_byte, 4),
        }
        for name, loss in group(right, by).items()
    }


def gap(right: Sequence[dict], shuffled: Sequence[dict]) -> dict[str, float]:
    """How much higher the loss is with shuffled images, nats a token, and the standard error of that, with images as the independent units."""
    tokens, difference = Counter[str](), Counter[str]()
    for with_right, with_shuffled in zip(right, shuffled, strict=True):
        tokens[with_right["key"]] += with_right["tokens"]
        difference[with_right["key"]] += with_shuffled["nats"] - with_right["nats"]
    mean = difference.total() / tokens.total()
    error = math.sqrt(sum((difference[key] - mean * count) ** 2 for key, count in tokens.items())) / tokens.total()
    return {"gap": round(mean, 4), "gap_standard_error": round(error, 4)}


POINTS_OF_A_CURVE = 60
"""Times in a run that losses by group are written, at least (or at every step)."""


class GroupLosses:
    """Sums of the training loss by language and by task, over the steps since they were last taken."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        """`rows`: the index rows that are trained on, which say what languages and tasks there are."""
        self.names = [(what, name) for what in ("language", "task") for name in sorted({row[what] for row in rows})]
        self.place = {name: i for i, name in enumerate(self.names)}
        self.sums = torch.zeros(len(self.names), 3, dtype=torch.float64)

    def add(self, batch: Batch, nats: Tensor) -> None:
        """Count `batch`, whose texts have the losses `nats` (texts,), summed over their tokens."""
        tokens = (batch.text["labels"] != IGNORED).sum(1).tolist() if batch.rows else []
        for row, loss, count, size in zip(batch.rows, nats.tolist(), tokens, batch.target_bytes, strict=True):
            for what in ("language", "task"):
                self.sums[self.place[what, row[what]]] += torch.tensor([loss, count, size], dtype=torch.float64)

    def take(self, world: World) -> dict[str, dict[str, list[float]]]:
        """`{"language": {name: [nats, target tokens, target bytes]}, "task": …}` over all processes, of what occurred; and start anew."""
        sums = world.sum(self.sums.to(world.device)).tolist()
        self.sums.zero_()
        taken: dict[str, dict[str, list[float]]] = {"language": {}, "task": {}}
        for (what, name), (nats, tokens, size) in zip(self.names, sums, strict=True):
            if tokens:
                taken[what][name] = [round(nats, 3), int(tokens), int(size)]
        return taken


def bits_per_byte(sums: Iterable[Sequence[float]]) -> float:
    """Of some [nats, tokens, bytes]."""
    nats, _, size = map(sum, zip(*sums, strict=True))
    return nats / math.log(2) / max(1, size)


class Progress:
    """A line now and then: loss, pace and time left."""

    def __init__(self, step: int, total: int, position: int) -> None:
        self.first_step, self.total = step, total
        self.started = time.monotonic()
        self.first_position = self.position = position
        self.last_step, self.tokens, self.losses = step, 0, list[float]()
        self.sums: list[list[float]] = []

    def step(self, row: dict[str, Any]) -> None:
        """Note a line of the training log."""
        self.last_step, self.position = row["step"], row["position"]
        self.tokens += row["target_tokens"]
        self.losses.append(row["loss"])

    def add(self, taken: dict[str, dict[str, list[float]]]) -> None:
        """Note losses by group, as `GroupLosses.take` gives them."""
        self.sums += taken["task"].values()

    def show(self) -> None:
        """Log a line over the steps since the last one."""
        elapsed = time.monotonic() - self.started
        log.info(
            "step %d of %d, loss %.3f (%.2f bits/byte), %.1f samples/s, %s target tokens/s, %s left",
            self.last_step,
            self.total,
            sum(self.losses) / len(self.losses),
            bits_per_byte(self.sums) if self.sums else math.nan,
            (self.position - self.first_position) / elapsed,
            f"{self.tokens / elapsed:,.0f}",
            duration((self.total - self.last_step) * elapsed / (self.last_step - self.first_step)),
        )
        self.losses.clear()
        self.sums.clear()


class Board:
    """TensorBoard's event files in a folder; nothing without one."""

    def __init__(self, folder: Path | None, step: int) -> None:
        """`step`: what was logged after it is void. Raises ImportError with the remedy where TensorBoard is not installed."""
        self.writer: Any = None
        if folder is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ImportError(
                    "--tensorboard needs TensorBoard: pip install 'polyalign[tensorboard]', or leave the option out."
                ) from error
            self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def show(self, row: dict[str, Any], taken: dict[str, dict[str, list[float]]]) -> None:
        """Write a line of the training log, and losses by group in bits per byte."""
        if self.writer is None:
            return
        for name in ("loss", "gradient_norm", "lr", "target_tokens"):
            self.writer.add_scalar(f"training/{name}", row[name], row["step"])
        for what, groups in taken.items():
            for name, sums in groups.items():
                self.writer.add_scalar(f"bits per byte by {what}/{name}", bits_per_byte([sums]), row["step"])

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def log_to_stderr(level: int = logging.INFO) -> None:
    """Time-stamped lines of ours on stderr, and nothing of the libraries below a warning."""
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for name in ("httpx", "filelock"):
        logging.getLogger(name).setLevel(logging.WARNING)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def duration(seconds: float) -> str:
    """`75` → `1:15`."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"


def text_table(result: dict[str, Any]) -> str:
    """The end of a run as lines of text."""
    lines = [f"{'':24}{'samples':>8}{'right':>9}{'shuffled':>10}{'bits/byte':>11}"]
    rows = {"all": result, **result["by_task"]}
    if "held_out_images" in result:
        rows["all, held-out images"] = result["held_out_images"]
    for name, row in rows.items():
        shuffled = f"{row['loss_shuffled_images']:.3f}" if "loss_shuffled_images" in row else "-"
        lines.append(
            f"{name:24}{row['samples']:>8}{row['loss_right_images']:>9.3f}{shuffled:>10}{row['bits_per_byte']:>11.3f}"
        )
    for name, row in (("", result), (" where the model never saw the image", result.get("held_out_images", {}))):
        if "gap" in row:
            lines.append(f"shuffled images cost {row['gap']:.3f} ± {row['gap_standard_error']:.3f} nats a token{name}")
    return "\n".join(lines) + "\n"
