"""Which part of the Vision-LLM learns.

One function sets `requires_grad` part by part and logs one line a part, so that what is trained is never the outcome of several files.
"""

import logging
from collections.abc import Collection, Iterator

from torch import nn

log = logging.getLogger(__name__)

PARTS = {
    "vision": "vision_model.",
    "query_tokens": "query_tokens",
    "qformer": "qformer.",
    "projection": "language_projection.",
    "language_model": "language_model.",
    "adapter": "lora_",
}
"""Part → what its parameters' names start with in `Blip2ForConditionalGeneration` (for the adapter: what they hold, wherever they are)."""


def part_of(name: str) -> str:
    """The part that the parameter `name` (as `named_parameters` of the unwrapped BLIP-2 model gives it) belongs to.

    Raises ValueError for a name of no part: a new kind of parameter must be put into a part before it can be trained or frozen.
    """
    if PARTS["adapter"] in name:
        return "adapter"
    for part, prefix in PARTS.items():
        if name.startswith(prefix):
            return part
    raise ValueError(f"The parameter {name} belongs to no known part; add its part to PARTS in model/freeze.py.")


def set_trainable(model: nn.Module, parts: Collection[str]) -> None:
    """Let exactly `parts` of `model` learn, and log one line a part with its number of parameters.

    Raises ValueError when a part is unknown or has no parameters.
    """
    counts = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        part = part_of(name)
        parameter.requires_grad_(part in parts)
        counts[part] += parameter.numel()
    for part in parts:
        if not counts.get(part):
            raise ValueError(
                f"Nothing to train in part {part!r}; the model has {', '.join(p for p in counts if counts[p])}."
            )
    for part, count in counts.items():
        if count:
            log.info("%-14s %11s parameters, %s", part, f"{count:,}", "trained" if part in parts else "frozen")


def trainable_parameters(model: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """(part, name, parameter) of everything that learns, in the model's own order."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield part_of(name), name, parameter
