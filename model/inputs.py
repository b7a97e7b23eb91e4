"""An image, a prompt and a target as token ids.

An encoder-decoder model reads `placeholders prompt eos` and writes `target eos`; a decoder-only model reads and continues one sequence,
`placeholders prompt target eos`, whose labels are the target and eos. The prompt says which language is wanted. Only a model of NLLB's family
is told by tokens, as it was trained to be: it reads `placeholders language prompt eos`, and the target's language is the first token that its
decoder reads, which has no label. The image comes first for all of them, since `Blip2Processor` can place it nowhere else.
The number of placeholders is the number of the model's query tokens; too few would be accepted by transformers in silence, and none would
leave the image out, so `stack` asserts the count for every sample.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import Blip2Config, PreTrainedTokenizerBase

IGNORED = -100
"""Label of a position that has no loss (torch's and transformers' convention)."""


@dataclass(frozen=True)
class Layout:
    """What of the model and the tokenizer decides how ids are laid out."""

    is_encoder_decoder: bool
    placeholder: int
    query_tokens: int
    pad: int
    eos: int
    decoder_start: int = 0
    """What the decoder of an encoder-decoder model reads first."""
    language_tokens: dict[str, int] = field(default_factory=dict)
    """NLLB code → token that begins a text of this language; empty for a model without such tokens."""
    unknown: int = 0
    """Token that begins a text of a language that the tokenizer has no token for."""

    @classmethod
    def of(cls, config: Blip2Config, tokenizer: PreTrainedTokenizerBase) -> "Layout":
        return cls(
            is_encoder_decoder=not config.use_decoder_only_language_model,
            placeholder=config.image_token_index,
            query_tokens=config.num_query_tokens,
            pad=tokenizer.pad_token_id,
            eos=tokenizer.eos_token_id,
            decoder_start=0 if config.use_decoder_only_language_model else config.text_config.decoder_start_token_id,
            language_tokens=language_tokens(tokenizer) if config.text_config.model_type == "m2m_100" else {},
            unknown=tokenizer.unk_token_id or 0,
        )


def language_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """NLLB code → id, for the tokens of `tokenizer` that are language codes."""
    return {
        token: id for token, id in tokenizer.get_added_vocab().items() if re.fullmatch(r"[a-z]{3}_[A-Z][a-z]{3}", token)
    }


@dataclass(frozen=True)
class TokenizedText:
    """One prompt and its target, each with its language token in front where the model has them.

    `prompt` has no placeholders yet, `target` ends with eos unless it was cut.
    """

    prompt: list[int]
    target: list[int]
    prompt_was_cut: bool
    target_was_cut: bool


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    layout: Layout,
    prompts: Sequence[str],
    targets: Sequence[str],
    prompt_languages: Sequence[str],
    target_languages: Sequence[str],
    max_prompt_tokens: int,
    max_target_tokens: int,
) -> list[TokenizedText]:
    """Token ids of prompts and targets, whose languages are NLLB codes (they matter only to a model with language tokens).

    The limits count placeholders out and eos and language tokens in; what is longer is cut at its end and says so.
    """
    prompt_ids = _ids(tokenizer, layout, prompts, prompt_languages)
    target_ids = _ids(tokenizer, layout, targets, target_languages)
    return [
        TokenizedText(
            prompt=prompt[:max_prompt_tokens],
            target=[*target, layout.eos][:max_target_tokens],
            prompt_was_cut=len(prompt) > max_prompt_tokens,
            target_was_cut=len(target) + 1 > max_target_tokens,
        )
        for prompt, target in zip(prompt_ids, target_ids, strict=True)
    ]


def _ids(
    tokenizer: PreTrainedTokenizerBase, layout: Layout, texts: Sequence[str], languages: Sequence[str]
) -> list[list[int]]:
    # split_special_tokens: a text that spells "</s>" or "<mask>" is text, never the token
    ids = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    if not layout.language_tokens:
        return ids
    unknown = layout.unknown
    return [[layout.language_tokens.get(language, unknown), *row] for language, row in zip(languages, ids, strict=True)]


def stack(layout: Layout, texts: Sequence[TokenizedText]) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask`, `labels` and (encoder-decoder) `decoder_input_ids` for `texts`, padded at the right, int64.

    Encoder-decoder: (texts, longest prompt) for the first two, (texts, longest target) for the others. Decoder-only: all are (texts, longest
    sequence). Raises ValueError when a sample does not have exactly one placeholder for each query token.
    """
    batch = {}
    image = [layout.placeholder] * layout.query_tokens
    if layout.is_encoder_decoder:
        told = 1 if layout.language_tokens else 0
        inputs = [[*image, *text.prompt, layout.eos] for text in texts]
        labels = [[IGNORED] * told + text.target[told:] for text in texts]
        batch["decoder_input_ids"] = _pad([[layout.decoder_start, *text.target[:-1]] for text in texts], layout.pad)
    else:
        inputs = [[*image, *text.prompt, *text.target] for text in texts]
        labels = [[IGNORED] * (len(image) + len(text.prompt)) + text.target for text in texts]
    batch["input_ids"] = _pad(inputs, layout.pad)
    batch["attention_mask"] = _pad([[1] * len(row) for row in inputs], 0)
    batch["labels"] = _pad(labels, IGNORED)
    check_placeholders(layout, batch["input_ids"])
    return batch


def tokenize_prompts(
    tokenizer: PreTrainedTokenizerBase, layout: Layout, prompts: Sequence[str], languages: Sequence[str]
) -> list[list[int]]:
    """Token ids of prompts to generate from, without placeholders."""
    return _ids(tokenizer, layout, prompts, languages)


def stack_prompts(
    layout: Layout, prompts: Sequence[Sequence[int]], target_languages: Sequence[str]
) -> dict[str, Tensor]:
    """What to generate from: `input_ids` and `attention_mask` (texts, longest prompt), padded at the left for a decoder-only model, and
    `decoder_input_ids` (texts, 2) for a model that is told the target's language by a token."""
    image = [layout.placeholder] * layout.query_tokens
    end = [layout.eos] if layout.is_encoder_decoder else []
    inputs = [[*image, *prompt, *end] for prompt in prompts]
    left = not layout.is_encoder_decoder
    batch = {
        "input_ids": _pad(inputs, layout.pad, left),
        "attention_mask": _pad([[1] * len(row) for row in inputs], 0, left),
    }
    if layout.language_tokens:
        starts = [layout.language_tokens.get(language, layout.unknown) for language in target_languages]
        batch["decoder_input_ids"] = torch.tensor([[layout.decoder_start, start] for start in starts])
    check_placeholders(layout, batch["input_ids"])
    return batch


def check_placeholders(layout: Layout, input_ids: Tensor) -> None:
    """Raise ValueError unless every row of `input_ids` (texts, tokens) has as many placeholders as the model has query tokens."""
    counts = (input_ids == layout.placeholder).sum(dim=1)
    wrong = (counts != layout.query_tokens).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(
            f"Sample {wrong[0]} of the batch has {int(counts[wrong[0]])} image placeholders (token {layout.placeholder}), the model has "
            f"{layout.query_tokens} query tokens: the tokenizer emits the placeholder's id, or a prompt was cut into the image."
        )


def _pad(rows: Sequence[Sequence[int]], value: int, left: bool = False) -> Tensor:
    padded = torch.full((len(rows), max(map(len, rows))), value, dtype=torch.int64)
    for i, row in enumerate(rows):
        span = slice(padded.shape[1] - len(row), None) if left else slice(0, len(row))
        padded[i, span] = torch.tensor(row, dtype=torch.int64)
    return padded
