"""Weights of NLLB-200-distilled-600M's shape, drawn at random: to measure speed, never quality.

12 + 12 layers, width 1,024, 16 heads, feed-forward 4,096, 256,206 tokens (the published config.json of facebook/nllb-200-distilled-600M). The
tokenizer is the embedded model's, with pieces added until the vocabulary has that size; the added ones never come out of text, but the model can
choose them, as random weights do. Takes 3.1 GB on disk: float32 for transformers, int8 for CTranslate2.
"""

import json
import shutil
import tempfile
from pathlib import Path

import ctranslate2
import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from pipeline import files

VOCABULARY = 256_206
SHAPE = {
    "vocab_size": VOCABULARY,
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "max_position_embeddings": 1024,
    "init_std": 0.02,
}


def make_model(embedded: Path, folder: Path) -> tuple[Path, Path]:
    """Make the two folders below `folder`, if they are not there: (for transformers, for CTranslate2). `embedded`: the embedded model's folder
    for transformers, whose tokenizer and language codes are taken."""
    hugging_face, converted = folder / "hf", folder / "ct2-int8"
    if not (converted / "model.bin").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            _write_random_weights(embedded, Path(aside) / "hf")
            (Path(aside) / "hf").rename(hugging_face)
            copied = ["tokenizer.json", "tokenizer_config.json"]
            converter = ctranslate2.converters.TransformersConverter(str(hugging_face), copy_files=copied)
            converter.convert(str(Path(aside) / "ct2"), quantization="int8")
            (Path(aside) / "ct2").rename(converted)
    return hugging_face, converted


def _write_random_weights(embedded: Path, out: Path) -> None:
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(str(embedded), **SHAPE)
    model = AutoModelForSeq2SeqLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(str(out))
    tokenizer = files.read_json(embedded / "tokenizer.json")
    vocabulary = tokenizer["model"]["vocab"]
    taken = {*vocabulary.values(), *(token["id"] for token in tokenizer["added_tokens"])}
    vocabulary |= {f"▁w{i}": i for i in range(VOCABULARY) if i not in taken}
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    shutil.copy(embedded / "tokenizer_config.json", out)
