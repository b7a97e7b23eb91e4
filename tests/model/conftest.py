"""A tokenizer, a language model of NLLB's family, and a BLIP-2 checkpoint with language models to put behind it, all made on the spot."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Blip2Config,
    Blip2ForConditionalGeneration,
    BloomConfig,
    LlamaConfig,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MT5Config,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Config,
)

from model import assemble

TEXTS = [
    "a dog and a cat on the grass",
    "ein Hund und eine Katze im Gras",
    "собака и кошка на траве",
    "yes no what is it, < / s p a d > m k",
]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """A BPE tokenizer with NLLB's special tokens and three language codes."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False))
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        additional_special_tokens=["eng_Latn", "deu_Latn", "rus_Cyrl"],
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save_pretrained(folder)
    return assemble.load_tokenizer(folder)


@pytest.fixture(scope="session")
def nllb(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Path:
    """The folder of a tiny language model of NLLB's architecture that has no spare vocabulary row."""
    folder = tmp_path_factory.mktemp("nllb")
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        dropout=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
    )
    M2M100ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLIP-2 checkpoint in the published layout (float32 in several safetensors files with an index), small."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    t5 = T5Config(
        vocab_size=1000, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )
    config = Blip2Config(
        vision_config={**sizes, "image_size": 28, "patch_size": 14, "initializer_range": 0.02},
        qformer_config={**sizes, "hidden_size": 24},
        text_config=t5,
        num_query_tokens=4,
        image_token_index=60,
    )
    model = Blip2ForConditionalGeneration(config)
    model.query_tokens.data.normal_(std=0.02)
    folder = tmp_path_factory.mktemp("eyes")
    model.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 3
    return folder


ROWS = 192
LANGUAGE_MODELS = {
    "mt5": lambda: MT5Config(vocab_size=ROWS, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=2, dropout_rate=0.0),
    "bloom": lambda: BloomConfig(vocab_size=ROWS, hidden_size=32, n_layer=2, n_head=2),
    "llama": lambda: LlamaConfig(
        vocab_size=ROWS, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, tie_word_embeddings=False
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def language_models(tmp_path_factory, tokenizer) -> dict[str, Path]:
    """Architecture → folder of a small language model in the published layout: mT0's output matrix untied, BLOOM's tied, Llama's untied."""
    folders = {}
    for kind, make_config in LANGUAGE_MODELS.items():
        torch.manual_seed(2)
        config = make_config()
        config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
        if kind == "mt5":
            config.decoder_start_token_id = tokenizer.pad_token_id
        model = (AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM).from_config(config)
        folder = tmp_path_factory.mktemp(kind)
        model.save_pretrained(folder)
        if kind == "mt5":
            weights = load_file(folder / "model.safetensors")
            weights["lm_head.weight"] = torch.randn(ROWS, 32)
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        tokenizer.save_pretrained(folder)
        folders[kind] = folder
    return folders


@pytest.fixture(params=["tiny", "tiny-decoder", "tiny-nllb"])
def model(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerBase, nllb: Path):
    """Each preset's model, freshly built."""
    folder = nllb if request.param == "tiny-nllb" else None
    return assemble.build(assemble.PRESETS[request.param], tokenizer, seed=0, language_model=folder)


@pytest.fixture
def batch(model, tokenizer):
    """Two images, three texts of unequal length: keyword arguments of `model.loss.check_against_plain`."""
    from model.inputs import Layout, stack, tokenize

    prompts, targets = ["what is it", "cat", "a dog on the grass"], ["a dog", "no", "ein Hund und eine Katze"]
    layout = Layout.of(model.config, tokenizer)
    languages = ["eng_Latn", "eng_Latn", "deu_Latn"]
    texts = tokenize(tokenizer, layout, prompts, targets, ["eng_Latn"] * 3, languages, 32, 32)
    size = model.config.vision_config.image_size
    return {
        "pixel_values": torch.randn(2, 3, size, size),
        "image_of_text": torch.tensor([0, 1, 0]),
        "text": stack(layout, texts),
    }
