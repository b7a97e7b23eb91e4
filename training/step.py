"""One training step: gradients of a batch in pieces, and what is needed round it."""

import argparse
import hashlib
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from transformers import Blip2ForConditionalGeneration

from model.freeze import trainable_parameters
from model.inputs import Layout, TokenizedText, stack
from model.loss import encode_images, image_embeddings, text_losses
from training.loader import Batch


def accumulate_gradients(
    model: Blip2ForConditionalGeneration,
    batch: Batch,
    layout: Layout,
    size: int,
    device: torch.device,
    tokens: int | None = None,
    size_tokens: int | None = None,
) -> tuple[float, Tensor]:
    """Gradients of the batch's mean loss a target token, in forward passes of `size` texts; returns that loss and each text's sum (texts,), nats.

    Texts of like length go through together, which spares padding. Every pass is weighted by its target tokens, so the sum is the gradient
    of the whole batch however it is cut. `tokens`: target tokens of the global batch, where this one is a part of it; the loss is then this
    part's contribution. `size_tokens`: tokens a pass at most, padding included.
    """
    sums = torch.zeros(len(batch.rows), dtype=torch.float64)
    if not batch.rows:
        return 0.0, sums
    tokens = tokens or batch.target_tokens
    # The Q-Former sees each image once a step, too: its gradients from all passes are collected at its output.
    images = image_embeddings(model, vision_states_of(model, batch.to(device)))
    shown = images.detach().requires_grad_(images.requires_grad)
    found = []
    for piece in pieces(batch.tokenized, layout.query_tokens, size, size_tokens):
        text = {name: tensor.to(device) for name, tensor in stack(layout, [batch.tokenized[i] for i in piece]).items()}
        losses, owners = text_losses(model, shown, batch.image_of_text[piece].to(device), text)
        (losses.sum() / tokens).backward()
        found.append((torch.tensor(piece, device=device)[owners], losses.detach()))
    if images.requires_grad:
        images.backward(shown.grad)
    # one copy from the device, so that the passes are not waited for one by one
    sums.index_add_(
        0, torch.cat([owners for owners, _ in found]).cpu(), torch.cat([losses for _, losses in found]).double().cpu()
    )
    return float(sums.sum()) / tokens, sums


def vision_states_of(model: Blip2ForConditionalGeneration, batch: Batch) -> Tensor:
    """The vision encoder's output (images, patches + 1, width) for a batch on the model's device: as it was read, or encoded now."""
    return encode_images(model, batch.pixel_values) if batch.vision_states is None else batch.vision_states


def pieces(
    texts: Sequence[TokenizedText], query_tokens: int, size: int, size_tokens: int | None = None
) -> list[list[int]]:
    """Places of `texts` in forward passes: sorted by length, at most `size` each, at most `size_tokens` tokens with padding (but one text)."""
    lengths = [query_tokens + len(text.prompt) + len(text.target) for text in texts]
    cut: list[list[int]] = [[]]
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        over_budget = size_tokens is not None and (len(cut[-1]) + 1) * lengths[place] > size_tokens
        if cut[-1] and (len(cut[-1]) == size or over_budget):
            cut.append([])
        cut[-1].append(place)
    return cut


def make_optimizer(model: nn.Module, args: argparse.Namespace) -> tuple[torch.optim.AdamW, dict[int, str]]:
    """AdamW over what learns, a group for each (learning rate, decay), and the parameters' names by `id`. Vectors are not decayed."""
    rates = {
        "qformer": args.lr_qformer,
        "query_tokens": args.lr_qformer,
        "projection": args.lr_projection,
        "adapter": args.lr_adapter,
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    names = {}
    for part, name, parameter in trainable_parameters(model):
        decay = args.weight_decay if parameter.ndim == 2 else 0.0
        groups.setdefault((rates[part], decay), []).append(parameter)
        names[id(parameter)] = name
    return torch.optim.AdamW([{"params": ps, "lr": lr, "weight_decay": wd} for (lr, wd), ps in groups.items()]), names


def cosine_with_warmup(step: int, total: int, warmup: float) -> float:
    """Factor of the learning rate in `step` (from 0): linear to 1 over the first `warmup` steps (below 1: share of the steps), then half a
    cosine to 0."""
    rising = max(1, round(warmup * total if warmup < 1 else warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make the random numbers (of dropout) of this step and process a function of the three, so that no generator's state has to be kept.

    Hashed, because torch's generator on the CPU takes only the lowest 32 bits of a seed.
    """
    digest = hashlib.blake2b(f"{seed} {step} {rank}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "big"))


def precision_of(choice: str, device: torch.device) -> torch.dtype:
    """The floating type that --precision means on `device`."""
    if choice == "auto":
        choice = "bfloat16" if device.type == "cuda" else "float32"
    return torch.bfloat16 if choice == "bfloat16" else torch.float32


def set_precision(model: nn.Module, dtype: torch.dtype) -> None:
    """Hold frozen weights in `dtype` and what learns in float32, whose small steps bfloat16 would round away. Quantised weights stay as they are."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else dtype)


def arithmetic(dtype: torch.dtype, device: torch.device) -> AbstractContextManager:
    """The context in which forward passes run."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16)
