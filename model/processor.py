"""A `Blip2Processor` that gives a model exactly the inputs that it was trained on, for people who have transformers and nothing of ours.

Our own code lays out token ids itself (`model/inputs.py`), so a base's tokenizer knows of no image and may add tokens of its own. The exported
one has a token `<image>` with the placeholder's id, which `Blip2Processor` repeats in front of the prompt, and adds around a prompt just what
training did: the end-of-sequence token for an encoder-decoder model (with English's language token first for NLLB's family), and nothing
for a decoder-only model, whose batches are padded at the left.
"""

import json
from typing import Any

from tokenizers import Tokenizer
from transformers import Blip2Config, Blip2Processor, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from model.inputs import Layout
from pipeline.languages import ENGLISH

IMAGE_TOKEN = "<image>"
"""The name that `Blip2Processor` looks for."""


def processor_for(config: Blip2Config, tokenizer: PreTrainedTokenizerBase) -> Blip2Processor:
    """The processor of a model with `config` that was trained with `tokenizer`. Raises ValueError as `exported_tokenizer` does."""
    size = config.vision_config.image_size
    return Blip2Processor(
        image_processor=BlipImageProcessorPil(size={"height": size, "width": size}),
        tokenizer=exported_tokenizer(Layout.of(config, tokenizer), tokenizer),
        num_query_tokens=config.num_query_tokens,
    )


def exported_tokenizer(layout: Layout, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerFast:
    """`tokenizer` with `<image>` and our layout. Raises ValueError when it is of Python alone, or the placeholder can't be named `<image>`."""
    if not tokenizer.is_fast:
        raise ValueError("The tokenizer has no tokenizer.json; convert it with transformers' AutoTokenizer first.")
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state |= {"truncation": None, "padding": None, "post_processor": _template(layout, tokenizer)}
    _name_placeholder(state, layout.placeholder, len(tokenizer))
    roles = {
        f"{role}_token": token
        for role in ("bos", "eos", "unk", "pad", "sep", "cls")
        if (token := getattr(tokenizer, f"{role}_token")) is not None
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        **roles,
        padding_side="right" if layout.is_encoder_decoder else "left",
        model_max_length=tokenizer.model_max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def _template(layout: Layout, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    """What the tokenizer puts around a prompt, in tokenizer.json's terms."""
    if not layout.is_encoder_decoder:
        return None
    around = {tokenizer.eos_token: layout.eos}
    single: list[dict[str, Any]] = [
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": tokenizer.eos_token, "type_id": 0}},
    ]
    if layout.language_tokens:
        around[ENGLISH] = layout.language_tokens[ENGLISH]
        single.insert(0, {"SpecialToken": {"id": ENGLISH, "type_id": 0}})
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]} for token, id in around.items()},
    }


def _name_placeholder(state: dict[str, Any], placeholder: int, length: int) -> None:
    """Give the id `placeholder` the name `<image>` in a tokenizer's state: rename the special token that has it, or add one."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added, vocabulary = state["added_tokens"], state["model"]["vocab"]
    others = [token for token in added if token["content"] == IMAGE_TOKEN and token["id"] != placeholder]
    if others or (isinstance(vocabulary, dict) and vocabulary.get(IMAGE_TOKEN, placeholder) != placeholder):
        raise ValueError(
            f"The tokenizer has a token {IMAGE_TOKEN} that is not the placeholder {placeholder} of the model's config.json: "
            f"assemble the model with image_token={IMAGE_TOKEN!r}."
        )
    token = next((token for token in added if token["id"] == placeholder), None)
    if token is None and placeholder != length:
        raise ValueError(
            f"The placeholder {placeholder} leaves a gap behind the tokenizer's last id {length - 1}, which a tokenizer can't have: set "
            f"image_token_index to {length} in the base's config.json and train again."
        )
    if token is None:
        added.append({"id": placeholder, "content": IMAGE_TOKEN, **flags})
        return
    old = token["content"]
    token |= {"content": IMAGE_TOKEN, **flags}
    if isinstance(vocabulary, dict) and old in vocabulary:
        vocabulary[IMAGE_TOKEN] = vocabulary.pop(old)
    elif isinstance(vocabulary, list) and placeholder < len(vocabulary):
        vocabulary[placeholder][0] = IMAGE_TOKEN
