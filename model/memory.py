"""What the real models weigh in each precision, counted on the meta device: no weights, no network.

    python -m model.memory

The language model's linear layers are as they are, in 8 bits or in NF4 (`model.quantise`); embeddings, output matrix, norms and the vision encoder
in bfloat16; what is trained (Q-Former, query tokens, projection, LoRA) in float32 with a gradient and AdamW's two moments. Beside them stands mBLIP's
way to 8 bits: transformers' quantiser leaves mT5's `wo` out, and PEFT's preparation turns everything that is not 8-bit into float32.
"""

import argparse
import sys
from collections import Counter
from dataclasses import asdict, dataclass, replace

from transformers import Blip2ForConditionalGeneration

from model.adapt import add_lora
from model.freeze import part_of
from model.parts import has_published_configs, preset_skeleton
from model.quantise import MODES, linear_layers
from model.recipes import RECIPES

HALF, FULL = 2, 4
"""Bytes of a number in bfloat16 and float32."""
NF4_BLOCK, ABSMAX_BLOCK = 64, 256
"""bitsandbytes' block sizes: weights that share a scale, scales that share a scale of their own (double quantisation)."""
MBLIP = "8bit, mBLIP's way"


@dataclass(frozen=True)
class Weights:
    """Bytes by part."""

    language_model: int
    vision: int
    trained: int
    """Q-Former, query tokens, projection and LoRA, float32."""

    @property
    def total(self) -> int:
        return self.language_model + self.vision + self.trained

    @property
    def with_optimiser(self) -> int:
        """With a gradient and two moments for each trained number: what a training run holds before its first activation."""
        return self.total + 3 * self.trained


def layer_bytes(numbers: int, outputs: int, mode: str) -> int:
    """Bytes of a weight matrix of `numbers` numbers and `outputs` rows in `mode` (of `model.quantise.MODES`), with its scales.

    8 bits: a float32 scale for each row. NF4: half a byte a number, a byte for the scale of 64 numbers, a float32 for 256 of these, and
    two tables (16 and 256 values) with an offset, float32.
    """
    if mode == "8bit":
        return numbers + FULL * outputs
    if mode == "nf4":
        scales = -(-numbers // NF4_BLOCK)
        return -(-numbers // 2) + scales + FULL * (-(-scales // ABSMAX_BLOCK) + 16 + 256 + 1)
    return HALF * numbers


def weights(model: Blip2ForConditionalGeneration, mode: str, lora_parameters: int = 0) -> Weights:
    """Bytes of `model`, whose language model is neither quantised nor adapted yet, in `mode`. It may be on the meta device."""
    linear = {name: module.weight for name, module in linear_layers(model).items()}
    quantised = {f"{name}.weight" for name in linear}
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        if part_of(name) == "language_model" and name not in quantised:
            counts["language_model"] += HALF * parameter.numel()
        elif part_of(name) == "vision":
            counts["vision"] += HALF * parameter.numel()
        elif part_of(name) != "language_model":
            counts["trained"] += FULL * parameter.numel()
    counts["language_model"] += sum(layer_bytes(w.numel(), w.shape[0], mode) for w in linear.values())
    return Weights(counts["language_model"], counts["vision"], counts["trained"] + FULL * lora_parameters)


def mblip_language_model_bytes(model: Blip2ForConditionalGeneration) -> int:
    """Bytes of the language model in 8 bits as transformers' quantiser and `peft.prepare_model_for_kbit_training` leave it."""
    kept = tuple(model.language_model._keep_in_fp32_modules or ())  # transformers' quantiser leaves these out
    layers = linear_layers(model)
    rows = {f"{name}.weight": layer.out_features for name, layer in layers.items() if name.split(".")[-1] not in kept}
    total = 0
    for name, parameter in model.named_parameters():
        if name in rows:
            total += layer_bytes(parameter.numel(), rows[name], "8bit")
        elif part_of(name) == "language_model":
            total += FULL * parameter.numel()
    return total


def table() -> list[tuple[str, str, Weights]]:
    """(preset, mode, bytes) for the presets with published configurations; the mode `MBLIP` is what this module's first lines say of it."""
    rows = []
    for name in filter(has_published_configs, RECIPES):
        model, lora = preset_skeleton(name), count_lora(name)
        by_mode = {mode: weights(model, mode, lora) for mode in MODES}
        by_mode[MBLIP] = replace(by_mode["8bit"], language_model=mblip_language_model_bytes(model))
        rows += [(name, mode, counted) for mode, counted in by_mode.items()]
    return rows


def count_lora(name: str) -> int:
    """Number of LoRA parameters of a preset, with its recipe's rank."""
    model = preset_skeleton(name)
    add_lora(model, **asdict(RECIPES[name].lora))
    return sum(p.numel() for key, p in model.named_parameters() if part_of(key) == "adapter")


def text_table() -> str:
    """The table as text, in GB (10⁹ bytes)."""
    lines = [
        f"{'preset':12} {'language model in':18} {'language model':>15} {'vision':>7} {'trained':>8} {'weights':>8} {'with AdamW':>11}"
    ]
    for name, mode, counted in table():
        numbers = (counted.language_model, counted.vision, counted.trained, counted.total, counted.with_optimiser)
        how = {"none": "bfloat16"}.get(mode, mode)
        cells = " ".join(
            f"{number / 1e9:>{width}.2f}" for number, width in zip(numbers, (15, 7, 8, 8, 11), strict=True)
        )
        lines.append(f"{name:12} {how:18} {cells}")
    return "\n".join(lines) + "\n"


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m model.memory", description="GB of weights of the real models, by precision."
    ).parse_args()
    sys.stdout.write(text_table())
    sys.stdout.write(
        "\nGB = 10^9 bytes. trained: Q-Former, query tokens, projection and LoRA in float32. with AdamW: with their gradients and two moments.\n"
        f"{MBLIP}: as transformers' quantiser and PEFT's preparation leave it. What a step keeps besides: python -m model.activations\n"
    )


if __name__ == "__main__":
    main()
