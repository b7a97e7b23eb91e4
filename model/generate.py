"""Text from images and prompts, through transformers' own `generate`.

Works for any number of images a prompt: their placeholders stand one after the other in front of it, as in training for one image and as in
mBLIP for MaRVL's two.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerBase

from model.inputs import Layout, stack_prompts, tokenize_prompts


@dataclass(frozen=True)
class Decoding:
    """Arguments of transformers' `generate`."""

    beams: int = 1
    max_new_tokens: int = 50
    min_new_tokens: int = 1
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0


@torch.no_grad()
def generate(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    pixel_values: Tensor,
    prompts: Sequence[str],
    prompt_languages: Sequence[str],
    target_languages: Sequence[str],
    decoding: Decoding,
    images_a_prompt: int = 1,
) -> list[str]:
    """One text for each prompt; `pixel_values`: (prompts × images a prompt, 3, height, width), normalised, a prompt's images together.

    `prompt_languages` and `target_languages`: NLLB codes, which matter only to a model with language tokens; the prompt tells all others.
    The model's mode is restored. A decoder-only model's output may begin with the prompt, depending on the architecture: it is cut off.
    """
    layout = Layout.of(model.config, tokenizer)
    layout = replace(layout, query_tokens=images_a_prompt * layout.query_tokens)
    batch = stack_prompts(layout, tokenize_prompts(tokenizer, layout, prompts, prompt_languages), target_languages)
    was_training = model.training
    model.eval()
    try:
        ids = model.generate(
            pixel_values=pixel_values,
            **{name: tensor.to(pixel_values.device) for name, tensor in batch.items()},
            max_new_tokens=decoding.max_new_tokens,
            min_new_tokens=decoding.min_new_tokens,
            num_beams=decoding.beams,
            length_penalty=decoding.length_penalty,
            repetition_penalty=decoding.repetition_penalty,
            do_sample=False,
            pad_token_id=layout.pad,
            eos_token_id=layout.eos,
        ).cpu()
    finally:
        model.train(was_training)
    width = batch["input_ids"].shape[1]
    repeats_prompt = ids.shape[1] >= width and torch.equal(ids[:, :width], batch["input_ids"])
    if not layout.is_encoder_decoder and repeats_prompt:
        ids = ids[:, width:]
    ids = ids.masked_fill(
        ids >= len(tokenizer), tokenizer.pad_token_id
    )  # spare rows are nothing that a tokenizer can write
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
