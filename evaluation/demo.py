"""The end of `make demo`: the trained model on sample images that it has never seen, in every language that has human translations of their names.

    python -m evaluation.demo --training runs/demo/training --out runs/demo/evaluation

It writes the stand-ins (`standin.py`) of the images that the run held out (`--held-out` of training/realign.py, which keeps them from the tiny
base too) and asks every benchmark in its own languages, captions in XM3600's format in all that the run was trained on. Everything is asked a second
time with other images (`chance.py`), so that a reader sees what the score is worth. A run that held nothing out is evaluated on images that it was
trained on, and the table says so.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation import benchmarks, standin
from evaluation.ask import load
from evaluation.evaluate import evaluate
from evaluation.protocols import PROTOCOLS
from evaluation.records import facts, language_of
from evaluation.terminal import text_table
from pipeline import files
from pipeline.languages import BY_NLLB
from training.report import log_to_stderr

log = logging.getLogger("evaluation.demo")

MOST_IMAGES = 8
"""Enough to tell a model that looks from one that does not, few enough for a minute on two cores."""
PAPER = ("xm3600", "xgqa", "xvnli", "marvl", "xflickrco", "maxm")
IN_ALL_LANGUAGES = "xm3600"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--training", type=Path, required=True, help="folder of training/realign.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=MOST_IMAGES, help="at most")
    parser.add_argument("--benchmark", nargs="+", default=list(PAPER), choices=list(benchmarks.READERS))
    parser.add_argument("--protocol", choices=PROTOCOLS, default="polyalign")
    args = parser.parse_args(argv)
    log_to_stderr()
    try:
        every = standin.read_names()
        names = standin.held_out_names(every, standin.held_out_fraction(args.training))
        unseen = len(names) >= 2
        if not unseen:
            log.warning(
                "the run held out %d of the images with names: it is asked about images it has seen", len(names)
            )
            names = every
        names = {emoji: names[emoji] for emoji in sorted(names)[: args.images]}
        remark = describe(len(names), unseen)
        data = args.out / "data"
        items = {}
        for name in args.benchmark:
            codes = standin.write(data, names, languages_of(name, names, args.training), [name])
            items[name] = benchmarks.read(name, data, codes[name])
        result = evaluate(
            items, load(args.training), PROTOCOLS[args.protocol], args.out, data, "the demo's model", batch_size=64, remark=remark,
            exchange_images=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if result is not None:
        sys.stdout.write(f"\n{remark}\n{losses(args.training)}{text_table(result)}")
        sys.stdout.write(f"page: {args.out / 'index.html'}\n")


def describe(images: int, unseen: bool) -> str:
    """What was asked and what it can't show, for the table and the page."""
    what = "was never trained on" if unseen else "WAS TRAINED ON"
    return (
        f"{images} images that this model {what}; references are their names by CLDR's translators, in the benchmarks' formats.\n"
        "The names are not new to it: its language model is the demo's translation model, which learnt them as text. So the score tells\n"
        "something only where it is above the one with images exchanged. It shows that evaluation works, and measures no real model."
    )


def losses(training: Path) -> str:
    """The trainer's own measure, which tells more than whole answers while a model knows little; nothing for a run that held nothing out."""
    held_out = files.read_json(training / "result.json").get("held_out_images")
    if held_out is None:
        return ""
    right, shuffled = held_out["loss_right_images"], held_out["loss_shuffled_images"]
    return f"loss on held-out images, nats a token: {right:.3f}, with images exchanged {shuffled:.3f} (all tasks)\n"


def languages_of(benchmark: str, names: standin.Names, training: Path) -> list[str]:
    """NLLB codes: the benchmark's own languages that the names have; for captions all that the run was trained on."""
    have = {code for of in names.values() for code in of}
    if benchmark == IN_ALL_LANGUAGES:
        trained = files.read_json(training / "result.json")["config"].get("languages") or BY_NLLB
        return [code for code in BY_NLLB if code in have and code in trained]
    own = (language_of(code) for code in facts()[benchmark]["languages"])
    return [language.nllb for language in own if language is not None and language.nllb in have]


if __name__ == "__main__":
    main()
