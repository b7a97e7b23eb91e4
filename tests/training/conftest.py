"""Small shards in the format of docs/formats.md (coloured squares, named in three languages), a tokenizer, and a base made from both."""

import hashlib
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pipeline import shards as writer
from training.tiny_base import make_base

NAMES = {
    "eng_Latn": ["red", "green", "blue", "yellow", "black", "white", "pink", "orange"],
    "deu_Latn": ["rot", "grün", "blau", "gelb", "schwarz", "weiß", "rosa", "orange"],
    "rus_Cyrl": ["красный", "зелёный", "синий", "жёлтый", "чёрный", "белый", "розовый", "оранжевый"],
}
PROMPTS = {
    "captioning": {"eng_Latn": "Name the colour:", "deu_Latn": "Nenne die Farbe:", "rus_Cyrl": "Назови цвет:"},
    "vqa": {"eng_Latn": "What colour?", "deu_Latn": "Welche Farbe?", "rus_Cyrl": "Какой цвет?"},
}


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


def build_shards(folder: Path, colours: int = 8, count: int = 2) -> str:
    """Write shards of `colours` images with six texts each into `folder`; returns the glob that names them."""
    folder.mkdir(parents=True)
    images = []
    for i, colour in enumerate(NAMES["eng_Latn"][:colours]):
        buffer = io.BytesIO()
        Image.new("RGB", (24, 24), colour).save(buffer, "PNG")
        data = buffer.getvalue()
        image = {"image_sha256": hashlib.sha256(data).hexdigest(), "image_format": "png", "image": f"{colour}.png"}
        image |= {"image_width": 24, "image_height": 24, "licence": "CC0-1.0", "credit": "nobody", "bytes": data}
        texts = []
        for task, prompts in PROMPTS.items():
            for language, prompt in prompts.items():
                example = f"squares:{colour}-{task}"
                text = {"id": f"{example}@{language}", "example": example, "source": "squares", "task": task}
                text |= {
                    "language": language,
                    "prompt_language": language,
                    "target_language": language,
                    "answer_origin": "",
                    "template": "t",
                }
                texts.append(text | {"prompt": prompt, "target": NAMES[language][i], "scores": {}})
        images.append((image, sorted(texts, key=lambda text: text["id"])))
    images.sort(key=lambda pair: pair[0]["image_sha256"])
    parts = [
        writer.write_shard(folder / writer.shard_name(n), images[n::count], lambda image: image["bytes"])
        for n in range(count)
    ]
    index = writer.write_index(folder, parts)
    texts = [text for _, image_texts in images for text in image_texts]
    columns = ("language", "task", "source")
    samples = pa.Table.from_pylist([{column: text[column] for column in columns} for text in texts])
    (folder / "manifest.json").write_text(json.dumps(writer.describe_shards(folder, "squares", index, samples)))
    return str(folder / "*.tar")


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    texts = [text for names in NAMES.values() for text in names] + [
        p for prompts in PROMPTS.values() for p in prompts.values()
    ]
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=200, special_tokens=special, show_progress=False))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def make_shards(tmp_path: Path):
    """A function that writes small shards of its own for a test that damages them."""

    def make(name: str = "shards", **sizes: int) -> str:
        return build_shards(tmp_path / name, **sizes)

    return make


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards that no test changes."""
    return build_shards(tmp_path_factory.mktemp("run") / "shards")


@pytest.fixture(scope="session")
def base(shards: str, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny mT5-like base that has read the shards' texts for a few seconds."""
    out = tmp_path_factory.mktemp("models") / "base"
    return make_base(shards, out, "tiny", tokenizer_folder, text_steps=40, qformer_steps=30)
