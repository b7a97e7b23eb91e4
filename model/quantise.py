"""The language model's linear layers in 8 bits or NF4 (bitsandbytes), everything else in the precision it has.

Quantised is exactly what LoRA adapts: every linear layer of the language model's blocks, counted (`model.adapt.TARGETS`). transformers' own
quantiser leaves mT5's `wo` out, a third of its blocks, because the class wants it in float32 under float16; and PEFT's preparation for k-bit
training turns the two 250,000-row matrices into float32 besides. In bfloat16 neither is needed: `wo` is quantised, embeddings and output matrix
stay as they are. NF4 weights are stored in the compute precision's own type, because T5's feed-forward layer casts its activations to the type of
`wo.weight`, which would be 8-bit integers otherwise.

On a CPU it works too, and saves memory, not time.
"""

import logging
import re
from typing import Any

import torch
from torch import nn
from transformers import Blip2ForConditionalGeneration

from model.adapt import count_modules, targets_of

log = logging.getLogger(__name__)

MODES = ("none", "8bit", "nf4")
"""How the language model's linear layers may be kept: as they are, LLM.int8 (arXiv 2208.07339), NF4 with double quantisation (2305.14314)."""

OUTLIER_THRESHOLD = 6.0
"""LLM.int8 keeps input features with a larger value in 16 bits (section 3.2 of its paper)."""


def quantise(model: Blip2ForConditionalGeneration, mode: str, device: torch.device | str = "cpu") -> None:
    """Quantise the language model's linear layers in place, one after the other, and put each on `device`.

    Call it before `add_lora` and `model.to(device)`. Raises ValueError for an unknown mode, for a model that is quantised or
    has LoRA already, and for another number of layers than the architecture has; ImportError and RuntimeError with the remedy when bitsandbytes or
    CUDA is missing.
    """
    if mode == "none":
        return
    check_available(mode, device)
    for name, linear in linear_layers(model).items():
        if type(linear) is not nn.Linear:
            raise ValueError(
                f"{name} is a {type(linear).__name__}: quantise the model once, before LoRA is added, from weights in 16 or 32 bits."
            )
        model.set_submodule(name, (_in_8_bits if mode == "8bit" else _in_nf4)(linear).to(device))
    model.is_loaded_in_8bit, model.is_loaded_in_4bit = mode == "8bit", mode == "nf4"  # what PEFT chooses its layers by
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(
        logging.ERROR
    )  # warns of bfloat16 in every layer and every step
    log.info("the language model's linear layers are in %s", mode)


def linear_layers(model: Blip2ForConditionalGeneration) -> dict[str, nn.Linear]:
    """Name → module of the linear layers in the language model's blocks. Raises ValueError when there are more or fewer than it should have."""
    pattern = targets_of(model).pattern
    layers: dict[str, Any] = {name: module for name, module in model.named_modules() if re.fullmatch(pattern, name)}
    count_modules(model, len(layers), "found")
    return layers


def _in_8_bits(linear: nn.Linear) -> nn.Module:
    import bitsandbytes as bnb

    sizes, bias = (linear.in_features, linear.out_features), linear.bias is not None
    new = bnb.nn.Linear8bitLt(*sizes, bias=bias, has_fp16_weights=False, threshold=OUTLIER_THRESHOLD)
    new.weight = bnb.nn.Int8Params(linear.weight.data, requires_grad=False, has_fp16_weights=False)
    new.bias = linear.bias
    return new.requires_grad_(False)


def _in_nf4(linear: nn.Linear) -> nn.Module:
    import bitsandbytes as bnb

    sizes, bias, dtype = (linear.in_features, linear.out_features), linear.bias is not None, linear.weight.dtype
    how: dict[str, Any] = {"compress_statistics": True, "quant_type": "nf4", "quant_storage": dtype}
    new = bnb.nn.Linear4bit(*sizes, bias=bias, compute_dtype=dtype, **how)
    # Some CPUs' first inference would repack the weight as 8-bit integers, and T5 then cast its activations to that in the second.
    new.support_avx512bf16_for_cpu = False
    new.weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False, module=new, **how)
    new.bias = linear.bias
    return new.requires_grad_(False)


def check_available(mode: str, device: torch.device | str) -> None:
    """Raise ValueError, ImportError or RuntimeError with the remedy when the language model can't be quantised so on `device`."""
    if mode not in MODES:
        raise ValueError(f"Unknown quantisation {mode!r}: choose one of {', '.join(MODES)}.")
    check_device(device)
    if mode == "none":
        return
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"Quantisation to {mode} needs bitsandbytes: install it with `pip install 'polyalign[gpu]'`, or choose quantisation none."
        ) from error


def check_device(device: torch.device | str) -> None:
    """Raise RuntimeError with the remedy when `device` is a CUDA device and there is none."""
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        built = (
            "" if torch.version.cuda else " This torch was built for the CPU: install the CUDA build from pytorch.org."
        )
        raise RuntimeError(
            f"The device {device} was asked for, but torch sees no CUDA device.{built} "
            "See what nvidia-smi says, or take the CPU with --device cpu."
        )
