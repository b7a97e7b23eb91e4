"""Text from images and prompts, through transformers' own `generate`."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerBase

from model.inputs import Layout, stack_prompts, tokenize_prompts


@torch.no_grad()
def generate(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    pixel_values: Tensor,
    prompts: Sequence[str],
    prompt_languages: Sequence[str],
    target_languages: Sequence[str],
    max_new_tokens: int = 50,
    beams: int = 1,
    length_penalty: float = 1.0,
) -> list[str]:
    """One text for each (image, prompt) pair; `pixel_values`: (pairs, 3, height, width), normalised.

    `prompt_languages` and `target_languages`: NLLB codes, which matter only to a model with language tokens.
    The model's mode is restored. A decoder-only model's output may begin with the prompt, depending on the architecture: it is cut off.
    """
    layout = Layout.of(model.config, tokenizer)
    batch = stack_prompts(layout, tokenize_prompts(tokenizer, layout, prompts, prompt_languages), target_languages)
    was_training = model.training
    model.eval()
    try:
        ids = model.generate(
            pixel_values=pixel_values,
            **{name: tensor.to(pixel_values.device) for name, tensor in batch.items()},
            max_new_tokens=max_new_tokens,
            num_beams=beams,
            length_penalty=length_penalty,
            do_sample=False,
            pad_token_id=layout.pad,
            eos_token_id=layout.eos,
        )
    finally:
        model.train(was_training)
    width = batch["input_ids"].shape[1]
    if (
        not layout.is_encoder_decoder
        and ids.shape[1] >= width
        and torch.equal(ids[:, :width].cpu(), batch["input_ids"])
    ):
        ids = ids[:, width:]
    ids = ids.masked_fill(
        ids >= len(tokenizer), tokenizer.pad_token_id
    )  # spare rows are nothing that a tokenizer can write
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
