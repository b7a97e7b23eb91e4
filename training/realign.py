"""Re-align a Vision-LLM on multilingual shards.

    python training/realign.py --shards 'runs/demo/shards/*.tar' --out runs/demo/training

Trained are the Q-Former, its query tokens, the projection and LoRA on every linear layer of the language model; the vision encoder and the rest
of the language model are frozen. The order of samples is a function of (seed, epoch, manifest) and the state of the data is one integer, so
`--resume` goes on at the exact next sample: on CPU, with the same number of threads, a run that was killed at any step and resumed gives the
bits of one that was not. Afterwards the loss is measured with the right images and with images exchanged among the samples; a model that
does not look at its images shows the same number twice.

Without --base, a tiny base is made first (`training/tiny_base.py`) in OUT/base. In OUT are then: adapter/ (LoRA as PEFT saves it, and
aligned_parts.safetensors with Q-Former, query tokens and projection), result.json, generations.json, index.html, train_log.jsonl, checkpoints/.
"""

import argparse
import hashlib
import json
import logging
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch.nn.utils import clip_grad_norm_
from transformers import Blip2ForConditionalGeneration

from model import assemble
from model.adapt import add_lora
from model.freeze import set_trainable, trainable_parameters
from model.inputs import Layout, stack
from model.loss import batch_losses, check_against_plain, encode_images
from training import checkpoint, measure, order, report
from training.loader import Batch, Collator, Reader, ShardError, Shards, estimate_lengths, open_shards
from training.mixture import cells_of, read_mixture
from training.options import arguments
from training.tiny_base import make_base

log = logging.getLogger("training.realign")

TRAINED = ("qformer", "query_tokens", "projection", "adapter")


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    report.log_to_stderr()
    try:
        result = realign(args)
    except (ShardError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(report.text_table(result))
    sys.stdout.write(f"adapter: {args.out / 'adapter'}\nrun page: {args.out / 'index.html'}\n")


def realign(args: argparse.Namespace) -> dict[str, Any]:
    """The whole run; returns what result.json holds. Raises ShardError, OSError or ValueError with the remedy in the message."""
    started = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    resume_from = find_checkpoint(args)

    # The data: which rows are trained on, and which are kept from it.
    shards = open_shards(args.shards, args.languages, keep=lambda row: not order.is_held_out(row["key"], args.held_out))
    log.info(
        "%d texts of %d images in %d languages",
        len(shards.rows),
        shards.images.max() + 1,
        len({row["language"] for row in shards.rows}),
    )

    # The model: a base, frozen but for the parts that are aligned, and LoRA on the language model.
    base = args.base or args.out / "base"
    if args.base is None and not base.exists():
        log.info("no --base: making a tiny one in %s", base)
        tokenizer_folder = (
            args.tokenizer or args.language_model or assemble.in_repository(assemble.PRESETS[args.preset].tokenizer)
        )
        make_base(
            args.shards,
            base,
            args.preset,
            tokenizer_folder,
            args.text_steps,
            args.qformer_steps,
            args.seed,
            args.language_model,
            args.held_out,
        )
    tokenizer = assemble.load_tokenizer(args.tokenizer or base)
    model = assemble.load(base, tokenizer)
    base_digest = digest_of(model)
    torch.manual_seed(args.seed)
    wrapped = add_lora(model, args.lora_rank, args.lora_alpha, args.lora_dropout)
    set_trainable(model, TRAINED)
    device = torch.device(args.device)
    model.to(device).train()
    model.vision_model.eval()

    layout = Layout.of(model.config, tokenizer)
    reader = Reader(shards.folder, model.config.vision_config.image_size)
    collate = Collator(reader, tokenizer, layout, args.max_prompt_tokens, args.max_target_tokens)
    probe = collate(shards.rows[:2]).to(device)
    check_against_plain(model, probe.pixel_values, probe.image_of_text, probe.text)

    # The order: who is seen when, in which batch. It is all that the position, one integer, is a place in.
    global_order, mixture_digest = order_of(args, shards)
    cut = {"size": args.batch_size, "tokens": args.batch_tokens, "window": args.length_window, "lengths": None}
    if args.batch_tokens or args.length_window:
        cut["lengths"] = estimate_lengths(shards, reader, tokenizer) + layout.query_tokens
    samples = math.ceil(args.epochs * len(shards.rows))
    total_steps = args.max_steps or order.count_batches(global_order, samples, **cut)

    # The optimiser: AdamW with a learning rate for each part, cosine with warm-up.
    optimizer, names = make_optimizer(model, args)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: cosine_with_warmup(step, total_steps, args.warmup)
    )

    # What must be the same for a checkpoint to be gone on from.
    identity = identity_of(args, shards, base_digest, mixture_digest, total_steps)
    step, position, seconds_before, cut_targets = 0, 0, 0.0, 0
    log_path = args.out / "train_log.jsonl"
    if resume_from:
        tensors, state = checkpoint.load(resume_from)
        checkpoint.check_identity(identity, state["identity"], resume_from)
        checkpoint.restore(tensors, state, names, optimizer, schedule)
        step, position, seconds_before, cut_targets = (
            state["step"],
            state["position"],
            state["seconds"],
            state["cut_targets"],
        )
        log.info("resumed from %s: step %d of %d, sample %d", resume_from, step, total_steps, position)
    log_rows = checkpoint.keep_log_until(log_path, step)

    # The loop.
    batches = order.batches(global_order, position=position, **cut)
    first_step, first_position, loop_started = step, position, time.monotonic()
    with log_path.open("a") as train_log:
        while step < total_steps:
            chosen = next(batches)
            batch = collate([shards.rows[i] for i in chosen])
            loss = accumulate_gradients(model, batch, layout, args.micro_batch, device)
            norm = float(
                clip_grad_norm_(
                    [parameter for group in optimizer.param_groups for parameter in group["params"]], args.clip
                )
            )
            if not math.isfinite(norm):
                raise ValueError(
                    f"The gradient of step {step + 1} is not finite: lower the learning rates. The last checkpoint is whole."
                )
            rates = schedule.get_last_lr()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            step, position = step + 1, position + len(chosen)
            cut_targets += sum(text.target_was_cut for text in batch.tokenized)

            elapsed = time.monotonic() - loop_started
            speed, samples_speed = (step - first_step) / elapsed, (position - first_position) / elapsed
            seconds = seconds_before + time.monotonic() - loop_started
            row = {
                "step": step,
                "loss": loss,
                "gradient_norm": norm,
                "lr": max(rates),
                "position": position,
                "target_tokens": batch.target_tokens,
            }
            log_rows.append(row)
            train_log.write(json.dumps({**row, "seconds": round(seconds, 3)}) + "\n")
            train_log.flush()
            if step % args.log_every == 0 or step == total_steps:
                recent = [row["loss"] for row in log_rows[-args.log_every :]]
                log.info(
                    "step %d of %d, loss %.3f, %.0f samples/s, %s left",
                    step, total_steps, sum(recent) / len(recent), samples_speed, report.duration((total_steps - step) / speed),
                )  # fmt: skip
            if step % args.checkpoint_every == 0 or step == total_steps:
                state = {
                    "position": position,
                    "seconds": seconds,
                    "cut_targets": cut_targets,
                    "identity": identity,
                    "schedule": schedule.state_dict()["last_epoch"],
                }
                checkpoint.save(
                    args.out / "checkpoints", step, checkpoint.state_tensors(names, optimizer), state, args.keep
                )
    seconds = seconds_before + time.monotonic() - loop_started
    if cut_targets:
        log.warning("%d targets were cut at %d tokens", cut_targets, args.max_target_tokens)

    # What it learnt: the loss with the right images, and with images exchanged among the samples.
    result = measure.measure(model, shards, collate, args.eval_samples, args.batch_size)
    if args.held_out:
        held_out = open_shards(
            args.shards, args.languages, keep=lambda row: order.is_held_out(row["key"], args.held_out)
        )
        result["held_out_images"] = measure.measure(model, held_out, collate, args.eval_samples, args.batch_size)

    # What is kept: the adapter, the aligned parts, numbers, texts and the run page.
    save_adapter(wrapped, model, args.out / "adapter")
    generations = measure.write_texts(model, tokenizer, shards, reader)
    of_key = {row["key"]: row for row in shards.rows}
    thumbnails = {row["key"]: report.thumbnail(reader.image_file(of_key[row["key"]])) for row in generations}
    result |= {
        "steps": total_steps,
        "samples_seen": position,
        "cut_targets": cut_targets,
        "seconds": round(seconds, 1),
        "seconds_with_base_and_evaluation": round(time.monotonic() - started, 1),
        "base": str(base),
        "config": {
            name: value for name, value in sorted(vars(args).items()) if isinstance(value, (int, float, str, list))
        },
    }
    for name, value in (("generations.json", generations), ("result.json", result)):
        checkpoint.write_aside(args.out / name, json.dumps(value, ensure_ascii=False, indent=1).encode())
    checkpoint.write_aside(args.out / "index.html", report.page(result, log_rows, generations, thumbnails).encode())
    return result


def accumulate_gradients(
    model: Blip2ForConditionalGeneration, batch: Batch, layout: Layout, size: int, device: torch.device
) -> float:
    """Gradients of the batch's mean loss a target token, in forward passes of `size` texts; returns that loss, nats.

    Texts of like length go through together, which spares padding. Every pass is weighted by its target tokens, so the sum is the gradient
    of the whole batch however it is cut.
    """
    tokens = batch.target_tokens
    vision_states = encode_images(model, batch.pixel_values.to(device))
    lengths = [len(text.prompt) + len(text.target) for text in batch.tokenized]
    by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
    total = 0.0
    for start in range(0, len(by_length), size):
        piece = by_length[start : start + size]
        images, image_of_text = batch.image_of_text[piece].unique(return_inverse=True)
        text = {name: tensor.to(device) for name, tensor in stack(layout, [batch.tokenized[i] for i in piece]).items()}
        losses, _ = batch_losses(model, vision_states[images.to(device)], image_of_text.to(device), text)
        loss = losses.sum() / tokens
        loss.backward()
        total += float(loss.detach())
    return total


def make_optimizer(model: torch.nn.Module, args: argparse.Namespace) -> tuple[torch.optim.AdamW, dict[int, str]]:
    """AdamW over what learns, a group for each (learning rate, decay), and the parameters' names by `id`. Vectors are not decayed."""
    rates = {
        "qformer": args.lr_qformer,
        "query_tokens": args.lr_qformer,
        "projection": args.lr_projection,
        "adapter": args.lr_adapter,
    }
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    names = {}
    for part, name, parameter in trainable_parameters(model):
        decay = args.weight_decay if parameter.ndim == 2 else 0.0
        groups.setdefault((rates[part], decay), []).append(parameter)
        names[id(parameter)] = name
    return torch.optim.AdamW([{"params": ps, "lr": lr, "weight_decay": wd} for (lr, wd), ps in groups.items()]), names


def cosine_with_warmup(step: int, total: int, warmup: float) -> float:
    """Factor of the learning rate in `step` (from 0): linear to 1 over the first `warmup` share of the steps, then half a cosine to 0."""
    rising = max(1, round(warmup * total))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def find_checkpoint(args: argparse.Namespace) -> Path | None:
    """The checkpoint to go on from. Raises ValueError when a run would be overwritten, or a named checkpoint is not there."""
    last = checkpoint.latest(args.out / "checkpoints")
    if args.resume is None:
        if last:
            raise ValueError(f"{args.out} holds a run (up to {last.name}): go on with --resume, or give another --out.")
        return None
    if args.resume != "auto":
        if not Path(args.resume).is_dir():
            raise FileNotFoundError(f"No checkpoint at {args.resume}; --resume alone takes the last one of {args.out}.")
        return Path(args.resume)
    if last is None:
        log.info("nothing to resume in %s: starting at step 0", args.out)
    return last


def order_of(args: argparse.Namespace, shards: Shards) -> tuple[order.Order, str]:
    """The global order of this run, and a digest of its mixture. Raises ValueError for a mixture that does not fit."""
    mixture = read_mixture(args.mixture, args.language_temperature, args.task_temperature)
    cells, shares = None, None
    if not mixture.leaves_all_as_it_is:
        cells, shares = cells_of(shards.column("task"), shards.column("language"), mixture)
    _, shard_numbers = np.unique(shards.column("shard"), return_inverse=True)
    digest = hashlib.sha256(mixture.model_dump_json().encode()).hexdigest()
    global_order = order.Order(
        shards.images, args.seed, args.texts_per_image, cells, shares, shard_numbers, args.shuffle_window
    )
    return global_order, digest


def identity_of(
    args: argparse.Namespace, shards: Shards, base_digest: str, mixture_digest: str, total_steps: int
) -> dict[str, Any]:
    """Everything that decides the numbers of a run."""
    same = (
        "seed", "batch_size", "batch_tokens", "length_window", "texts_per_image", "shuffle_window", "max_prompt_tokens", "max_target_tokens",
        "lora_rank", "lora_alpha", "lora_dropout", "lr_qformer", "lr_projection", "lr_adapter", "weight_decay", "warmup", "clip",
    )  # fmt: skip
    return {
        **{name: getattr(args, name) for name in same},
        "total_steps": total_steps,
        "shards": shards.digest,
        "mixture": mixture_digest,
        "base": base_digest,
    }


def digest_of(model: torch.nn.Module) -> str:
    """A digest of the base's weights: names, shapes and the first kilobyte of every tensor."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.flatten()[:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def save_adapter(wrapped: PeftModel, model: Blip2ForConditionalGeneration, folder: Path) -> None:
    """LoRA as a PEFT directory, and beside it everything else that was trained, under its name in the BLIP-2 model."""
    wrapped.save_pretrained(folder, save_embedding_layers=False)
    aligned = {
        name: p.detach().cpu().contiguous() for part, name, p in trainable_parameters(model) if part != "adapter"
    }
    save_file(aligned, folder / "aligned_parts.safetensors")


if __name__ == "__main__":
    main()
