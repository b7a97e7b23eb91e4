"""What a training step keeps for its backward pass: measured on few of the real layers, then counted for all of them.

    python -m model.activations --preset mt0-xl --texts 4

Layers of one kind keep the same, so the model is built in its real widths with one layer a stack and with two (random weights, bfloat16, a small
vocabulary, a minute on a CPU), and with n layers a stack a text keeps

    kept(n) = kept(1) + (n − 1) · (kept(2) − kept(1))

Part of kept(1) is there once a pass and not once a text: autocast's copies of the trained weights in bfloat16. The vision encoder keeps nothing.
The logits are made in pieces of a fixed size (`model.loss.LOGITS_BYTES`); of quantised layers one matrix at a time exists in bfloat16.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from transformers import Blip2ForConditionalGeneration

from model import memory
from model.adapt import add_lora
from model.freeze import set_trainable
from model.inputs import Layout, TokenizedText, stack
from model.loss import LOGITS_BYTES, batch_losses
from model.parts import has_published_configs, preset_skeleton, published_configs, skeleton
from model.quantise import MODES
from model.recipes import RECIPES

TRAINED = ("qformer", "query_tokens", "projection", "adapter")
DEPTHS = ("num_layers", "num_decoder_layers", "n_layer", "num_hidden_layers")
"""What configurations call the number of layers of a stack."""
VOCABULARY = 512


def kept_bytes(forward: Callable[[], Tensor], model: Blip2ForConditionalGeneration) -> int:
    """Bytes that autograd keeps from `forward` until the backward pass, weights of `model` not counted, each storage once."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = tensor  # held, so that no later tensor takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward()
    assert loss.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def few_layers(eyes: dict, language_model: dict, depth: int) -> Blip2ForConditionalGeneration:
    """The model with random weights, `depth` layers in each stack of the language model, and a small vocabulary; bfloat16, trained parts float32."""
    language_model = {**language_model, "vocab_size": VOCABULARY}
    language_model |= {name: depth for name in DEPTHS if name in language_model}
    eyes = {**eyes, "vision_config": {**eyes["vision_config"], "num_hidden_layers": 1}}
    model: Any = skeleton(eyes, language_model).to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    return model


def measure(
    eyes: dict,
    language_model: dict,
    depth: int,
    texts: int,
    prompt: int,
    target: int,
    lora: dict | None = None,
    checkpointing: bool = False,
) -> int:
    """Bytes kept by a forward pass of `texts` texts, each about its own image, with `prompt` and `target` tokens, with LoRA of these options."""
    model = few_layers(eyes, language_model, depth)
    add_lora(model, **(lora or {}))
    set_trainable(model, TRAINED)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    model.train()
    if checkpointing:
        model.language_model.gradient_checkpointing_enable({"use_reentrant": False})
    layout = Layout(
        is_encoder_decoder=not model.config.use_decoder_only_language_model,
        placeholder=model.config.image_token_index,
        query_tokens=model.config.num_query_tokens,
        pad=0,
        eos=1,
    )
    batch = stack(layout, [TokenizedText([5] * prompt, [6] * target, False, False)] * texts)
    vision = model.config.vision_config
    states = torch.randn(texts, (vision.image_size // vision.patch_size) ** 2 + 1, vision.hidden_size).bfloat16()

    def forward() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return batch_losses(model, states, torch.arange(texts), batch)[0].sum()

    return kept_bytes(forward, model)


def extrapolate(one: int, two: int, depth: int) -> int:
    """kept(depth) from kept(1) and kept(2)."""
    return one + (depth - 1) * (two - one)


def kept_by_preset(name: str, texts: int, prompt: int, target: int, checkpointing: bool = False) -> int:
    """Bytes that a step of the preset's real model keeps; it takes a minute and 2 GB on a CPU.

    With gradient checkpointing: what all layers keep for their recomputation, and what one keeps while it is recomputed.
    """
    eyes, language_model = published_configs(name)
    depth = next(language_model[key] for key in DEPTHS if key in language_model)
    lora = asdict(RECIPES[name].lora)
    one, two = (measure(eyes, language_model, layers, texts, prompt, target, lora) for layers in (1, 2))
    if not checkpointing:
        return extrapolate(one, two, depth)
    first, second = (measure(eyes, language_model, layers, texts, prompt, target, lora, True) for layers in (1, 2))
    return extrapolate(first, second, depth) + (two - one)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m model.activations",
        description="GB that a training step of a real model holds: weights, optimiser, activations, logits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--preset", choices=[*filter(has_published_configs, RECIPES)], default="mt0-xl")
    parser.add_argument("--texts", type=int, default=4, help="in one forward pass, each about its own image")
    parser.add_argument("--prompt", type=int, default=28, help="tokens of each prompt, beside the query tokens")
    parser.add_argument("--target", type=int, default=32, help="tokens of each target")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="as training has it")
    args = parser.parse_args()
    kept = kept_by_preset(args.preset, args.texts, args.prompt, args.target, args.gradient_checkpointing)
    model, lora = preset_skeleton(args.preset), memory.count_lora(args.preset)
    matrix = max(layer.weight.numel() for layer in memory.linear_layers(model).values()) * memory.HALF
    logits = 2 * LOGITS_BYTES  # float32, and twice in bfloat16: as they come, and as their gradient
    said = {
        "preset": args.preset,
        "texts": args.texts,
        "kept_gb": round(kept / 1e9, 2),
        "logits_gb": round(logits / 1e9, 2),
    }
    for mode in MODES:
        held = memory.weights(model, mode, lora).with_optimiser
        total = held + kept + logits + (matrix if mode != "none" else 0)
        said[mode] = {"weights_and_optimiser_gb": round(held / 1e9, 2), "total_gb": round(total / 1e9, 2)}
    sys.stdout.write(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
