"""What a trained model has learnt: its loss with the right images and with exchanged ones, and texts that it writes.

A model that does not look at its images has the same loss twice. Both losses are taken over the same texts, with dropout off.
"""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerBase

from model.generate import Decoding, generate
from model.images import normalise
from model.loss import batch_losses
from training import order, report
from training.distributed import World
from training.loader import BadPicture, Collator, Reader, Shards
from training.step import vision_states_of

log = logging.getLogger(__name__)

TEXTS_PER_IMAGE = 4
"""Of the evaluated subset; fixed, so that runs with other settings are measured on the same samples."""

SHORT = 24


def measure(
    model: Blip2ForConditionalGeneration,
    shards: Shards,
    collate: Collator,
    samples: int,
    batch_size: int,
    world: World | None = None,
) -> dict[str, Any]:
    """Losses over a fixed subset of `shards`, over all of it and by task and language (see `training.report.compare`).

    The images are exchanged along one cycle, so that no text keeps its own; with one image alone there is nothing to exchange. Texts whose picture
    can't be decoded are left out of both. The processes of `world` share the work, and each gets the whole result.
    """
    chosen = order.Order(shards.images, seed=0, texts_per_image=TEXTS_PER_IMAGE).epoch(0)[:samples]
    rows = [row for row in (shards.rows[i] for i in chosen) if can_be_decoded(collate.reader, row)]
    rows.sort(key=lambda row: row["prompt_characters"] + row["target_characters"])  # spares padding
    some_row = {row["key"]: row for row in rows}
    keys = sorted(some_row, key=_shuffled)
    other = {key: some_row[keys[i - 1]] for i, key in enumerate(keys)}
    right = sample_losses(model, collate, rows, rows, batch_size, world)
    shuffled = None
    if len(keys) > 1:
        shuffled = sample_losses(model, collate, rows, [other[row["key"]] for row in rows], batch_size, world)
    return {
        **report.compare(right, shuffled, None)["all"],
        **(report.gap(right, shuffled) if shuffled else {}),
        "by_task": report.compare(right, shuffled, "task"),
        "by_language": report.compare(right, shuffled, "language"),
    }


def can_be_decoded(reader: Reader, row: dict) -> bool:
    """Whether the picture of `row` can be decoded."""
    try:
        reader.pixels(row)
    except BadPicture:
        return False
    return True


@torch.no_grad()
def sample_losses(
    model: Blip2ForConditionalGeneration,
    collate: Collator,
    rows: Sequence[dict],
    image_rows: Sequence[dict],
    batch_size: int,
    world: World | None = None,
) -> list[dict[str, Any]]:
    """For each of `rows`, with the image of its row in `image_rows`: key, language, task, nats (a sum), tokens, target_bytes.

    Process r of w takes every w-th batch. All pictures must be decodable.
    """
    device = model.query_tokens.device
    world = world or World(device)
    was_training = model.training
    model.eval()
    found = torch.zeros(len(rows), 3, dtype=torch.float64)  # nats, tokens, bytes
    for start in range(batch_size * world.rank, len(rows), batch_size * world.size):
        piece = slice(start, start + batch_size)
        batch = collate(rows[piece], image_rows[piece]).to(device)
        vision_states = vision_states_of(model, batch)
        losses, owners = batch_losses(model, vision_states, batch.image_of_text, batch.text)
        found[piece, 0].index_add_(0, owners.cpu(), losses.double().cpu())
        found[piece, 1] = owners.cpu().bincount(minlength=len(batch.rows)).double()
        found[piece, 2] = torch.tensor(batch.target_bytes, dtype=torch.float64)
    model.train(was_training)
    sums = world.sum(found.to(device)).tolist()
    return [
        {
            **{name: row[name] for name in ("key", "language", "task")},
            "nats": nats,
            "tokens": int(tokens),
            "target_bytes": int(size),
        }
        for row, (nats, tokens, size) in zip(rows, sums, strict=True)
    ]


def write_texts(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    shards: Shards,
    reader: Reader,
    images: int = 5,
    texts: int = 5,
) -> list[dict[str, str]]:
    """Captions that the model writes for the images that have short captions in the most scripts, one language a script.

    Short ones (`SHORT` characters in the data), because a reader can compare them at a glance.
    Returns rows of key, id, language, prompt, target (what the data say) and generated.
    """
    by_image: dict[str, dict[str, dict]] = {}
    for row in sorted(shards.rows, key=lambda row: _shuffled(row["id"])):
        if row["task"] == "captioning" and row["target_characters"] <= SHORT:
            script = row["language"].rsplit("_", 1)[-1]
            by_image.setdefault(row["key"], {}).setdefault(script, row)
    keys = sorted(by_image, key=lambda key: (-len(by_image[key]), key))
    keys = [key for key in keys if can_be_decoded(reader, next(iter(by_image[key].values())))][:images]
    rows = [row for key in keys for row in list(by_image[key].values())[:texts]]
    if not rows:
        return []
    samples = [reader.text(row) for row in rows]
    generated = generate(
        model,
        tokenizer,
        normalise(torch.stack([reader.pixels(row) for row in rows])).to(model.query_tokens.device),
        prompts=[sample["prompt"] for sample in samples],
        prompt_languages=[sample["prompt_language"] for sample in samples],
        target_languages=[sample["target_language"] for sample in samples],
        decoding=Decoding(max_new_tokens=32),
    )
    written = [
        {
            "key": row["key"],
            **{name: sample[name] for name in ("id", "language", "prompt", "target")},
            "generated": text,
        }
        for row, sample, text in zip(rows, samples, generated, strict=True)
    ]
    for row in written:
        log.info("%s  %s → %s", row["language"], row["prompt"], row["generated"])
    return written


def _shuffled(text: str) -> bytes:
    """A key that sorts texts in an order that means nothing and is the same everywhere."""
    return hashlib.sha256(text.encode()).digest()
