"""What can be chosen about a training run, on the command line.

What is not given comes from the preset's recipe for the stage: for the tiny models `TINY` below, for real ones `model/recipes.json`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from model import assemble
from model.recipes import RECIPES
from pipeline.storage import is_remote

DESCRIPTION = "Re-align a Vision-LLM on multilingual shards."

STAGES = {"warmup": ("projection",), "instruct": ("qformer", "query_tokens", "projection", "adapter")}
"""Stage → what learns in it (parts of `model/freeze.py`)."""

TINY = {
    "lr_qformer": 1e-3,
    "lr_projection": 1e-3,
    "lr_adapter": 2e-3,
    "batch_size": 64,
    "epochs": 1.0,
    "warmup": 0.05,
    "weight_decay": 0.1,
    "clip": 1.0,
    "lora_rank": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.0,
    "use_dora": False,
    "use_rslora": False,
    "max_prompt_tokens": 128,
    "max_target_tokens": 128,
}
"""For models that are small enough for a CPU, where dropout costs a fifth of the time."""


SMOLLM2 = {
    **TINY,
    "lr_qformer": 5e-5,
    "lr_projection": 1e-4,
    "lr_adapter": 1e-3,
    "batch_size": 16,
    "max_steps": 120,
    "max_prompt_tokens": 64,
    "max_target_tokens": 48,
}
"""Eyes that have seen thousands of drawings forget them for two hundred pictures unless they move slowly; the tongue may move."""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of a run, with what was not given filled in."""
    args = parser().parse_args(argv)
    if args.out is None and is_remote(args.shards):
        parser().error("shards at a URL need a local folder for the run: name it with --out")
    args.out = args.out or Path(args.shards).parent.parent / "training"
    for name, value in defaults_of(args).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def defaults_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the recipe of the preset and stage says about the options that were not given."""
    if args.preset not in RECIPES:
        if args.preset == "smollm2":
            return {**SMOLLM2, "max_steps": SMOLLM2["max_steps"] if args.epochs is None else None}
        return TINY
    recipe = RECIPES[args.preset]
    stage = recipe.stages["warm-up" if args.stage == "warmup" else args.stage]
    return {
        **TINY,
        "lr_qformer": stage.rates.get("qformer", 0.0),
        "lr_projection": stage.rates.get("projection", 0.0),
        "lr_adapter": stage.rates.get("adapter", 0.0),
        "batch_size": stage.batch_size,
        "max_steps": stage.steps if args.epochs is None else None,
        "epochs": stage.epochs or 1.0,
        "warmup": stage.warmup_steps,
        "weight_decay": stage.weight_decay,
        "clip": stage.clip,
        "lora_rank": recipe.lora.rank,
        "lora_alpha": recipe.lora.alpha,
        "lora_dropout": recipe.lora.dropout,
        "use_dora": recipe.lora.use_dora,
        "use_rslora": recipe.lora.use_rslora,
        "max_prompt_tokens": recipe.max_prompt_tokens,
        "max_target_tokens": recipe.max_target_tokens,
        "quantisation": recipe.quantisation,
    }


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False, []) else super()._get_help_string(action)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="training/realign.py",
        description=DESCRIPTION,
        epilog="Options without a default take the preset's recipe for the stage.",
        formatter_class=Help,
        argument_default=None,
    )
    add_data(parser.add_argument_group("data"))
    add_order(parser.add_argument_group("order"))
    add_model(parser.add_argument_group("model"))
    add_training(parser.add_argument_group("training"))
    add_run(parser.add_argument_group("run"))
    return parser


Group = argparse._ArgumentGroup


def add_data(group: Group) -> None:
    group.add_argument("--shards", required=True, help="glob of the tars, quoted")
    group.add_argument("--languages", nargs="+", default=[], metavar="CODE", help="only texts of these (deu_Latn …)")
    group.add_argument(
        "--held-out", type=float, default=0.0, metavar="SHARE", help="of the images, kept from training and evaluated"
    )
    group.add_argument("--max-prompt-tokens", type=int, metavar="N")
    group.add_argument("--max-target-tokens", type=int, metavar="N")
    group.add_argument(
        "--max-bad-images", type=float, default=0.01, metavar="SHARE",
        help="of the images that may turn out not to decode; their texts are left out and listed, and more of them stop the run",
    )  # fmt: skip
    group.add_argument(
        "--features",
        type=Path,
        metavar="DIR",
        help="the vision encoder's output, written before by `python -m training.features`",
    )
    group.add_argument("--workers", type=int, default=2, metavar="N", help="threads that make batches ahead; 0: none")


def add_order(group: Group) -> None:
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--mixture", type=Path, metavar="YAML", help="temperatures and factors of tasks and languages")
    group.add_argument(
        "--language-temperature", type=float, metavar="T", help="1: as in the data; larger: languages more alike"
    )
    group.add_argument("--task-temperature", type=float, metavar="T", help="the same for tasks")
    group.add_argument(
        "--texts-per-image", type=int, default=2, help="texts of one image that stand together and share its encoding"
    )
    group.add_argument("--batch-size", type=int, metavar="N", help="texts a step, over all processes")
    group.add_argument(
        "--batch-tokens", type=int, metavar="N",
        help="instead: as many texts a step as have so many tokens (image, prompt, target), padded to the longest",
    )  # fmt: skip
    group.add_argument(
        "--length-window", type=int, default=0, metavar="TEXTS",
        help="sort so many texts of the order by length and cut them into batches of like length, which are then shuffled; 0: don't",
    )  # fmt: skip
    group.add_argument(
        "--shuffle-window", type=int, default=0, metavar="SHARDS",
        help="shards that are read and shuffled together, few for remote or spinning disks; 0: all",
    )  # fmt: skip


def add_model(group: Group) -> None:
    group.add_argument(
        "--preset", choices=[*assemble.PRESETS, *RECIPES], default="tiny-nllb",
        help="recipe and, without --base, which model: a tiny base that is made first, or the parts of a real one",
    )  # fmt: skip
    group.add_argument("--base", type=Path, metavar="DIR", help="Hugging Face folder of the BLIP-2 class")
    group.add_argument("--eyes", metavar="DIR|ID", help="BLIP-2 checkpoint whose vision encoder and Q-Former are used")
    group.add_argument(
        "--language-model", metavar="DIR|ID", help="any Hugging Face language model, instead of the preset's"
    )
    group.add_argument("--tokenizer", type=Path, metavar="DIR", help="instead of the model's own")
    group.add_argument(
        "--image-token", help="special token that stands for the image, where no vocabulary row is spare"
    )
    group.add_argument("--quantisation", help="of the frozen language model: none, 8bit or nf4 (default: the recipe's)")
    group.add_argument(
        "--aligned", type=Path, metavar="DIR", help="start from what an earlier stage trained: its run, or its adapter/"
    )
    group.add_argument(
        "--text-steps",
        type=int,
        help="of a base that is made, with its language model's loss: the model learns texts, smollm2's eyes to be read (default: the preset's)",
    )
    group.add_argument(
        "--qformer-steps",
        type=int,
        help="of a base that is made, with the contrast that trains its eyes (default: the preset's)",
    )
    group.add_argument("--lora-rank", type=int, metavar="N")
    group.add_argument("--lora-alpha", type=int, metavar="N")
    group.add_argument("--lora-dropout", type=float, metavar="P")
    group.add_argument(
        "--use-dora",
        action=argparse.BooleanOptionalAction,
        help="learn a magnitude for each column beside LoRA's direction (arXiv 2402.09353); slower",
    )
    group.add_argument(
        "--use-rslora",
        action=argparse.BooleanOptionalAction,
        help="scale LoRA by alpha/√rank instead of alpha/rank (arXiv 2312.03732), for ranks well above 8",
    )


def add_training(group: Group) -> None:
    group.add_argument(
        "--stage",
        choices=STAGES,
        default="instruct",
        help="; ".join(f"{k}: {', '.join(v)} learn" for k, v in STAGES.items()),
    )
    group.add_argument("--epochs", type=float)
    group.add_argument("--max-steps", type=int, metavar="N", help="instead of --epochs")
    group.add_argument("--micro-batch", type=int, default=8, metavar="N", help="texts a forward pass, of like length")
    group.add_argument(
        "--micro-tokens", type=int, metavar="N", help="tokens a forward pass at most (image, prompt, target, padded)"
    )
    group.add_argument("--lr-qformer", type=float, metavar="RATE", help="Q-Former and query tokens")
    group.add_argument("--lr-projection", type=float, metavar="RATE")
    group.add_argument("--lr-adapter", type=float, metavar="RATE")
    group.add_argument("--weight-decay", type=float)
    group.add_argument(
        "--warmup", type=float, help="steps (1 or more) or share of the steps in which the learning rate rises"
    )
    group.add_argument("--clip", type=float, help="largest norm of the gradient")
    group.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    group.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16"), default="auto",
        help="of frozen weights and of the arithmetic; what learns stays float32. auto: bfloat16 on a GPU. Never float16, in which T5 overflows",
    )  # fmt: skip
    group.add_argument(
        "--gradient-checkpointing", action="store_true",
        help="compute the language model's activations again in the backward pass: a third more time, a fraction of the memory",
    )  # fmt: skip


def add_run(group: Group) -> None:
    group.add_argument("--out", type=Path, metavar="DIR", help="default: `training` beside the folder of the shards")
    group.add_argument(
        "--resume", nargs="?", const="auto", metavar="auto|PATH", help="go on from OUT's last checkpoint, or from one"
    )
    group.add_argument(
        "--check", action="store_true",
        help="verify shards, tags, images, lengths and leakage, and stop; exit code 1 when something is wrong",
    )  # fmt: skip
    group.add_argument(
        "--benchmark-images", type=Path, nargs="+", default=[], metavar="PATH",
        help="for --check: folders of images that must not be trained on, or lists of their hashes",
    )  # fmt: skip
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print parts, weights, peak memory of the worst batch, pace and time, and stop",
    )
    group.add_argument("--checkpoint-every", type=int, default=100, metavar="STEPS")
    group.add_argument("--keep", type=int, default=2, help="checkpoints kept")
    group.add_argument("--log-every", type=int, default=20, metavar="STEPS", help="steps between progress lines")
    group.add_argument(
        "--tensorboard", action="store_true", help="write OUT/tensorboard (pip install 'polyalign[tensorboard]')"
    )
    group.add_argument("--eval-samples", type=int, default=768)
