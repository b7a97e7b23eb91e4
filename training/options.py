"""What can be chosen about a training run, on the command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from model import assemble


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Re-align a Vision-LLM on multilingual shards.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    data = parser.add_argument_group("data")
    data.add_argument("--shards", required=True, help="glob of the tars, quoted")
    data.add_argument(
        "--languages", nargs="+", default=[], metavar="CODE", help="only texts of these languages (deu_Latn …)"
    )
    data.add_argument(
        "--held-out",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="share of the images kept from training and evaluated",
    )
    data.add_argument("--mixture", type=Path, metavar="YAML", help="temperatures and factors of tasks and languages")
    data.add_argument("--language-temperature", type=float, help="1: languages as they are in a task; large: all alike")
    data.add_argument("--task-temperature", type=float, help="the same for tasks")
    data.add_argument(
        "--shuffle-window", type=int, default=0, metavar="SHARDS",
        help="shards that are read and shuffled together, few for remote or spinning disks; 0: all",
    )  # fmt: skip
    data.add_argument("--max-prompt-tokens", type=int, default=128)
    data.add_argument("--max-target-tokens", type=int, default=128)
    data.add_argument(
        "--texts-per-image", type=int, default=2, help="texts of one image that stand together and share its encoding"
    )
    what = parser.add_argument_group("model")
    what.add_argument(
        "--preset",
        choices=assemble.PRESETS,
        default="tiny-nllb",
        help="which tiny base to make when there is no --base",
    )
    what.add_argument("--base", type=Path, help="Hugging Face folder of the BLIP-2 class")
    what.add_argument("--text-steps", type=int, help="of the tiny base's language model (default: the preset's)")
    what.add_argument("--qformer-steps", type=int, default=600, help="of the tiny base's Q-Former")
    what.add_argument(
        "--language-model",
        type=Path,
        help="Hugging Face folder of the tiny base's language model (default: the preset's)",
    )
    what.add_argument("--tokenizer", type=Path, help="folder with the tokenizer (default: the base's, or the preset's)")
    what.add_argument("--lora-rank", type=int, default=8)
    what.add_argument("--lora-alpha", type=int, default=16)
    what.add_argument(
        "--lora-dropout", type=float, default=0.0, help="mBLIP has 0.05; on a CPU it costs a fifth of the time"
    )
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=float, default=1.0)
    training.add_argument("--max-steps", type=int, help="instead of --epochs")
    training.add_argument("--batch-size", type=int, default=64, help="texts a step")
    training.add_argument(
        "--batch-tokens", type=int, metavar="TOKENS",
        help="instead of --batch-size: as many texts a step as have so many tokens (image, prompt and target) when padded to the longest",
    )  # fmt: skip
    training.add_argument(
        "--length-window", type=int, default=0, metavar="TEXTS",
        help="sort so many texts of the order by length and cut them into batches of like length, which are then shuffled; 0: don't",
    )  # fmt: skip
    training.add_argument(
        "--micro-batch", type=int, default=8, help="texts a forward pass, of like length; their gradients add up"
    )
    training.add_argument("--lr-qformer", type=float, default=1e-3, help="Q-Former and query tokens")
    training.add_argument("--lr-projection", type=float, default=1e-3)
    training.add_argument("--lr-adapter", type=float, default=2e-3)
    training.add_argument("--weight-decay", type=float, default=0.1)
    training.add_argument(
        "--warmup", type=float, default=0.05, help="share of the steps in which the learning rate rises"
    )
    training.add_argument("--clip", type=float, default=1.0, help="largest norm of the gradient")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    run = parser.add_argument_group("run")
    run.add_argument("--out", type=Path, help="folder of the run (default: `training` beside the folder of the shards)")
    run.add_argument(
        "--resume", nargs="?", const="auto", metavar="auto|PATH", help="go on from OUT's last checkpoint, or from one"
    )
    run.add_argument("--checkpoint-every", type=int, default=100, metavar="STEPS")
    run.add_argument("--keep", type=int, default=2, help="checkpoints kept")
    run.add_argument("--log-every", type=int, default=20, metavar="STEPS", help="steps between progress lines")
    run.add_argument("--eval-samples", type=int, default=768)
    args = parser.parse_args(argv)
    args.out = args.out or Path(args.shards).parent.parent / "training"
    return args
