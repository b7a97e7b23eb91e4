"""A loaded model that answers: free text by transformers' `generate`, or the likeliest of a few labels.

Works for any number of images an item. Images are decoded and scaled exactly as in training (`model/images.py`); one that can't be decoded is
an error that the caller counts, never a black picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from model.generate import Decoding, generate
from model.images import normalise
from model.inputs import Layout, stack, tokenize
from model.load import load_model
from model.loss import encode_images, image_embeddings, label_states, softcap_of, token_losses
from model.sources import locate
from pipeline.languages import ENGLISH

LONGEST_PROMPT = 256
"""Tokens of a prompt when labels are ranked; longer ones are an error, since a cut prompt asks something else."""


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

    def generate(
        self, images: Sequence[Sequence[Tensor]], prompts: Sequence[str], languages: Sequence[str], decoding: Decoding
    ) -> list[str]:
        """One text for each prompt. `images`: for each prompt its pictures, uint8 (3, size, size), the same number for all. `languages`: that
        of each answer (NLLB code), which a model with language tokens is told by a token; the prompt tells it to all others."""
        english = [ENGLISH] * len(prompts)
        return generate(
            self.model, self.tokenizer, self.pixels(images), prompts, english, languages, decoding, len(images[0])
        )

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
            output = self.model.language_model.get_output_embeddings()
            scores = -token_losses(hidden, wanted, output, softcap=softcap_of(self.model))
            sums = torch.zeros(len(prompts), device=self.device).index_add_(0, owner, scores)
            columns.append(sums / torch.bincount(owner, minlength=len(prompts)))
        return torch.stack(columns, dim=1).cpu()


def load(source: str | Path, device: torch.device | None = None) -> Answerer:
    """The model of `source`: a training run, a Hugging Face folder of the BLIP-2 class (an export too), or a hub id of one.

    Raises OSError, ModelError or ValueError that say what is missing.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_model(locate(source), device)
    return Answerer(loaded.model, loaded.tokenizer, loaded.fingerprint, device)
