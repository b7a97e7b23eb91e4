"""A small stand-in for the pre-trained checkpoint that a user has.

    python training/tiny_base.py --shards 'runs/demo/shards/*.tar' --out runs/demo/base

Re-alignment starts from eyes that were trained on English image-text pairs (BLIP-2's vision encoder and Q-Former) and from a multilingual
language model that never saw an image. Neither can be downloaded in an offline demo, so this step makes small ones in a minute:

- The Q-Former learns what BLIP-2's first stage teaches it: to give an image and an English text about it like vectors, and other pairs unlike
  ones (contrast within a batch). The vision encoder stays as it was initialised, since random projections of patches already tell pictures
  apart, and the projection into the language model stays random: nothing connects the two halves yet.
- The language model is trained on the texts of the shards, without any image: where the image will stand, it reads an English text about the
  same image, and it answers the prompt. It learns the prompts and to use what stands before them. It never sees a pixel.

The outcome is an ordinary Hugging Face folder, which `realign.py --base` loads exactly as it would load a real BLIP-2-shaped checkpoint. Its
loss is the same with right and with shuffled images; that changes only in re-alignment.
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
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerBase

from model import assemble
from model.freeze import set_trainable
from model.inputs import Layout, stack, tokenize
from model.loss import encode_images, label_states, qformer_states, token_losses
from training import order, report
from training.checkpoint import PARTIAL, fsync
from training.loader import Reader, ShardError, Shards, normalise, open_shards

log = logging.getLogger("training.tiny_base")


MAX_IMAGES = 2048
"""Images that the Q-Former is trained on at most; their vision features are kept in memory (33 kB each in the tiny presets)."""

TEXT_RATE = 1e-3
QFORMER_RATE = 1e-3

CONTRAST_TEMPERATURE = 0.07
"""As BLIP-2's image-text contrast starts with."""


def english_texts(rows: list[dict]) -> dict[str, list[int]]:
    """Image key → the rows that are English texts about it, or all of its rows where there is none."""
    by_image: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        by_image.setdefault(row["key"], []).append(i)
    return {key: [i for i in texts if rows[i]["language"] == "eng_Latn"] or texts for key, texts in by_image.items()}


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
    """Train Q-Former and query tokens in place to tell by an image which English text is about it; returns the last losses' mean, nats.

    An image's vector is the mean of the Q-Former's output, a text's the mean of its tokens' embeddings in the language model (frozen), each
    through a linear map that is thrown away afterwards. `batch_size` images are contrasted with each other.
    """
    set_trainable(model, ["qformer", "query_tokens"])
    rows = shards.rows
    texts = {key: rows_of for key, rows_of in list(english_texts(rows).items())[:MAX_IMAGES]}
    keys = list(texts)
    vision_states = torch.cat(
        [
            encode_images(
                model, normalise(torch.stack([reader.pixels(rows[texts[key][0]]) for key in keys[start : start + 64]]))
            )
            for start in range(0, len(keys), 64)
        ]
    )
    embeddings = model.language_model.get_input_embeddings().weight.detach()
    embeddings = embeddings / embeddings.std()

    def text_vector(row: dict) -> torch.Tensor:
        return embeddings[tokenizer(as_context(reader.text(row)), add_special_tokens=False)["input_ids"]].mean(0)

    vectors = {key: torch.stack([text_vector(rows[i]) for i in rows_of]) for key, rows_of in texts.items()}
    width = model.config.qformer_config.hidden_size
    from_image, from_text = torch.nn.Linear(width, width), torch.nn.Linear(embeddings.shape[1], width)
    parameters = [p for p in model.parameters() if p.requires_grad] + [
        *from_image.parameters(),
        *from_text.parameters(),
    ]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    started = time.monotonic()
    for step in range(steps):
        chosen = torch.randperm(len(keys), generator=generator)[:batch_size]
        of_chosen = [vectors[keys[i]] for i in chosen.tolist()]
        picked = [v[int(torch.randint(len(v), (), generator=generator))] for v in of_chosen]
        images = functional.normalize(from_image(qformer_states(model, vision_states[chosen]).mean(1)), dim=1)
        similarity = images @ functional.normalize(from_text(torch.stack(picked)), dim=1).T / CONTRAST_TEMPERATURE
        own = torch.arange(len(chosen))
        loss = (functional.cross_entropy(similarity, own) + functional.cross_entropy(similarity.T, own)) / 2
        loss.backward()
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
    samples = order.stream(shards.images, seed, texts_per_image=1)
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
        states, labels, _ = label_states(
            model, no_image, torch.zeros(len(texts), dtype=torch.int64), **stack(layout, tokenized)
        )
        loss = token_losses(states, labels, model.language_model.get_output_embeddings()).mean()
        loss.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        report_progress("language model", step, steps, losses, started)
    return float(np.mean(losses[-max(1, steps // 10) :]))


def report_progress(what: str, step: int, steps: int, losses: list[float], started: float) -> None:
    """One line every hundred steps."""
    if (step + 1) % 100 == 0 or step + 1 == steps:
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
) -> Path:
    """Make the base in `out`, which is there whole or not at all, and return it. A function of its arguments and the shards' texts.

    `text_steps`: of the language model (default: the preset's); `language_model`: a folder to load it from (default: the preset's).
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; remove it to make the base again, or pass it to realign.py as --base.")
    tokenizer = assemble.load_tokenizer(tokenizer_folder)
    torch.manual_seed(seed)
    shards = open_shards(pattern)
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
    parser.add_argument("--preset", choices=assemble.PRESETS, default="tiny-nllb")
    parser.add_argument(
        "--language-model", type=Path, help="Hugging Face folder of a language model (default: the preset's)"
    )
    parser.add_argument("--tokenizer", type=Path, help="folder with a tokenizer (default: the preset's)")
    parser.add_argument("--text-steps", type=int, help="steps of the language model (default: the preset's)")
    parser.add_argument("--qformer-steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    report.log_to_stderr()
    try:
        tokenizer = (
            args.tokenizer or args.language_model or assemble.in_repository(assemble.PRESETS[args.preset].tokenizer)
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
        )
    except (ShardError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
