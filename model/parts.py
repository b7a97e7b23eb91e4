"""A Vision-LLM from parts: BLIP-2's eyes, any language model, and a projection between them.

    model, tokenizer = from_parts("Salesforce/blip2-flan-t5-xl", "bigscience/mt0-xl", quantisation="nf4", device="cuda")

The vision encoder, the Q-Former and its query tokens are read from a BLIP-2 checkpoint without its language model ever being read; the language
model is any encoder-decoder (mT5, mT0, T5, NLLB) or decoder-only one (BLOOM, Llama, Qwen, Gemma, SmolLM …) that transformers knows; the projection
is fresh, or read from where an earlier stage left it. A part is a local folder or a hub id. The outcome is transformers' own
`Blip2ForConditionalGeneration`, and the vocabulary is never resized: an image's pieces stand on a row that the tokenizer does not use.
`skeleton` is the same on the meta device, from configurations alone: shapes and counts of the real models without a byte of their weights.
"""

import json
import logging
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerModel,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from model import assemble, sources
from model.freeze import PARTS
from model.quantise import check_available, quantise
from model.recipes import RECIPES, Recipe

log = logging.getLogger(__name__)

CONFIGS = Path(__file__).with_name("configs")
"""Published configurations of the real parts, by the last part of their hub ids."""

EYES = (PARTS["vision"], PARTS["qformer"], PARTS["query_tokens"])
ALIGNED_FILE = "aligned_parts.safetensors"
"""What training writes beside an adapter: Q-Former, query tokens and projection under their names in the BLIP-2 model."""


def from_preset(
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    quantisation: str | None = None,
    seed: int = 0,
) -> tuple[Blip2ForConditionalGeneration, PreTrainedTokenizerBase, Recipe]:
    """(model, tokenizer, recipe) of the preset `name` of `model/recipes.json`; `quantisation` None takes the recipe's. Raises as `from_parts`."""
    if name not in RECIPES:
        raise ValueError(f"No preset {name!r}; there are {', '.join(RECIPES)}.")
    recipe = RECIPES[name]
    model, tokenizer = from_parts(
        recipe.eyes,
        recipe.language_model,
        image_token=recipe.image_token,
        device=device,
        dtype=dtype,
        quantisation=quantisation or recipe.quantisation,
        seed=seed,
    )
    return model, tokenizer, recipe


def from_parts(
    eyes: str | Path,
    language_model: str | Path,
    *,
    tokenizer: str | Path | None = None,
    aligned: Path | None = None,
    image_token: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    quantisation: str = "none",
    seed: int = 0,
) -> tuple[Blip2ForConditionalGeneration, PreTrainedTokenizerBase]:
    """(model, tokenizer), every part in `dtype` on `device`, the language model's linear layers quantised as asked.

    `eyes`: a BLIP-2 checkpoint; its Q-Former and query tokens may be absent (both then, for eyes without them) and are drawn from `seed`, as the
    projection is. `tokenizer`: the language model's own by default. `aligned`: the file `aligned_parts.safetensors`, or its folder, with projection,
    Q-Former or query tokens of an earlier stage, which replace the others. `image_token`: a special token that stands for the image, for a
    language model without a spare vocabulary row.

    Raises FileNotFoundError, ValueError, ImportError or RuntimeError with the remedy, before any weight is read where that is possible.
    """
    check_available(quantisation, device)
    language_folder = sources.locate(language_model)
    sources.read_config(language_folder)
    text_config = AutoConfig.from_pretrained(language_folder)
    check_dtype(dtype, text_config)
    used_tokenizer = assemble.load_tokenizer(sources.locate(tokenizer or language_folder))
    placeholder = assemble.placeholder_for(used_tokenizer, text_config.vocab_size, image_token)
    eyes_folder = sources.locate(eyes, needed=EYES)
    config = blip2_config(sources.read_config(eyes_folder), text_config, placeholder)

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = Blip2ForConditionalGeneration(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        set_eyes(model, sources.read_tensors(eyes_folder, EYES, dtype), eyes_folder, dtype)
        model.language_projection = fresh_projection(config).to(dtype)
    assemble.set_language_model(model, language_folder, dtype)
    if aligned is not None:
        set_aligned(model, aligned)
    tied = sources.output_matrix_is_tied(language_folder)
    assemble.check(model, used_tokenizer, expect_tied=tied)
    check_language_weights(model, language_folder)
    model.config.dtype = dtype
    check_dtypes(model)
    quantise(model, quantisation, device)
    return model.to(device).eval(), used_tokenizer


def skeleton(
    eyes: dict, language_model: dict, placeholder: int | None = None, dtype: torch.dtype = torch.bfloat16
) -> Blip2ForConditionalGeneration:
    """The model of two configurations (config.json of BLIP-2 and of a language model, as read) on the meta device: shapes without weights.

    An output matrix that config.json calls untied is untied, also in mT5, whose class would tie it.
    """
    kind = language_model["model_type"]
    text_config = AutoConfig.for_model(kind, **{k: v for k, v in language_model.items() if k != "model_type"})
    config = blip2_config(eyes, text_config, text_config.vocab_size - 1 if placeholder is None else placeholder)
    with torch.device("meta"):
        model = Blip2ForConditionalGeneration(config)
        if not language_model.get("tie_word_embeddings", True):
            assemble.untie_output_matrix(model)
    return model.to(dtype)


def has_published_configs(name: str) -> bool:
    """Whether `preset_skeleton` knows the preset's parts."""
    recipe = RECIPES[name]
    return all(_published(source).is_file() for source in (recipe.eyes, recipe.language_model))


def _published(source: str) -> Path:
    return CONFIGS / f"{source.split('/')[-1]}.json"


def published_configs(name: str) -> tuple[dict, dict]:
    """config.json of the preset's eyes and of its language model, as they are in `model/configs`."""
    recipe = RECIPES[name]
    eyes, language_model = (
        json.loads(_published(source).read_text()) for source in (recipe.eyes, recipe.language_model)
    )
    return eyes, language_model


def preset_skeleton(name: str, dtype: torch.dtype = torch.bfloat16) -> Blip2ForConditionalGeneration:
    """The preset's model on the meta device, from the published configurations."""
    return skeleton(*published_configs(name), dtype=dtype)


def blip2_config(eyes: dict, text_config: PreTrainedConfig, placeholder: int) -> Blip2Config:
    """The configuration of BLIP-2's `eyes` with another language model. Raises ValueError when `eyes` is no BLIP-2 configuration."""
    if eyes.get("model_type") != "blip-2" or "vision_config" not in eyes:
        raise ValueError(
            f"The eyes are a model of type {eyes.get('model_type')!r}, not a BLIP-2 checkpoint; give one, such as Salesforce/blip2-flan-t5-xl."
        )
    template = Blip2Config.from_dict({**eyes, "text_config": text_config.to_dict()})
    return Blip2Config(
        vision_config=template.vision_config,
        qformer_config=template.qformer_config,
        text_config=text_config,
        num_query_tokens=template.num_query_tokens,
        image_token_index=placeholder,
    )


def fresh_projection(config: Blip2Config) -> nn.Linear:
    """A projection drawn as transformers draws a new BLIP-2's: weights with standard deviation `initializer_range`, bias 0."""
    projection = nn.Linear(config.qformer_config.hidden_size, config.text_config.hidden_size)
    nn.init.normal_(projection.weight, std=config.initializer_range)
    nn.init.zeros_(projection.bias)
    return projection


def set_eyes(
    model: Blip2ForConditionalGeneration, tensors: dict[str, Tensor], folder: Path, dtype: torch.dtype
) -> None:
    """Put vision encoder, Q-Former and query tokens of a BLIP-2 checkpoint into `model`, which may be on the meta device.

    A checkpoint with neither Q-Former nor query tokens gives fresh ones. Raises ValueError that names what is missing or has another shape.
    """
    has_qformer = any(name.startswith((PARTS["qformer"], PARTS["query_tokens"])) for name in tensors)
    wanted = EYES if has_qformer else (PARTS["vision"],)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items() if name.startswith(wanted)}
    wrong = sorted(name for name in shapes if name not in tensors or tensors[name].shape != shapes[name])
    if wrong:
        raise ValueError(
            f"{folder} lacks weights of BLIP-2's eyes that its config.json describes, or has them in another shape: {', '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}. Download it again, or name a BLIP-2 checkpoint."
        )
    model.vision_model.load_state_dict(_of(tensors, PARTS["vision"]), assign=True)
    if has_qformer:
        model.qformer.load_state_dict(_of(tensors, PARTS["qformer"]), assign=True)
        model.query_tokens = nn.Parameter(tensors[PARTS["query_tokens"]])
        return
    log.info("%s has no Q-Former: it and its query tokens are drawn", folder)
    model.qformer = Blip2QFormerModel(model.config.qformer_config).to(dtype)
    queries = torch.empty(model.query_tokens.shape).normal_(std=assemble.QUERY_TOKEN_STD)
    model.query_tokens = nn.Parameter(queries.to(dtype))


def set_aligned(model: Blip2ForConditionalGeneration, source: Path) -> None:
    """Put the aligned parts that an earlier stage saved into `model`, in the precision that it has.

    Raises FileNotFoundError or ValueError with the remedy when the file is missing or was made for another model.
    """
    path = source / ALIGNED_FILE if source.is_dir() else source
    if not path.is_file():
        raise FileNotFoundError(f"No {path}: give the adapter folder of a training run, or its {ALIGNED_FILE}.")
    tensors = load_file(path)
    parameters = dict(model.named_parameters())
    allowed = (PARTS["qformer"], PARTS["query_tokens"], PARTS["projection"])
    for name, tensor in tensors.items():
        if not name.startswith(allowed) or name not in parameters or parameters[name].shape != tensor.shape:
            mine = tuple(parameters[name].shape) if name in parameters else "not there"
            raise ValueError(
                f"{path} was made for another model: {name} is {tuple(tensor.shape)} in it, and {mine} in this one. "
                "Use the eyes and the language model that it was trained with."
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)


def check_dtype(dtype: torch.dtype, text_config: PreTrainedConfig) -> None:
    """Raise ValueError when a language model can't be run in `dtype`."""
    if dtype == torch.float16 and text_config.model_type in ("t5", "mt5", "umt5"):
        raise ValueError(f"{text_config.model_type} overflows in float16: use bfloat16, or float32.")


def check_dtypes(model: Blip2ForConditionalGeneration) -> None:
    """Raise ValueError when the parts are in different precisions, with the way to make them one. Call it before quantisation and LoRA."""
    by_dtype: dict[torch.dtype, str] = {}
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point():
            by_dtype.setdefault(parameter.dtype, name)
    if len(by_dtype) > 1:
        found = ", ".join(f"{name} is {str(dtype).removeprefix('torch.')}" for dtype, name in by_dtype.items())
        raise ValueError(
            f"The model mixes precisions ({found}): convert all of it with "
            "cast(model, torch.bfloat16) of model.assemble; model.to(torch.bfloat16) would round the frequencies of rotary embeddings too."
        )


def check_language_weights(model: Blip2ForConditionalGeneration, folder: Path, prefix: str = "") -> None:
    """Raise ValueError unless the first rows of embeddings and output matrix are those in the files of `folder`."""
    language_model = model.language_model
    for what, module, endings in (
        ("input embeddings", language_model.get_input_embeddings(), sources.INPUT_MATRICES),
        ("output matrix", language_model.get_output_embeddings(), sources.OUTPUT_MATRICES),
    ):
        there = sources.first_rows(folder, endings, 64, prefix)
        here = module.weight.detach()[:64]
        if there is not None and not torch.equal(here.cpu(), there.to(here.dtype)):
            raise ValueError(
                f"The {what} of the language model are not those in {folder}: something has replaced them while loading. "
                "Check the versions of transformers and of the checkpoint."
            )


def _of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
