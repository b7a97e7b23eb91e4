"""The model that a run starts from: a folder, a tiny base made for the occasion, or the parts of a real one."""

import argparse
import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerBase

from model import assemble, parts, sources
from model.quantise import check_available, quantise
from model.recipes import RECIPES
from training.distributed import World
from training.smollm2 import make_smollm2
from training.step import precision_of
from training.tiny_base import make_base

log = logging.getLogger(__name__)


def load_or_make(
    args: argparse.Namespace, world: World
) -> tuple[Blip2ForConditionalGeneration, PreTrainedTokenizerBase, dict[str, Any]]:
    """(model, tokenizer, what result.json says of it). Raises OSError or ValueError with the remedy."""
    if args.base is None and (args.preset in RECIPES or args.eyes):
        model, tokenizer, described = from_parts(args, world.device)
    else:
        folder = args.base or args.out / "base"
        if args.base is None:
            if world.writes and not folder.exists():
                make_tiny(args, folder, world.device)
            world.wait()
        quantisation = args.quantisation or "none"
        check_available(quantisation, world.device)
        tokenizer = assemble.load_tokenizer(args.tokenizer or folder)
        model, described = assemble.load(folder, tokenizer), {"base": str(folder)}
        if quantisation != "none":
            assemble.cast(model, precision_of(args.precision, world.device))
            quantise(model, quantisation, world.device)
    if args.aligned is not None:
        adapter = args.aligned / "adapter"
        parts.set_aligned(model, adapter if adapter.is_dir() else args.aligned)
    return model, tokenizer, described


def load_tokenizer(args: argparse.Namespace) -> PreTrainedTokenizerBase:
    """The tokenizer that the run will have, without the model. Raises OSError or ValueError with the remedy."""
    recipe = RECIPES.get(args.preset)
    own: str | Path | None = (
        args.tokenizer or args.base or args.language_model or (recipe.language_model if recipe else None)
    )
    if own is None and (args.out / "base").is_dir():
        own = args.out / "base"
    if own is not None:
        return assemble.load_tokenizer(sources.locate(own))
    in_repository = assemble.PRESETS[args.preset].tokenizer
    if in_repository is None:
        raise ValueError(
            f"The tokenizer of {args.preset} comes with its base, which is not made yet: name one with --tokenizer."
        )
    return assemble.load_tokenizer(assemble.in_repository(in_repository))


def from_parts(
    args: argparse.Namespace, device: torch.device
) -> tuple[Blip2ForConditionalGeneration, PreTrainedTokenizerBase, dict[str, Any]]:
    """A real model: BLIP-2's eyes and any language model, the preset's where none is named."""
    recipe = RECIPES.get(args.preset)
    chosen: dict[str, Any] = {
        "eyes": args.eyes or (recipe and recipe.eyes),
        "language_model": args.language_model or (recipe and recipe.language_model),
        "tokenizer": str(args.tokenizer) if args.tokenizer else None,
        "image_token": args.image_token or (recipe and recipe.image_token),
        "quantisation": args.quantisation or "none",
    }
    if not chosen["language_model"]:
        raise ValueError("--eyes needs a language model: name one with --language-model, or a preset that has one.")
    model, tokenizer = parts.from_parts(
        **chosen, device=device, dtype=precision_of(args.precision, device), seed=args.seed
    )
    return model, tokenizer, {"parts": chosen}


def make_tiny(args: argparse.Namespace, folder: Path, device: torch.device) -> None:
    """Make the preset's tiny base in `folder`."""
    log.info("no --base: making a tiny one in %s", folder)
    preset = assemble.PRESETS[args.preset]
    qformer_steps = preset.qformer_steps if args.qformer_steps is None else args.qformer_steps
    if args.preset == "smollm2":
        text_steps = preset.base_steps if args.text_steps is None else args.text_steps
        make_smollm2(folder, qformer_steps, text_steps, args.seed, precision_of(args.precision, device))
        return
    language_model = Path(args.language_model) if args.language_model else None
    tokenizer = args.tokenizer or language_model or assemble.in_repository(str(preset.tokenizer))
    make_base(
        args.shards,
        folder,
        args.preset,
        tokenizer,
        args.text_steps,
        qformer_steps,
        args.seed,
        language_model,
        args.held_out,
    )


def digest_of(model: torch.nn.Module) -> str:
    """A digest of the base's weights: names, shapes and the first kilobyte of every tensor."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.flatten()[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()
