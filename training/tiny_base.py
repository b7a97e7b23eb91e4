"""A small stand-in for the pre-trained checkpoint that a user has.

    python training/tiny_base.py --shards 'runs/demo/shards/*.tar' --out runs/demo/base

Re-alignment starts from a vision encoder and a multilingual language model that were trained elsewhere. Neither can be downloaded in an
offline demo, so this step trains the tiny language model, without any image, on the texts of the shards: where the image will stand, it
reads another text about the same image, in any language, and it answers the prompt. It learns to write the languages and to use what stands
before the prompt; it never sees a pixel. The vision encoder stays as it was initialised (random projections of patches still tell pictures
apart) and so do the Q-Former and the projection. The outcome is an ordinary Hugging Face folder, which `realign.py --base` loads exactly as it
would load a real BLIP-2-shaped checkpoint.
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
from transformers import PreTrainedTokenizerBase

from model import assemble
from model.freeze import set_trainable
from model.inputs import Layout, stack, tokenize
from model.loss import label_states, token_losses
from training import order, report
from training.checkpoint import PARTIAL, fsync
from training.loader import Reader, ShardError, Shards, open_shards

log = logging.getLogger("training.tiny_base")


def contexts_of(rows: list[dict]) -> list[list[int]]:
    """For each row the rows that may stand where its image will: English ones about the same image, any where there is none."""
    by_image: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        by_image.setdefault(row["key"], []).append(i)
    english = {
        key: [i for i in members if rows[i]["language"] == "eng_Latn"] or members for key, members in by_image.items()
    }
    return [english[row["key"]] for row in rows]


def as_context(text: dict) -> str:
    """What a text says about its image: a caption by itself, anything else with its prompt."""
    return text["target"] if text["task"] == "captioning" else f"{text['prompt']} {text['target']}"


def train_language_model(
    shards: Shards,
    reader: Reader,
    model: torch.nn.Module,
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
    candidates = contexts_of(shards.rows)
    choose = random.Random(seed)
    losses = []
    started = time.monotonic()
    model.train()
    for step in range(steps):
        chosen = [next(samples) for _ in range(batch_size)]
        texts = [reader.text(shards.rows[i]) for i in chosen]
        others = [reader.text(shards.rows[choose.choice(candidates[i])]) for i in chosen]
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
        if (step + 1) % 50 == 0 or step + 1 == steps:
            rate = (step + 1) / (time.monotonic() - started)
            log.info(
                "base step %d of %d, loss %.3f, %.0f texts/s, %.0f s left",
                step + 1,
                steps,
                np.mean(losses[-50:]),
                rate * batch_size,
                (steps - step - 1) / rate,
            )
    return float(np.mean(losses[-max(1, steps // 10) :]))


def make_base(
    pattern: str,
    out: Path,
    preset: str,
    tokenizer_folder: Path,
    steps: int | None = None,
    batch_size: int = 48,
    learning_rate: float = 2e-3,
    seed: int = 0,
    language_model: Path | None = None,
) -> Path:
    """Make the base in `out`, which is there whole or not at all, and return it. A function of its arguments and the shards' texts.

    `steps`: of training on text (default: the preset's; none for a language model that is loaded).
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; remove it to make the base again, or pass it to realign.py as --base.")
    tokenizer = assemble.load_tokenizer(tokenizer_folder)
    torch.manual_seed(seed)
    shards = open_shards(pattern)
    model = assemble.build(assemble.PRESETS[preset], tokenizer, seed, language_model)
    if steps is None:
        steps = 0 if language_model else assemble.PRESETS[preset].base_steps
    reader = Reader(shards.folder, model.config.vision_config.image_size)
    if steps:
        loss = train_language_model(shards, reader, model, tokenizer, steps, batch_size, learning_rate, seed)
        log.info("text loss %.3f nats a token", loss)
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
    parser.add_argument("--steps", type=int, help="of training on text (default: the preset's)")
    parser.add_argument("--batch-size", type=int, default=48, help="texts a step")
    parser.add_argument("--lr", type=float, default=2e-3)
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
            args.steps,
            args.batch_size,
            args.lr,
            args.seed,
            args.language_model,
        )
    except (ShardError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
