"""What `benchmarks/train.py` trains, and on what: a Vision-LLM with the shape of mBLIP's, narrowed, and samples with lengths like its mix's.

The model is random, since only its shapes cost time: a ViT-S/16 (22M, 224 px, 197 tokens) for ViT-g, a Q-Former of 32 queries, and an mT5 with the
24 + 24 gated layers and the separate output matrix of mT0-XL, 192 wide, with mT0's 250,112 rows of vocabulary (121M). The narrower the model, the
more the vocabulary weighs; the benchmark prints what share of the work each part has, here and in mBLIP's model.

The samples are shards as the pipeline writes them: the demo's images, and texts made of the names that people gave to things in 84 languages, put
together until they have the length that was drawn. Tasks have the shares of mBLIP's mix (`mixes/mblip.yaml`): half are captions, a third has a word
or two as its target, one in twenty is an answer of some sentences. How skewed the lengths are decides what padding costs.
"""

import hashlib
import io
import json
import random
from pathlib import Path

import pyarrow as pa
import torch
from PIL import Image
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    MT5Config,
    PreTrainedTokenizerBase,
)

from model import assemble
from pipeline import files, shards

VOCABULARY = 250_112
IMAGE_SIZE = 224

# task: (thousands of texts in mBLIP's mix, words of the prompt, words of the target), each (fewest, most)
TASKS = {
    "captioning": (2687, (3, 8), (5, 13)),
    "vqa": (444, (6, 10), (1, 2)),
    "question_generation": (444, (8, 12), (5, 8)),
    "matching": (600, (12, 22), (1, 1)),
    "classification": (296, (4, 8), (1, 3)),
    "object_presence": (296, (5, 9), (1, 1)),
    "reasoning": (51, (8, 14), (10, 18)),
    "explanation": (51, (10, 16), (8, 16)),
    "instruction": (256, (8, 14), (12, 40)),
    "detail": (23, (4, 8), (70, 110)),
}
"""Counts are those of `mixes/mblip.yaml`. Words, because tokens depend on the language; their ranges are what such texts have in English."""


def make_base(folder: Path, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> None:
    """Write the random model and its tokenizer to `folder`, as any Hugging Face folder."""
    torch.manual_seed(seed)
    text_config = MT5Config(
        vocab_size=VOCABULARY,
        d_model=192,
        d_kv=32,
        d_ff=512,
        num_layers=24,
        num_decoder_layers=24,
        num_heads=6,
        dropout_rate=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    text_config.dtype = torch.float32
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            hidden_size=384,
            intermediate_size=1536,
            num_hidden_layers=12,
            num_attention_heads=6,
            image_size=IMAGE_SIZE,
            patch_size=16,
            initializer_range=0.02,
        ),
        qformer_config=Blip2QFormerConfig(
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=6,
            num_attention_heads=6,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        text_config=text_config,
        num_query_tokens=32,
        image_token_index=assemble.placeholder_for(tokenizer, VOCABULARY),
    )
    model = Blip2ForConditionalGeneration(config)
    with torch.no_grad():
        model.query_tokens.normal_(std=assemble.QUERY_TOKEN_STD)
        model.language_model.get_input_embeddings().weight.normal_(std=assemble.EMBEDDING_STD)
    assemble.untie_output_matrix(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_shards(folder: Path, images: int, texts_per_image: int, seed: int = 0) -> str:
    """Write shards of `images` images with `texts_per_image` texts each; returns the glob that names them."""
    sample = assemble.in_repository("demo/sample")
    names = json.loads((sample / "emoji_names.json").read_text(encoding="utf-8"))
    words: dict[str, list[str]] = {}
    for of_language in names.values():
        for language, name in of_language.items():
            words.setdefault(language, []).extend(name.split())
    draw = random.Random(seed)
    contents = []
    for number, picture in enumerate(_pictures(sample / "images", images)):
        image = {"image_sha256": hashlib.sha256(picture).hexdigest(), "image_format": "jpg", "image": f"{number}.jpg"}
        image |= {"image_width": IMAGE_SIZE, "image_height": IMAGE_SIZE, "licence": "", "credit": "", "bytes": picture}
        texts = [_text(f"made:{number:05d}-{i}", words, draw) for i in range(texts_per_image)]
        contents.append((image, texts))
    contents.sort(key=lambda pair: pair[0]["image_sha256"])
    part = shards.write_shard(folder / shards.shard_name(0), contents, lambda image: image["bytes"])
    index = shards.write_index(folder, [part])
    texts = [{c: t[c] for c in ("language", "task", "source")} for _, of_image in contents for t in of_image]
    files.write_json(
        folder / "manifest.json", shards.describe_shards(folder, "benchmark", index, pa.Table.from_pylist(texts))
    )
    return str(folder / "*.tar")


def _pictures(folder: Path, count: int) -> list[bytes]:
    """`count` different JPEGs: the demo's pictures, again with a pixel changed when there are not enough."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix in (".jpg", ".png"))
    pictures = []
    for number in range(count):
        with Image.open(paths[number % len(paths)]) as opened:
            picture = opened.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE))
        picture.putpixel((0, 0), (number % 256, number // 256, 0))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        pictures.append(buffer.getvalue())
    return pictures


def _text(example: str, words: dict[str, list[str]], draw: random.Random) -> dict:
    task = draw.choices(list(TASKS), [share for share, _, _ in TASKS.values()])[0]
    _, prompt, target = TASKS[task]
    language = draw.choice(sorted(words))
    text = {"id": f"{example}@{language}", "example": example, "source": "made", "task": task, "template": "made"}
    text |= {"language": language, "prompt_language": language, "target_language": language, "scores": {}}
    text["answer_origin"] = ""
    for side, (fewest, most) in (("prompt", prompt), ("target", target)):
        text[side] = " ".join(draw.choices(words[language], k=draw.randint(fewest, most)))
    return text
