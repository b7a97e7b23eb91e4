"""A training step of the Vision-LLM, side by side: mBLIP's, the Hugging Face Trainer's, ours, and ours with cached vision features.

Every system trains the same weights (`benchmarks/workload.py`: real proportions, 250,112 rows of vocabulary) on the same samples in the same
steps with the same optimiser, each in a process of its own, and all read the same shards with our loader. A step has 64 texts of 16 images, in
passes of 16 texts, each weighted by its target tokens, so that the losses can be compared: the benchmark fails when they differ at step 0.

- mblip: what mBLIP's public trainer does in a step, written from its description: the image is encoded for every text, the texts are padded in
  the order in which they come, and there are logits of the whole vocabulary at every position of the target, padding included.
- trainer: `transformers.Trainer` on the same model with PEFT's LoRA, its loss weighted by tokens (`compute_loss_func`).
- ours: `training.realign.accumulate_gradients`, which is what the trainer's loop calls.
- ours with features: the same, the frozen encoder's output read from disk (`training/features.py`) instead of computed.

The first step is not timed. Memory is the peak of the resident set (on a GPU, of allocated memory), weights included.

    python -m benchmarks.train                      # about eight minutes on two cores
    python -m benchmarks.train --shards 'runs/demo/shards/*.tar'
"""

import argparse
import itertools
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

SYSTEMS = {
    "mblip": "mBLIP's step",
    "trainer": "Hugging Face Trainer",
    "ours": "ours",
    "features": "ours, with features",
}
TEXTS_PER_IMAGE = 4
LIMITS = ("--max-prompt-tokens", "128", "--max-target-tokens", "128")
RATES = ("--lr-qformer", "1e-4", "--lr-projection", "1e-4", "--lr-adapter", "1e-3", "--warmup", "0")


@dataclass
class Measured:
    """What one system did."""

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    """Of all threads: comparable also while others use the machine."""
    tokens: int = 0
    """Positions that went through the language model, padding included."""
    labels: int = 0
    """Positions with logits of the whole vocabulary."""

    def add(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.seconds.append(end[0] - start[0])
        self.cpu_seconds.append(end[1] - start[1])

    def a_step(self, seconds: list[float]) -> float:
        """Mean of all steps but the first."""
        return sum(seconds[1:]) / len(seconds[1:])


def clocks() -> tuple[float, float]:
    """Seconds on the wall, and of this process on all cores."""
    return time.perf_counter(), time.process_time()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64, help="texts a step")
    parser.add_argument("--micro-batch", type=int, default=16, help="texts a forward pass, in the first two systems")
    parser.add_argument("--micro-tokens", type=int, default=1600, help="tokens a forward pass, in ours")
    parser.add_argument("--shards", help="glob of the tars to train on instead of made ones")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(run_one(options)) + "\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        prepared = child(options, "prepare", folder)
        options.shards = prepared["shards"]
        for system in options.systems:
            found[system] = child(options, system, folder)
            sys.stderr.write(f"{SYSTEMS[system]}: {found[system]['seconds_a_step']:.1f} s a step\n")
    sys.stdout.write(table(found, prepared, options))
    return check(found)


def child(options: argparse.Namespace, what: str, folder: str) -> dict[str, Any]:
    """Run this file again for one system; returns what it measured."""
    command = [sys.executable, "-m", "benchmarks.train", "--one", what, "--folder", folder, "--device", options.device]
    for name in ("steps", "batch_size", "micro_batch", "micro_tokens", "shards", "systems"):
        if getattr(options, name) is not None:
            value = getattr(options, name)
            command += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    environment = {
        **os.environ,
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, text=True).stdout
    return json.loads(output.splitlines()[-1])  # the Hugging Face Trainer prints before it


def table(found: dict[str, dict[str, Any]], prepared: dict[str, Any], options: argparse.Namespace) -> str:
    lines = [
        f"{options.steps} steps of {options.batch_size} texts, {TEXTS_PER_IMAGE} an image; {prepared['about']}",
        "",
        f"{'':<22} {'samples/s':>10} {'faster':>7} {'CPU s':>7} {'less':>6} {'peak MB':>8} {'memory':>7} {'positions':>10} {'logit rows':>11}",
    ]
    first = next(iter(found.values()))
    for system, f in found.items():
        faster = first["seconds_a_step"] / f["seconds_a_step"]
        lines.append(
            f"{SYSTEMS[system]:<22} {options.batch_size / f['seconds_a_step']:>10.2f} {faster:>6.2f}x "
            f"{f['cpu_seconds_a_step']:>7.1f} {first['cpu_seconds_a_step'] / f['cpu_seconds_a_step']:>5.2f}x {f['peak_mb']:>8.0f} "
            f"{f['peak_mb'] / first['peak_mb']:>6.0%} {f['tokens']:>10,} {f['labels']:>11,}"
        )
    lines += ["", "loss, nats a target token", f"{'step':>4} " + " ".join(f"{SYSTEMS[s]:>22}" for s in found)]
    for step, losses in enumerate(zip(*(f["losses"] for f in found.values()), strict=True)):
        lines.append(f"{step:>4} " + " ".join(f"{loss:>22.5f}" for loss in losses))
    return "\n".join(lines) + "\n"


def check(found: dict[str, dict[str, Any]]) -> int:
    """1 when the systems did not do the same work, which shows in the loss; else 0."""
    first = next(iter(found.values()))["losses"]
    wrong = 0
    for system, f in found.items():
        apart = [abs(a - b) / abs(a) for a, b in zip(first, f["losses"], strict=True)]
        if apart[0] > 1e-4 or max(apart) > 1e-2:
            sys.stdout.write(
                f"{SYSTEMS[system]}: not the same loss (step 0: {apart[0]:.1e}, worst: {max(apart):.1e})\n"
            )
            wrong = 1
    return wrong


# In the process of one system


def run_one(options: argparse.Namespace) -> dict[str, Any]:
    logging.disable(logging.WARNING)
    if options.one == "prepare":
        return prepare(options)
    import torch

    torch.manual_seed(0)
    trained = Trained(options)
    before = resident_mb()
    measured: Measured = {
        "mblip": train_as_mblip,
        "trainer": train_with_trainer,
        "ours": train_as_we_do,
        "features": train_as_we_do,
    }[options.one](trained)
    peak = torch.cuda.max_memory_allocated() / 2**20 if options.device == "cuda" else peak_mb()
    return {
        "losses": measured.losses,
        "seconds_a_step": measured.a_step(measured.seconds),
        "cpu_seconds_a_step": measured.a_step(measured.cpu_seconds),
        "tokens": measured.tokens,
        "labels": measured.labels,
        "peak_mb": peak,
        "before_mb": before,
    }


def prepare(options: argparse.Namespace) -> dict[str, Any]:
    """Make weights, samples and features in the folder."""
    from benchmarks import workload
    from model import assemble
    from training import features
    from training.loader import open_shards

    tokenizer = assemble.load_tokenizer(assemble.in_repository(assemble.DEMO_MODEL))
    workload.make_base(options.folder / "base", tokenizer)
    images = -(-options.steps * options.batch_size // TEXTS_PER_IMAGE)
    shards = options.shards or workload.make_shards(options.folder / "shards", images, TEXTS_PER_IMAGE)
    opened = open_shards(shards)
    if "features" in options.systems:
        written = [
            "--shards",
            shards,
            "--base",
            str(options.folder / "base"),
            "--features",
            str(options.folder / "features"),
        ]
        features.main([*written, "--device", options.device, "--precision", "float32", "--yes"])
    return {"shards": shards, "about": f"{len(opened.rows)} texts of {opened.images.max() + 1} images in the shards"}


class Trained:
    """The model, the optimiser and the samples of every step, equal in all systems."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch

        from model import assemble
        from model.adapt import add_lora
        from model.freeze import set_trainable
        from model.inputs import Layout
        from training import features, order, step
        from training.loader import Collator, Reader, open_shards
        from training.options import STAGES, arguments

        self.options = options
        self.device = torch.device(options.device)
        tokenizer = assemble.load_tokenizer(options.folder / "base")
        self.model = assemble.load(options.folder / "base", tokenizer)
        self.peft = add_lora(self.model, dropout=0.0)
        set_trainable(self.model, STAGES["instruct"])
        self.model.to(self.device).train()
        self.model.vision_model.eval()
        args = arguments(["--shards", options.shards, *LIMITS, *RATES])
        self.optimizer, _ = step.make_optimizer(self.model, args)
        self.clip = args.clip
        self.layout = Layout.of(self.model.config, tokenizer)
        shards = open_shards(options.shards)
        self.collate = Collator(
            Reader(shards.folder, self.model.config.vision_config.image_size),
            tokenizer,
            self.layout,
            args.max_prompt_tokens,
            args.max_target_tokens,
        )
        if options.one == "features":
            encoder = features.encoder_of(self.model, torch.float32)
            states = features.open_features(options.folder / "features", shards, encoder).states
            self.collate = replace(self.collate, states=states)
        samples = order.Order(shards.images, 0, TEXTS_PER_IMAGE).stream()
        self.steps = [[shards.rows[next(samples)] for _ in range(options.batch_size)] for _ in range(options.steps)]

    def step(self) -> None:
        from torch.nn.utils import clip_grad_norm_

        clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def as_given(self, rows: Sequence[dict]) -> dict[str, Any]:
        """A batch with one image for each text, padded in the given order: what a Hugging Face collator makes."""
        batch = self.collate(rows)
        return {"pixel_values": batch.pixel_values[batch.image_of_text], **batch.text}


def timed_steps(trained: Trained, measured: Measured) -> Iterator[list[dict]]:
    for rows in trained.steps:
        start = clocks()
        yield rows
        measured.add(start, clocks())


def train_as_mblip(trained: Trained) -> Measured:
    import torch
    from torch.nn.functional import cross_entropy

    measured = Measured()
    for rows in timed_steps(trained, measured):
        size = trained.options.micro_batch
        passes = [trained.as_given(rows[start : start + size]) for start in range(0, len(rows), size)]
        tokens = sum(int((batch["labels"] != -100).sum()) for batch in passes)
        total = 0.0
        for batch in passes:
            batch = {name: tensor.to(trained.device) for name, tensor in batch.items()}
            labels = batch.pop("labels")
            logits = trained.model(**batch).logits
            loss = cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="sum") / tokens
            loss.backward()
            total += float(loss.detach())
            measured.tokens += batch["input_ids"].numel() + labels.numel()
            measured.labels += labels.numel()
            del logits, loss
        trained.step()
        measured.losses.append(total)
    assert torch.is_grad_enabled()
    return measured


def train_with_trainer(trained: Trained) -> Measured:
    from torch.nn.functional import cross_entropy
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import Trainer, TrainerCallback, TrainingArguments

    measured = Measured()

    marks = []

    class Watch(TrainerCallback):
        """Takes the time at the start and after each step, so that loading is counted."""

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            marks.append(clocks())

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            marks.append(clocks())

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
            if "loss" in logs:
                measured.losses.append(logs["loss"])

    def loss_of_tokens(outputs: Any, labels: Any, num_items_in_batch: Any) -> Any:
        measured.labels += labels.numel()
        logits = outputs.logits
        return cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), reduction="sum") / num_items_in_batch

    def collate(rows: list[dict]) -> dict[str, Any]:
        batch = trained.as_given(rows)
        measured.tokens += batch["input_ids"].numel() + batch["labels"].numel()
        return batch

    options = trained.options
    trainer = Trainer(
        model=trained.peft,
        args=TrainingArguments(
            output_dir=str(options.folder / "trainer"),
            per_device_train_batch_size=options.micro_batch,
            gradient_accumulation_steps=options.batch_size // options.micro_batch,
            max_steps=options.steps,
            max_grad_norm=trained.clip,
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            label_names=["labels"],
            use_cpu=options.device == "cpu",
            disable_tqdm=True,
        ),
        train_dataset=list(itertools.chain.from_iterable(trained.steps)),
        data_collator=collate,
        compute_loss_func=loss_of_tokens,
        optimizers=(trained.optimizer, LambdaLR(trained.optimizer, lambda step: 1.0)),
        callbacks=[Watch()],
    )
    trainer.train()
    for start, end in itertools.pairwise(marks):
        measured.add(start, end)
    return measured


def train_as_we_do(trained: Trained) -> Measured:
    from model.inputs import stack
    from training.step import accumulate_gradients, pieces

    measured = Measured()
    size, size_tokens = trained.options.batch_size, trained.options.micro_tokens
    batches = []
    for rows in timed_steps(trained, measured):
        batch = trained.collate(rows)
        loss, _ = accumulate_gradients(
            trained.model, batch, trained.layout, size, trained.device, size_tokens=size_tokens
        )
        trained.step()
        measured.losses.append(loss)
        batches.append(batch)
    for batch in batches:
        measured.labels += batch.target_tokens
        for piece in pieces(batch.tokenized, trained.layout.query_tokens, size, size_tokens):
            padded = stack(trained.layout, [batch.tokenized[i] for i in piece])
            measured.tokens += padded["input_ids"].numel() + padded["labels"].numel()
    return measured


def resident_mb() -> float:
    return _status("VmRSS")


def peak_mb() -> float:
    """Peak of this process; getrusage would count the parent's memory before the exec."""
    return _status("VmHWM")


def _status(name: str) -> float:
    path = Path("/proc/self/status")
    if not path.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith(name)) / 1024


if __name__ == "__main__":
    sys.exit(main())
