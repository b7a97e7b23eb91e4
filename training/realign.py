"""Re-align a Vision-LLM on multilingual shards.

    python training/realign.py --shards 'runs/demo/shards/*.tar' --out runs/demo/training
    torchrun --nproc-per-node 8 training/realign.py --preset mt0-xl --stage instruct --shards …

Two stages: `warmup` trains the projection, `instruct` the Q-Former, its query tokens, the projection and LoRA on every linear layer of the language
model; all else is frozen. The order of samples is a function of (seed, epoch, manifest, mixture) and the state of the data is one integer, so
`--resume` goes on at the exact next sample: on CPU, with the same number of threads and processes, a run that was killed at any step and
resumed gives the bits of one that was not. Afterwards the loss is measured with the right images and with images exchanged among the samples;
a model that does not look at its images shows the same number twice.

Without --base or a real preset, a tiny base is made first (`training/tiny_base.py`) in OUT/base. In OUT are then: adapter/ (LoRA as PEFT saves it,
and aligned_parts.safetensors with what else was trained), result.json, generations.json, index.html, train_log.jsonl (a line a step),
groups.jsonl (losses by language and task), checkpoints/, and bad_samples.jsonl if there were any. docs/training.md says what is promised.
"""

import argparse
import hashlib
import json
import logging
import math
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn.utils import clip_grad_norm_
from transformers import Blip2ForConditionalGeneration

from model.adapt import add_lora
from model.freeze import set_trainable, trainable_parameters
from model.inputs import Layout
from model.loss import check_against_plain
from pipeline import files
from training import base, check, checkpoint, distributed, dry_run, measure, order, report, run_page
from training.bad_samples import BadSamples
from training.features import encoder_of, open_features
from training.loader import Batch, Collator, Reader, ShardError, Shards, estimate_lengths, open_shards, prefetch
from training.mixture import cells_of, read_mixture
from training.options import STAGES, arguments
from training.step import (
    accumulate_gradients,
    arithmetic,
    cosine_with_warmup,
    make_optimizer,
    precision_of,
    seed_step,
    set_precision,
)

if TYPE_CHECKING:
    from peft import PeftModel

log = logging.getLogger("training.realign")


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    world = distributed.join(args.device)
    report.log_to_stderr(logging.INFO if world.writes else logging.WARNING)
    try:
        if args.check:
            sys.exit(check_only(args))
        result = realign(args, world)
    except (ShardError, OSError, ValueError, ImportError, distributed.ProcessLost) as error:
        sys.exit(f"error: {error}")
    world.leave()
    if world.writes and args.dry_run:
        sys.stdout.write(dry_run.text(result, world.device))
    elif world.writes:
        sys.stdout.write(report.text_table(result))
        sys.stdout.write(f"adapter: {args.out / 'adapter'}\nrun page: {args.out / 'index.html'}\n")


def check_only(args: argparse.Namespace) -> int:
    """Look for what can be known to go wrong, and train nothing; returns the exit code."""
    findings = check.check(
        open_shards(args.shards, args.languages),
        base.load_tokenizer(args),
        args.max_prompt_tokens,
        args.max_target_tokens,
        args.benchmark_images,
    )
    sys.stdout.write(findings.text())
    return 1 if findings.problems else 0


def realign(args: argparse.Namespace, world: distributed.World | None = None) -> dict[str, Any]:
    """The whole run; returns what result.json holds (with --dry-run: `training.dry_run.measure`'s findings).

    Raises ShardError, OSError, ValueError, ImportError or ProcessLost with the remedy in the message.
    """
    world = world or distributed.join(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    with files.locked(args.out) if world.writes and not args.dry_run else nullcontext():
        return train(args, world)


def train(args: argparse.Namespace, world: distributed.World) -> dict[str, Any]:
    """`realign`, in a folder that no other run works in."""
    started = time.monotonic()
    device = world.device
    resume_from = find_checkpoint(args)

    # The data: which rows are trained on, and which are kept from it.
    shards = open_shards(args.shards, args.languages, keep=lambda row: not order.is_held_out(row["key"], args.held_out))
    images = int(shards.images.max()) + 1
    log.info("%d texts of %d images in %d languages", len(shards.rows), images, len(set(shards.column("language"))))

    # The model: frozen but for the parts that this stage trains, and LoRA on the language model.
    model, tokenizer, described = base.load_or_make(args, world)
    base_digest = base.digest_of(model)
    encoder = encoder_of(model, precision_of(args.precision, device)) if args.features else {}
    trained = STAGES[args.stage]
    torch.manual_seed(args.seed)
    lora = (args.lora_rank, args.lora_alpha, args.lora_dropout, args.use_dora, args.use_rslora)
    wrapped = add_lora(model, *lora) if "adapter" in trained else None
    set_trainable(model, trained)
    precision = precision_of(args.precision, device)
    set_precision(model, precision)
    model.to(device).train()
    model.vision_model.eval()
    if args.gradient_checkpointing:
        model.language_model.gradient_checkpointing_enable({"use_reentrant": False})

    layout = Layout.of(model.config, tokenizer)
    reader = Reader(shards.folder, model.config.vision_config.image_size)
    collate = Collator(reader, tokenizer, layout, args.max_prompt_tokens, args.max_target_tokens)
    probe = collate(shards.rows[:8]).to(device)
    if precision is torch.float32 and probe.rows:
        check_against_plain(model, probe.pixel_values, probe.image_of_text, probe.text)
    features = None
    if args.features is not None:
        features = open_features(args.features, shards, encoder)
        collate = replace(collate, states=features.states)

    # The order: who is seen when, in which batch. It is all that the position, one integer, is a place in.
    global_order, mixture_digest = order_of(args, shards)
    cut = {"size": args.batch_size, "tokens": args.batch_tokens, "window": args.length_window, "lengths": None}
    if args.batch_tokens or args.length_window:
        cut["lengths"] = estimate_lengths(shards, reader, tokenizer) + layout.query_tokens
    samples = math.ceil(args.epochs * len(shards.rows))
    total_steps = args.max_steps or order.count_batches(global_order, samples, **cut)

    # The optimiser: AdamW with a learning rate for each part, cosine with warm-up.
    optimizer, names = make_optimizer(model, args)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: cosine_with_warmup(step, total_steps, args.warmup)
    )

    def make_batch(chosen: Sequence[int]) -> Batch:
        """This process's share of a global batch."""
        return collate([shards.rows[i] for i in order.share(chosen, world.rank, world.size)])

    def backward(batch: Batch) -> tuple[int, float, float, torch.Tensor]:
        """Gradients of a step: (target tokens of the global batch, this process's part of its loss, norm, nats of each text here)."""
        tokens = int(world.total(batch.target_tokens))
        with arithmetic(precision, device):
            part_of_loss, nats = accumulate_gradients(
                model, batch, layout, args.micro_batch, device, tokens, args.micro_tokens
            )
        world.sum_gradients(parameters)
        return tokens, part_of_loss, float(clip_grad_norm_(parameters, args.clip)), nats

    if args.dry_run:
        worst = dry_run.longest(
            estimate_lengths(shards, reader, tokenizer) + layout.query_tokens, args.batch_size, args.batch_tokens
        )
        asked = (batch.tolist() for batch in order.batches(global_order, **cut))

        def train_on(batch: Batch) -> None:
            backward(batch)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return dry_run.measure(model, train_on, make_batch, asked, worst, total_steps, device)

    # What must be the same for a checkpoint to be gone on from.
    identity = identity_of(args, shards, base_digest, mixture_digest, total_steps)
    identity["features"] = features and features.digest
    world.check_alike({"shards": shards.digest, "base model": base_digest, "options": json.dumps(identity)})
    step, position, seconds_before, cut_targets = 0, 0, 0.0, 0
    if resume_from:
        tensors, state = checkpoint.load(resume_from)
        checkpoint.check_identity(identity, state["identity"], resume_from)
        checkpoint.restore(tensors, state, names, optimizer, schedule)
        step, position, seconds_before, cut_targets = (
            state["step"], state["position"], state["seconds"], state["cut_targets"],
        )  # fmt: skip
        log.info("resumed from %s: step %d of %d, sample %d", resume_from, step, total_steps, position)
    logs = checkpoint.Logs(args.out, step, world.writes)
    bad = BadSamples(logs, images, args.max_bad_images)
    groups = report.GroupLosses(shards.rows)
    group_every = max(1, min(args.log_every, total_steps // report.POINTS_OF_A_CURVE))
    progress = report.Progress(step, total_steps, position)
    board = report.Board(args.out / "tensorboard" if args.tensorboard and world.writes else None, step)

    # The loop.
    asked = (batch.tolist() for batch in order.batches(global_order, position=position, **cut))
    stream = prefetch(asked, make_batch, args.workers, pin=device.type == "cuda")
    loop_started = time.monotonic()
    with closing(stream):
        while step < total_steps:
            chosen, batch = next(stream)
            seed_step(args.seed, step, world.rank)
            tokens, part_of_loss, norm, nats = backward(batch)
            if not math.isfinite(norm):
                raise ValueError(
                    f"The gradient of step {step + 1} is not finite: lower the learning rates. The last checkpoint is whole."
                )
            rates = schedule.get_last_lr()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            step, position = step + 1, position + len(chosen)

            # What happened, over all processes.
            groups.add(batch, nats)
            loss, cut_here, left_out = what_happened(world, chosen, batch, part_of_loss)
            cut_targets += cut_here
            bad.add(step, [shards.rows[i] for i in left_out], reader)
            seconds = seconds_before + time.monotonic() - loop_started
            row = {
                "step": step, "loss": loss, "gradient_norm": norm, "lr": max(rates), "position": position, "target_tokens": tokens,
                "seconds": round(seconds, 3),
            }  # fmt: skip
            logs.add("train_log", row)
            progress.step(row)
            due = step % args.checkpoint_every == 0 or step == total_steps
            tell = step % args.log_every == 0 or step == total_steps
            if due or tell or step % group_every == 0:
                taken = groups.take(world)
                logs.add("groups", {"step": step, "position": position, **taken})
                progress.add(taken)
                board.show(row, taken)
            if tell:
                progress.show()
            if due and world.writes:
                state = {
                    "position": position,
                    "seconds": seconds,
                    "cut_targets": cut_targets,
                    "identity": identity,
                    "schedule": schedule.state_dict()["last_epoch"],
                    "code": checkpoint.code_version(),
                }
                checkpoint.save(
                    args.out / "checkpoints", step, checkpoint.state_tensors(names, optimizer), state, args.keep
                )
    board.close()
    seconds = seconds_before + time.monotonic() - loop_started
    if cut_targets:
        log.warning("%d targets were cut at %d tokens", cut_targets, args.max_target_tokens)
    if bad.keys:
        log.warning(
            "%d images could not be decoded; they are listed in %s", len(bad.keys), args.out / "bad_samples.jsonl"
        )

    # What it learnt: the loss with the right images, and with images exchanged among the samples.
    with arithmetic(precision, device):
        result = measure.measure(model, shards, collate, args.eval_samples, args.batch_size, world)
        shown = shards  # whose images captions are written for: unseen ones where there are any
        if args.held_out:
            held_out = open_shards(
                args.shards, args.languages, keep=lambda row: order.is_held_out(row["key"], args.held_out)
            )
            result["held_out_images"] = measure.measure(
                model, held_out, collate, args.eval_samples, args.batch_size, world
            )
            shown = held_out
        generations = measure.write_texts(model, tokenizer, shown, reader) if world.writes else []
    result |= {
        "steps": total_steps,
        "samples_seen": position,
        "cut_targets": cut_targets,
        "bad_images": len(bad.keys),
        "seconds": round(seconds, 1),
        "seconds_with_base_and_evaluation": round(time.monotonic() - started, 1),
        **described,
        "config": {
            name: value for name, value in sorted(vars(args).items()) if isinstance(value, (int, float, str, list))
        },
    }

    # What is kept: the adapter, the aligned parts, numbers, texts and the run page.
    if world.writes:
        save_adapter(wrapped, model, args.out / "adapter")
        of_key = {row["key"]: row for row in shown.rows}
        thumbnails = {row["key"]: run_page.thumbnail(reader.image_file(of_key[row["key"]])) for row in generations}
        for name, value in (("generations.json", generations), ("result.json", result)):
            checkpoint.write_aside(args.out / name, json.dumps(value, ensure_ascii=False, indent=1).encode())
        page = run_page.page(result, logs.rows["groups"], generations, thumbnails)
        checkpoint.write_aside(args.out / "index.html", page.encode())
    return result


def what_happened(
    world: distributed.World, chosen: Sequence[int], batch: Batch, part_of_loss: float
) -> tuple[float, int, list[int]]:
    """(loss, cut targets, samples of `chosen` that were left out) of a step, over all processes."""
    first = len(chosen) * world.rank // world.size  # where this process's share begins
    numbers = torch.zeros(2 + len(chosen), dtype=torch.float64, device=world.device)
    numbers[0] = part_of_loss
    numbers[1] = sum(text.target_was_cut for text in batch.tokenized)
    numbers[[2 + first + place for place in batch.left_out]] = 1
    loss, cut_targets, *left_out = world.sum(numbers).tolist()
    return loss, int(cut_targets), [int(sample) for sample, is_out in zip(chosen, left_out, strict=True) if is_out]


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
        "stage", "quantisation", "lora_rank", "lora_alpha", "lora_dropout", "use_dora", "use_rslora",
        "lr_qformer", "lr_projection", "lr_adapter", "weight_decay", "warmup", "clip",
    )  # fmt: skip
    return {
        **{name: getattr(args, name) for name in same},
        "precision": str(precision_of(args.precision, torch.device(args.device))),
        "total_steps": total_steps,
        "shards": shards.digest,
        "mixture": mixture_digest,
        "base": base_digest,
    }


def save_adapter(wrapped: "PeftModel | None", model: Blip2ForConditionalGeneration, folder: Path) -> None:
    """LoRA, where the stage has it, as a PEFT directory, and beside it everything else that was trained, under its name in the BLIP-2 model."""
    aligned = {
        name: p.detach().cpu().contiguous() for part, name, p in trainable_parameters(model) if part != "adapter"
    }
    shutil.rmtree(folder, ignore_errors=True)  # of a run that ended before and went on
    with files.folder_written_aside(folder) as aside:
        if wrapped is not None:
            wrapped.save_pretrained(aside, save_embedding_layers=False)
        save_file(aligned, aside / "aligned_parts.safetensors")


if __name__ == "__main__":
    main()
