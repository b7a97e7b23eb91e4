"""Build a BLIP-2-shaped model from a preset, or load one from a Hugging Face folder, and prove that it is sound.

The presets are tiny stand-ins with the real architecture (ViT, Q-Former, an encoder-decoder or a decoder-only language model), small enough
for two CPU cores. Their language model is a configuration, or a Hugging Face folder: here the demo's own translation model, a small NLLB.
A whole folder loads the same way whether it holds such a stand-in or a real checkpoint. Three things go wrong in silence with BLIP-2 in
transformers 5 and are checked by `check` after every build and load:

- `query_tokens` of a fresh model are all zeros, which gives gradients of 1e20: they are drawn with standard deviation .02, as BLIP-2 does.
- mT5's configuration class forces tied embeddings although mT0's `lm_head` is a matrix of its own. A checkpoint that holds two different
  matrices must be two tensors after loading; `resize_token_embeddings` would tie them again, so nothing here ever resizes.
- The image placeholder must be an id that no text is tokenized to: one of the spare rows between the tokenizer's length and the vocabulary's
  size, or, where a language model has no spare row, its tokenizer's mask token (`model.inputs` never lets a text become a special token).
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    LlamaConfig,
    MT5Config,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from model import sources

log = logging.getLogger(__name__)

VOCABULARY_MULTIPLE = 64
"""Vocabularies are rounded up to this, so that matrix shapes suit the hardware and spare rows exist."""

QUERY_TOKEN_STD = 0.02
"""As in BLIP-2's own initialisation (LAVIS, `init_Qformer`, `initializer_range`)."""


EMBEDDING_STD = 0.1
"""Of fresh token embeddings. mT5's own 1.0 is made for Adafactor's relative steps; AdamW hardly moves such large rows in a minute."""


def tiny_mt5(vocabulary: int, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """An mT5 of 2 + 2 layers. Its decoder starts with the padding token, as every T5's does."""
    return MT5Config(
        vocab_size=vocabulary,
        d_model=192,
        d_kv=32,
        d_ff=384,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=6,
        dropout_rate=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )


def tiny_llama(vocabulary: int, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """A Llama of 3 layers with an output matrix of its own."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


@dataclass(frozen=True)
class Preset:
    """Everything that is chosen before a tokenizer is known."""

    tokenizer: str | None = None
    """Folder with the tokenizer's files, relative to the repository's root; None where the language model brings it."""
    text_config: Callable[[int, PreTrainedTokenizerBase], PreTrainedConfig] | None = None
    """From (vocabulary size, tokenizer) to the configuration of a fresh language model; None to load the one in `language_model`."""
    language_model: str | None = None
    """Folder of a trained language model, relative to the repository's root."""
    base_steps: int = 0
    """Steps with the language model's loss when the base is made without being told: on text (`training/tiny_base.py`), for `smollm2` its eyes'
    on drawings (`training/eyes.py`)."""
    qformer_steps: int = 600
    """Steps that its Q-Former is trained for by contrast (for `smollm2`, its vision encoder too)."""
    image_size: int = 64
    """Pixels a side of the square that the vision encoder sees."""
    patch_size: int = 8
    vision_width: int = 128
    vision_layers: int = 3
    qformer_width: int = 128
    qformer_layers: int = 4
    query_tokens: int = 8
    """Tokens that stand for an image in the language model's input."""
    image_token: str | None = None
    """As in `placeholder_for`: for a tokenizer that leaves no row and has no mask token."""


DEMO_MODEL = "demo/translation_model/hf"

PRESETS = {
    "tiny-nllb": Preset(tokenizer=DEMO_MODEL, language_model=DEMO_MODEL, base_steps=100),
    "tiny": Preset(tokenizer=DEMO_MODEL, text_config=tiny_mt5, base_steps=800),
    "tiny-decoder": Preset(tokenizer=DEMO_MODEL, text_config=tiny_llama, base_steps=800),
    # made by training/smollm2.py; <reponame> is a special token of its training on code
    "smollm2": Preset(image_token="<reponame>", qformer_steps=1500, base_steps=250),
}


def in_repository(path: str) -> Path:
    """A path that a preset names, as an absolute one."""
    return Path(__file__).resolve().parent.parent / path


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`, a local path.

    Raises FileNotFoundError when the folder is not there, and ValueError when the tokenizer has no padding or end-of-sequence token.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"No tokenizer at {folder}. Point --tokenizer at a folder with tokenizer.json or a SentencePiece model."
        )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for role in ("pad", "eos"):
        if getattr(tokenizer, f"{role}_token_id") is None:
            raise ValueError(f"The tokenizer at {folder} has no {role} token; name one in its tokenizer_config.json.")
    return tokenizer


def build(
    preset: Preset, tokenizer: PreTrainedTokenizerBase, seed: int, language_model: Path | None = None
) -> Blip2ForConditionalGeneration:
    """A model with fresh vision encoder, Q-Former and projection, a function of (preset, tokenizer, seed).

    The language model is loaded from `language_model`, or from the preset's folder, or is fresh too where the preset has a configuration.
    """
    if language_model is None and preset.language_model is not None:
        language_model = in_repository(preset.language_model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if language_model is None:
            if preset.text_config is None:
                raise ValueError("A preset needs the configuration of a language model, or the folder of one.")
            vocabulary = -(-(len(tokenizer) + 1) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
            text_config = preset.text_config(vocabulary, tokenizer)
        else:
            if not (language_model / "config.json").is_file():
                raise FileNotFoundError(
                    f"No language model at {language_model}: it needs config.json and *.safetensors."
                )
            text_config = AutoConfig.from_pretrained(language_model)
        text_config.dtype = torch.float32
        config = Blip2Config(
            vision_config=Blip2VisionConfig(
                hidden_size=preset.vision_width,
                intermediate_size=2 * preset.vision_width,
                num_hidden_layers=preset.vision_layers,
                num_attention_heads=4,
                image_size=preset.image_size,
                patch_size=preset.patch_size,
                initializer_range=0.02,  # the class's default is 1e-10
            ),
            qformer_config=Blip2QFormerConfig(
                hidden_size=preset.qformer_width,
                intermediate_size=2 * preset.qformer_width,
                num_hidden_layers=preset.qformer_layers,
                num_attention_heads=4,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            text_config=text_config,
            num_query_tokens=preset.query_tokens,
            image_token_index=placeholder_for(tokenizer, text_config.vocab_size, preset.image_token),
        )
        model = Blip2ForConditionalGeneration(config)
        with torch.no_grad():
            model.query_tokens.normal_(std=QUERY_TOKEN_STD)
        if language_model is None:
            with torch.no_grad():
                model.language_model.get_input_embeddings().weight.normal_(std=EMBEDDING_STD)
            untie_output_matrix(model)
        else:
            set_language_model(model, language_model)
    check(
        model, tokenizer, expect_tied=False if language_model is None else sources.output_matrix_is_tied(language_model)
    )
    return model


def placeholder_for(tokenizer: PreTrainedTokenizerBase, rows: int, image_token: str | None = None) -> int:
    """The id that stands for a piece of an image, in a vocabulary of `rows` rows: `image_token`, else a spare row, else the mask token.

    A spare row is one that the tokenizer has no token for. Raises ValueError, with the choices there are, when there is none.
    """
    special = special_tokens(tokenizer)
    if image_token is not None:
        if image_token not in special or special[image_token] >= rows:
            raise ValueError(
                f"{image_token!r} is no special token of the tokenizer (texts could become it); it has {', '.join(special)}."
            )
        return special[image_token]
    used = set(tokenizer.get_vocab().values())
    spare = [id for id in range(max(used) + 1, rows)]
    if spare:
        return spare[0]
    if tokenizer.mask_token_id is not None and tokenizer.mask_token_id < rows:
        return tokenizer.mask_token_id
    raise ValueError(
        f"The vocabulary has {rows} rows and the tokenizer uses them all, so none is to spare for the image, and vocabularies are never resized. "
        f"Name a special token that no text needs as image_token; the tokenizer has {', '.join(special) or 'none'}."
    )


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Token → id, for the tokens that no text becomes (`model.inputs` splits a text that spells one)."""
    return {str(token): id for id, token in tokenizer.added_tokens_decoder.items() if token.special}


def set_language_model(model: Blip2ForConditionalGeneration, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Put the trained language model in `folder` into `model`, tied or untied as its checkpoint is.

    Raises ValueError or FileNotFoundError with the remedy when weights are missing.
    """
    kind = AutoModelForCausalLM if model.config.use_decoder_only_language_model else AutoModelForSeq2SeqLM
    files = sources.weight_files(folder)
    missing = sorted(file for file in set(files.values()) if not (folder / file).is_file())
    if missing:
        raise FileNotFoundError(
            f"{folder / missing[0]} is missing, which {sources.INDEX} names: copy or download the checkpoint again."
        )
    with quiet_transformers():
        language_model, report = kind.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    refuse_missing(report, folder)
    model.language_model = language_model
    prefix = "language_model."
    model.all_tied_weights_keys = {prefix + k: prefix + v for k, v in language_model.all_tied_weights_keys.items()}
    tied = output_matrix_is_tied(model)
    for config in (model.config.text_config, language_model.config):
        config.tie_word_embeddings = tied


def untie_output_matrix(model: Blip2ForConditionalGeneration) -> None:
    """Give the language model an output matrix of its own, as mT0's checkpoints have, drawn so that the first logits have variance 1."""
    head = model.language_model.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.randn_like(head.weight) * head.weight.shape[1] ** -0.5)
    for config in (model.config.text_config, model.language_model.config):
        config.tie_word_embeddings = False
    for owner in (model, model.language_model):  # what save_pretrained and later tie_weights calls go by
        owner.all_tied_weights_keys = {
            k: v for k, v in owner.all_tied_weights_keys.items() if not k.endswith("lm_head.weight")
        }


def load(folder: Path, tokenizer: PreTrainedTokenizerBase) -> Blip2ForConditionalGeneration:
    """The model in `folder`, which is a Hugging Face folder of the BLIP-2 class with safetensors weights.

    Raises FileNotFoundError or ValueError, each with the remedy, when the folder is not such a folder, lacks weights, or fails `check`.
    """
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise FileNotFoundError(
            f"{folder} is not a model folder: it needs config.json and *.safetensors. "
            "Make a tiny one with `python training/tiny_base.py`, or point --base at a BLIP-2 checkpoint."
        )
    with quiet_transformers():
        model, report = Blip2ForConditionalGeneration.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True
        )
    refuse_missing(report, folder)
    check(model, tokenizer, expect_tied=sources.output_matrix_is_tied(folder, "language_model."))
    return model


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from warning at length that a head which differs from the embeddings is not tied to them: `check` asks for that."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def refuse_missing(report: dict, folder: Path) -> None:
    """Raise ValueError when transformers' loading `report` names weights that `folder` lacks or has in another shape."""
    names = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if names:
        raise ValueError(
            f"{folder} lacks weights that the model needs, or has them in another shape: {', '.join(names[:5])} …"
        )


def cast(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Every floating parameter of `model` to `dtype`, in place. Buffers stay as they are, as `from_pretrained` leaves them: `model.to(dtype)` would
    round the frequencies of rotary embeddings, and in bfloat16 later tokens would stand at wrong places."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def output_matrix_is_tied(model: Blip2ForConditionalGeneration) -> bool:
    """Whether the language model's output matrix and its input embeddings are one tensor in memory."""
    output = model.language_model.get_output_embeddings().weight
    embeddings = model.language_model.get_input_embeddings().weight
    if output is embeddings or output.is_meta:  # a tensor on the meta device has no storage
        return output is embeddings
    return output.untyped_storage().data_ptr() == embeddings.untyped_storage().data_ptr()


def check(
    model: Blip2ForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, expect_tied: bool | None = False
) -> None:
    """Raise ValueError with the remedy when `model` and `tokenizer` would go wrong together without a word (see the top of this file).

    `expect_tied`: whether output matrix and embeddings must be one tensor; None where either is right.
    """
    rows = model.language_model.get_input_embeddings().weight.shape[0]
    placeholder = model.config.image_token_index
    if placeholder is None or not placeholder < rows:
        raise ValueError(
            f"image_token_index is {placeholder}, but the model has {rows} vocabulary rows; name a spare row in config.json."
        )
    if placeholder in tokenizer.get_vocab().values() and placeholder not in special_tokens(tokenizer).values():
        raise ValueError(
            f"image_token_index {placeholder} is the ordinary token {tokenizer.convert_ids_to_tokens(placeholder)!r}: texts would be "
            "taken for images. Use this model's own tokenizer, or name a spare row in config.json."
        )
    if len(tokenizer) > rows:
        raise ValueError(
            f"The tokenizer emits ids up to {len(tokenizer) - 1}, the model has {rows} vocabulary rows: use the model's own tokenizer."
        )
    if float(model.query_tokens.detach().std()) < 1e-6:
        raise ValueError(
            "The query tokens are all alike, which makes gradients explode: load trained ones, or draw them with std .02."
        )
    tied = output_matrix_is_tied(model)
    if expect_tied is not None and tied != expect_tied:
        raise ValueError(
            f"The output matrix is {'tied to' if tied else 'separate from'} the embeddings, but the checkpoint says otherwise. "
            "Something has resized or re-tied them; load the checkpoint again."
        )
