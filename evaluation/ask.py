"""A loaded model that answers: free text by transformers' `generate`, or the likeliest of a few labels.

Works for any number of images an item: their placeholders stand one after the other in front of the prompt, as in training for one image and as
in mBLIP for MaRVL's two. Images are decoded and scaled exactly as in training (`training/loader.py`); one that can't be decoded is an
error that the caller counts, never a black picture.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import log_softmax
from transformers import PreTrainedTokenizerBase

from evaluation.protocols import Decoding
from model import assemble
from model.inputs import Layout, stack, stack_prompts, tokenize, tokenize_prompts
from model.loss import encode_images, image_embeddings, label_states
from pipeline.files import sha256_file
from pipeline.languages import ENGLISH
from training.loader import normalise

LONGEST_PROMPT = 256
"""Tokens of a prompt when labels are ranked; longer ones are an error, since a cut prompt asks something else."""


class ModelError(ValueError):
    """A folder that is no model; the message says what it lacks."""


class BadImage(Exception):
    """An image that can't be read, with its path and the reason."""


def read_image(path: Path, size: int) -> Tensor:
    """uint8 (3, size, size), RGB, transparent parts white, scaled as in training. Raises BadImage."""
    try:
        with Image.open(path) as image:
            rgba = image.convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImage(f"{path}: {error}") from error
    rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return torch.from_numpy(np.array(rgb.resize((size, size), Image.Resampling.BICUBIC))).permute(2, 0, 1).contiguous()


@dataclass(frozen=True)
class Answerer:
    """A model, its tokenizer and where it runs."""

    model: Any
    """A `Blip2ForConditionalGeneration`, whose own annotations are too loose to check against."""
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    """Of the weights: the same model gives the same."""
    device: torch.device

    @property
    def image_size(self) -> int:
        return self.model.config.vision_config.image_size

    @cached_property
    def layout(self) -> Layout:
        return Layout.of(self.model.config, self.tokenizer)

    def _layout(self, images: int) -> Layout:
        """For items of several images: each has its own placeholders."""
        return replace(self.layout, query_tokens=images * self.layout.query_tokens)

    def pixels(self, images: Sequence[Sequence[Tensor]]) -> Tensor:
        """float32 (items × images an item, 3, size, size) from uint8 pictures; an item's images stand together, in their order."""
        return normalise(torch.stack([image for item in images for image in item])).to(self.device)

    @torch.no_grad()
    def generate(
        self, images: Sequence[Sequence[Tensor]], prompts: Sequence[str], languages: Sequence[str], decoding: Decoding
    ) -> list[str]:
        """One text for each prompt. `images`: for each prompt its pictures, uint8 (3, size, size), the same number for all. `languages`: that
        of each answer (NLLB code), which a model with language tokens is told by a token; the prompt tells it to all others."""
        layout = self._layout(len(images[0]))
        prompt_ids = tokenize_prompts(self.tokenizer, layout, prompts, [ENGLISH] * len(prompts))
        batch = stack_prompts(layout, prompt_ids, languages)
        ids = self.model.generate(
            pixel_values=self.pixels(images),
            **{name: tensor.to(self.device) for name, tensor in batch.items()},
            max_new_tokens=decoding.max_new_tokens,
            min_new_tokens=decoding.min_new_tokens,
            num_beams=decoding.beams,
            length_penalty=decoding.length_penalty,
            repetition_penalty=decoding.repetition_penalty,
            do_sample=False,
            pad_token_id=layout.pad,
            eos_token_id=layout.eos,
        ).cpu()
        width = batch["input_ids"].shape[1]
        repeats_prompt = ids.shape[1] >= width and torch.equal(ids[:, :width], batch["input_ids"])
        if not layout.is_encoder_decoder and repeats_prompt:
            ids = ids[:, width:]
        ids = ids.masked_fill(ids >= len(self.tokenizer), self.tokenizer.pad_token_id)  # spare rows are no text
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    @torch.no_grad()
    def rank(self, images: Sequence[Sequence[Tensor]], prompts: Sequence[str], labels: Sequence[str]) -> Tensor:
        """Mean log-probability a token of each label after each prompt, nats, float32 (prompts, labels).

        The end-of-sequence token counts as one, so that "no" is not a free prefix of "no idea". The language token in front of a label, which
        models of NLLB's family are told, is no token of the label.
        """
        layout = self._layout(len(images[0]))
        states = encode_images(self.model, self.pixels(images))
        pictures = image_embeddings(self.model, states)  # (prompts × images, query tokens, width)
        pictures = pictures.reshape(len(prompts), -1, pictures.shape[-1])
        columns = []
        for label in labels:
            texts = tokenize(
                self.tokenizer, layout, prompts, [label] * len(prompts),
                [ENGLISH] * len(prompts), [ENGLISH] * len(prompts), LONGEST_PROMPT, 64,
            )  # fmt: skip
            if any(text.prompt_was_cut or text.target_was_cut for text in texts):
                raise ValueError(
                    f"A prompt of more than {LONGEST_PROMPT} tokens can't be asked whole: {max(prompts, key=len)!r}."
                )
            text_batch = {name: tensor.to(self.device) for name, tensor in stack(layout, texts).items()}
            hidden, wanted, owner = label_states(
                self.model, pictures, torch.arange(len(prompts), device=self.device), **text_batch
            )
            logits = self.model.language_model.get_output_embeddings()(hidden).float()
            scores = log_softmax(logits, dim=-1).gather(1, wanted[:, None])[:, 0]
            sums = torch.zeros(len(prompts), device=self.device).index_add_(0, owner, scores)
            columns.append(sums / torch.bincount(owner, minlength=len(prompts)))
        return torch.stack(columns, dim=1).cpu()


def load(folder: Path, device: torch.device | None = None) -> Answerer:
    """A training run's folder (adapter/ and result.json, or their parent with training/), or a Hugging Face folder of the BLIP-2 class.

    Raises ModelError or ValueError that say what is missing.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if (folder / "training" / "adapter").is_dir():
        folder = folder / "training"
    if (folder / "adapter").is_dir():
        model, tokenizer = _load_run(folder)
        weights = sorted((folder / "adapter").glob("*.safetensors"))
    elif (folder / "config.json").is_file():
        tokenizer = assemble.load_tokenizer(folder)
        model = assemble.load(folder, tokenizer)
        weights = sorted(folder.glob("*.safetensors"))
    else:
        raise ModelError(
            f"{folder} is no model: it has neither adapter/ (a run of training/realign.py) nor config.json (a Hugging Face folder)."
        )
    digest = hashlib.sha256("".join(sha256_file(path) for path in weights).encode()).hexdigest()[:16]
    placed: Any = model.eval()
    return Answerer(placed.to(device), tokenizer, digest, device)


def _load_run(folder: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """Base, LoRA merged into it, and the aligned parts on top."""
    result_path, aligned_path = folder / "result.json", folder / "adapter" / "aligned_parts.safetensors"
    for path in (result_path, aligned_path):
        if not path.is_file():
            raise ModelError(
                f"{path} is not there: the training run is not finished. Go on with `training/realign.py … --resume`."
            )
    result = json.loads(result_path.read_text(encoding="utf-8"))
    base = Path(result["base"])
    if not base.is_dir():
        base = folder / "base"  # the run folder was moved with its base
    if not base.is_dir():
        raise ModelError(
            f"The base {result['base']} that {result_path} names is not there; put it into {folder / 'base'}."
        )
    tokenizer = assemble.load_tokenizer(Path(result.get("config", {}).get("tokenizer") or base))
    model = assemble.load(base, tokenizer)
    merged: Any = PeftModel.from_pretrained(model, str(folder / "adapter")).merge_and_unload()
    aligned = load_file(aligned_path)
    unknown = set(aligned) - set(merged.state_dict())
    if unknown:
        raise ModelError(
            f"{aligned_path} holds {min(unknown)}, which the model of {base} does not have: it is another base's."
        )
    merged.load_state_dict(aligned, strict=False)
    return merged, tokenizer
