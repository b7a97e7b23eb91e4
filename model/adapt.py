"""LoRA on every linear layer of the language model, by an anchored pattern for each architecture.

PEFT matches a list of target names by `endswith("." + name)`, so a short name catches the wrong modules (the Q-Former has `key` and `value` too)
or none at all, without a word. Here the pattern must match a module's whole path, and the number of adapted modules must be what the
architecture's layers add up to.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import Blip2ForConditionalGeneration, PreTrainedConfig

log = logging.getLogger(__name__)

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
"""As PEFT names them."""


@dataclass(frozen=True)
class Targets:
    """Where LoRA goes in one family of language models."""

    pattern: str
    """Regular expression for the whole path of a module within `Blip2ForConditionalGeneration`."""
    modules: Callable[[PreTrainedConfig], int]
    """From the language model's configuration to the number of modules that the pattern must match."""


T5 = Targets(
    pattern=(
        r"^language_model\.(encoder|decoder)\.block\.\d+\.layer\.\d+\."
        r"((SelfAttention|EncDecAttention)\.(q|k|v|o)|DenseReluDense\.(wi|wi_0|wi_1|wo))$"
    ),
    # self-attention in both stacks, cross-attention in the decoder, two or (gated) three feed-forward matrices
    modules=lambda c: c.num_layers * (4 + 2 + c.is_gated_act) + c.num_decoder_layers * (8 + 2 + c.is_gated_act),
)
LLAMA = Targets(
    pattern=r"^language_model\.model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)$",
    modules=lambda c: 7 * c.num_hidden_layers,
)
M2M100 = Targets(
    pattern=(
        r"^language_model\.model\.(encoder|decoder)\.layers\.\d+\."
        r"((self_attn|encoder_attn)\.(q_proj|k_proj|v_proj|out_proj)|fc1|fc2)$"
    ),
    modules=lambda c: 6 * c.encoder_layers + 10 * c.decoder_layers,
)
BLOOM = Targets(
    pattern=r"^language_model\.transformer\.h\.\d+\.(self_attention\.(query_key_value|dense)|mlp\.(dense_h_to_4h|dense_4h_to_h))$",
    modules=lambda c: 4 * c.n_layer,
)

TARGETS = {
    "t5": T5,
    "mt5": T5,
    "umt5": T5,
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "smollm3": LLAMA,
    "gemma": LLAMA,
    "gemma2": LLAMA,
    "gemma3_text": LLAMA,
    "bloom": BLOOM,
    "m2m_100": M2M100,
}
"""`model_type` of the language model → where LoRA goes."""


def targets_of(model: Blip2ForConditionalGeneration) -> Targets:
    """Where LoRA (and quantisation) goes in the language model of `model`. Raises ValueError when its architecture is unknown."""
    kind = model.config.text_config.model_type
    if kind not in TARGETS:
        raise ValueError(
            f"No LoRA pattern for language models of type {kind!r}; known: {', '.join(sorted(TARGETS))}. "
            "Add its pattern and module count to model/adapt.py."
        )
    return TARGETS[kind]


def count_modules(model: Blip2ForConditionalGeneration, count: int, what: str) -> None:
    """Raise ValueError unless `count`, the number of modules that were `what` ("adapted"), is that of the architecture's linear layers."""
    text_config = model.config.text_config
    expected = targets_of(model).modules(text_config)
    if count != expected:
        raise ValueError(
            f"{count} modules were {what} in a {text_config.model_type} that should have {expected} linear layers: "
            "its configuration does not describe it, or transformers has renamed its layers; see model/adapt.py."
        )


def add_lora(
    model: Blip2ForConditionalGeneration,
    rank: int = 8,
    alpha: int = 16,
    dropout: float = 0.05,
    use_dora: bool = False,
    use_rslora: bool = False,
) -> PeftModel:
    """Put LoRA layers into the language model of `model`, in place, and return PEFT's wrapper of it (for saving).

    The defaults are mBLIP's. `use_dora`: a learnt magnitude for each column (arXiv 2402.09353), slower; `use_rslora`: scaled by alpha/√rank
    (2312.03732), for ranks well above 8. Raises ValueError when the architecture is unknown or another number of modules than expected was adapted.
    """
    wrapped = get_peft_model(
        model,
        LoraConfig(
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            use_dora=use_dora,
            use_rslora=use_rslora,
            target_modules=targets_of(model).pattern,
            bias="none",
        ),
    )
    adapted = len(wrapped.base_model.targeted_module_names)
    count_modules(model, adapted, "adapted")
    log.info("LoRA of rank %d on %d modules of the %s", rank, adapted, model.config.text_config.model_type)
    return wrapped


def load_lora(model: Blip2ForConditionalGeneration, folder: Path) -> PeftModel:
    """Put the LoRA layers in `folder`, as `save_pretrained` of `add_lora`'s wrapper wrote them, into `model`, in place; returns PEFT's wrapper.

    Raises FileNotFoundError, or ValueError when they were trained on another model: PEFT itself leaves out what does not fit, with a warning at most.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"No adapter at {folder}: it has no {name}. Give the adapter folder of a training run."
            )
    modules = dict(model.named_modules())
    pattern = json.loads((folder / CONFIG_FILE).read_text())["target_modules"]
    if pattern != targets_of(model).pattern:
        raise ValueError(
            f"The adapter in {folder} is for another kind of language model than {model.config.text_config.model_type}: its target modules are "
            f"{pattern}. Load it onto the model that it was trained on."
        )
    adapted = set()
    with safe_open(folder / WEIGHTS_FILE, framework="pt") as weights:
        for key in weights.keys():  # noqa: SIM118 (it is no dictionary)
            path, _, kind = key.removeprefix("base_model.model.").rpartition(".lora_")
            layer: Any = modules.get(path)
            shape = tuple(weights.get_slice(key).get_shape())
            width = shape[1] if kind == "A.weight" else shape[0]  # of B, and of DoRA's magnitudes, the outputs
            if layer is None or width != (layer.in_features if kind == "A.weight" else layer.out_features):
                here = "not there" if layer is None else f"{layer.in_features} → {layer.out_features}"
                raise ValueError(
                    f"The adapter in {folder} was trained on another model: {key} is {shape} in it, the layer here is {here}. "
                    "Load it onto the model that it was trained on."
                )
            adapted.add(path)
    count_modules(model, len(adapted), f"named by the adapter in {folder} as adapted")
    return PeftModel.from_pretrained(model, str(folder))
