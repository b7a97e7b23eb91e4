"""A small stand-in for the pre-trained checkpoint that a user has.

    python training/tiny_base.py --shards 'runs/demo/shards/*.tar' --out runs/demo/base

Re-alignment starts from eyes that were trained on English image-text pairs (BLIP-2's vision encoder and Q-Former) and from a multilingual
language model that never saw an image. Neither can be downloaded in an offline demo, so this step makes small ones in a minute:

- The Q-Former and the projection learn what BLIP-2's first stage teaches: to give an image and an English text about it like vectors, and
  other pairs unlike ones (contrast within a batch). An image's vector is the mean of what will stand for it in the language model's input,
  a text's the mean of its word embeddings. The vision encoder stays as it was initialised, since random projections of patches already tell
  pictures apart.
- The language model is trained on the texts of the shards, without any image: where the image will stand, it reads an English text about the
  same image, and it answers the prompt. It learns the prompts and to use what stands before them. It never sees a pixel.

The outcome is an ordinary Hugging Face folder, which `realign.py --base` loads exactly as it would load a real BLIP-2-shaped checkpoint. Its
two halves have never worked together: with right and with shuffled images its loss is about the same, until re-alignment.
"""

import argparse
import logging
import random
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerBase

from model import assemble
from model.freeze import set_trainable
from model.images import normalise
from model.inputs import IGNORED, Layout, stack, tokenize
from model.loss import encode_images, image_embeddings, label_states, token_losses
from training import order, report
from training.checkpoint import PARTIAL, fsync
from training.contrast import contrast
from training.loader import Reader, ShardError, Shards, open_shards

log = logging.getLogger("training.tiny_base")


TINY = [name for name, preset in assemble.PRESETS.items() if preset.tokenizer]
"""Presets that this file makes."""

MAX_IMAGES = 2048
"""Images that the Q-Former is trained on at most; their vision features are kept in memory (33 kB each in the tiny presets)."""

MICRO_BATCH = 8
"""Texts of like length that go through the language model together."""

TEXT_RATE = 1e-3
QFORMER_RATE = 1e-3

CONTRAST_TEMPERATURE = 0.07
"""As BLIP-2's image-text contrast starts with."""


def english_texts(rows: list[dict]) -> dict[str, list[int]]:
    """Image key → the rows that tell in English what is on it: captions, else any English text, else any text."""
    by_image: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        by_image.setdefault(row["key"], []).append(i)
    return {key: _english(rows, texts) for key, texts in by_image.items()}


def _english(rows: list[dict], texts: list[int]) -> list[int]:
    english = [i for i in texts if rows[i]["language"] == "eng_Latn"]
    return [i for i in english if rows[i]["task"] == "captioning"] or english or texts


def as_context(text: dict) -> str:
    """What a text says about its image: a caption by itself, anything else with its prompt."""
    return text["target"] if text["task"] == "captioning" else f"{text['prompt']} {text['target']}"


def train_qformer(
    shards: Shards,
    reader: Reader,
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> float:
    """Train Q-Former, query tokens and projection in place to tell by an image which English text is about it.

    `batch_size` images are contrasted with each other. A second term, weighed equally, keeps an image's vector near its text's, in units of
    the embeddings' variance, so that its size is one that the language model knows. Returns the contrast's mean loss at the end, nats.
    """
    set_trainable(model, ["qformer", "query_tokens", "projection"])
    rows = shards.rows
    texts = {key: rows_of for key, rows_of in list(english_texts(rows).items())[:MAX_IMAGES]}
    keys = list(texts)
    pictures = [reader.pixels(rows[texts[key][0]]) for key in keys]
    vision_states = torch.cat(
        [encode_images(model, normalise(torch.stack(pictures[i : i + 64]))) for i in range(0, len(keys), 64)]
    )
    embed = model.language_model.get_input_embeddings()

    @torch.no_grad()
    def text_vector(row: dict) -> torch.Tensor:
        ids = tokenizer(as_context(reader.text(row)), add_special_tokens=False)["input_ids"]
        return embed(torch.tensor(ids)).mean(0)

    vectors = {key: torch.stack([text_vector(rows[i]) for i in rows_of]) for key, rows_of in texts.items()}
    middle = torch.cat(list(vectors.values())).mean(0)
    with torch.no_grad():
        spread = embed(torch.arange(embed.num_embeddings)).std()
        model.language_projection.weight.normal_(std=float(spread) * model.language_projection.in_features**-0.5)
    scale = torch.nn.Parameter(torch.tensor(1 / CONTRAST_TEMPERATURE).log())
    parameters = [scale, *(p for p in model.parameters() if p.requires_grad)]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    started = time.monotonic()
    for step in range(steps):
        chosen = torch.randperm(len(keys), generator=generator)[:batch_size]
        of_chosen = [vectors[keys[i]] for i in chosen.tolist()]
        wanted = torch.stack([v[int(torch.randint(len(v), (), generator=generator))] for v in of_chosen])
        given = image_embeddings(model, vision_states[chosen]).mean(1)
        loss = contrast(given, wanted, middle, scale, torch.arange(len(chosen)))
        (loss + (given - wanted).square().mean() / spread**2).backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        report_progress("Q-Former", step, steps, losses, started)
    return float(np.mean(losses[-max(1, steps // 10) :]))


def train_language_model(
    shards: Shards,
    reader: Reader,
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> float:
    """Train the language model of `model` in place for `steps` batches of texts; returns the mean loss of the last tenth, nats a token."""
    set_trainable(model, ["language_model"])
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    layout = replace(Layout.of(model.config, tokenizer), query_tokens=0)  # no image here
    no_image = torch.zeros(1, 0, model.config.text_config.hidden_size)
    samples = order.Order(shards.images, seed).stream()
    english = english_texts(shards.rows)
    choose = random.Random(seed)
    losses = []
    started = time.monotonic()
    model.train()
    for step in range(steps):
        chosen = [next(samples) for _ in range(batch_size)]
        texts = [reader.text(shards.rows[i]) for i in chosen]
        others = [reader.text(shards.rows[choose.choice(english[shards.rows[i]["key"]])]) for i in chosen]
        tokenized = tokenize(
            tokenizer,
            layout,
            [f"{as_context(other)} {text['prompt']}" for text, other in zip(texts, others, strict=True)],
            [text["target"] for text in texts],
            [text["prompt_language"] for text in texts],
            [text["target_language"] for text in texts],
            max_prompt_tokens=64,
            max_target_tokens=64,
        )
        tokenized.sort(key=lambda text: len(text.prompt) + len(text.target))
        pieces = [stack(layout, tokenized[start : start + MICRO_BATCH]) for start in range(0, batch_size, MICRO_BATCH)]
        tokens = sum(int((piece["labels"] != IGNORED).sum()) for piece in pieces)
        total = 0.0
        for piece in pieces:
            no_images = torch.zeros(len(piece["labels"]), dtype=torch.int64)
            states, labels, _ = label_states(model, no_image, no_images, **piece)
            loss = token_losses(states, labels, model.language_model.get_output_embeddings()).sum() / tokens
            loss.backward()
            total += float(loss.detach())
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(total)
        report_progress("language model", step, steps, losses, started)
    return float(np.mean(losses[-max(1, steps // 10) :]))


def report_progress(what: str, step: int, steps: int, losses: list[float], started: float) -> None:
    """Five lines on the way."""
    if (step + 1) % max(1, steps // 5) == 0 or step + 1 == steps:
        left = (time.monotonic() - started) / (step + 1) * (steps - step - 1)
        log.info(
            "base, %s: step %d of %d, loss %.3f, %s left",
            what,
            step + 1,
            steps,
            np.mean(losses[-100:]),
            report.duration(left),
        )


def make_base(
    pattern: str,
    out: Path,
    preset: str,
    tokenizer_folder: Path,
    text_steps: int | None = None,
    qformer_steps: int = 600,
    seed: int = 0,
    language_model: Path | None = None,
    held_out: float = 0.0,
) -> Path:
    """Make the base in `out`, which is there whole or not at all, and return it. A function of its arguments and the shards' texts.

    `text_steps`: of the language model (default: the preset's); `language_model`: a folder to load it from (default: the preset's);
    `held_out`: share of the images that neither Q-Former nor language model learns from, the same ones as in `realign.py`.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; remove it to make the base again, or pass it to realign.py as --base.")
    tokenizer = assemble.load_tokenizer(tokenizer_folder)
    torch.manual_seed(seed)
    shards = open_shards(pattern, keep=lambda row: not order.is_held_out(row["key"], held_out))
    model = assemble.build(assemble.PRESETS[preset], tokenizer, seed, language_model)
    reader = Reader(shards.folder, model.config.vision_config.image_size)
    if text_steps is None:
        text_steps = assemble.PRESETS[preset].base_steps
    if text_steps:
        train_language_model(
            shards, reader, model, tokenizer, text_steps, batch_size=48, learning_rate=TEXT_RATE, seed=seed
        )
    if qformer_steps:
        train_qformer(
            shards, reader, model, tokenizer, qformer_steps, batch_size=32, learning_rate=QFORMER_RATE, seed=seed
        )
    aside = out.with_name(PARTIAL + out.name)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    model.requires_grad_(True)
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    for path in (*aside.iterdir(), aside):
        fsync(path)
    aside.rename(out)
    log.info("base at %s", out)
    return out


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shards", required=True, help="glob of the tars, quoted")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--preset", choices=TINY, default="tiny-nllb")
    parser.add_argument(
        "--language-model", type=Path, help="Hugging Face folder of a language model (default: the preset's)"
    )
    parser.add_argument("--tokenizer", type=Path, help="folder with a tokenizer (default: the preset's)")
    parser.add_argument("--text-steps", type=int, help="steps of the language model (default: the preset's)")
    parser.add_argument("--qformer-steps", type=int, default=600)
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="share of the images kept from the base, as in realign.py",
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    report.log_to_stderr()
    try:
        tokenizer = (
            args.tokenizer
            or args.language_model
            or assemble.in_repository(str(assemble.PRESETS[args.preset].tokenizer))
        )
        make_base(
            args.shards,
            args.out,
            args.preset,
            tokenizer,
            args.text_steps,
            args.qformer_steps,
            args.seed,
            args.language_model,
            args.held_out,
        )
    except (ShardError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
