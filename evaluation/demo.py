"""The end of `make demo`: the trained model captions sample images in every language that has human translations of their names.

    python -m evaluation.demo --training runs/demo/training --out runs/demo/evaluation

It writes the stand-ins (`standin.py`) of the images that the run held out (`--held-out` of training/realign.py) and evaluates captions on the
one in XM3600's format. A run that held nothing out is evaluated on images that it was trained on, and the table says so.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation import benchmarks, report, standin
from evaluation.ask import load
from evaluation.evaluate import evaluate
from evaluation.protocols import PROTOCOLS
from evaluation.records import Item
from pipeline.languages import BY_NLLB
from training.report import log_to_stderr

log = logging.getLogger("evaluation.demo")

MOST_IMAGES = 6
"""Enough to tell a model that looks from one that does not, few enough for half a minute on a core."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--training", type=Path, required=True, help="folder of training/realign.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=MOST_IMAGES, help="at most")
    parser.add_argument("--benchmark", nargs="+", default=["xm3600"], choices=list(benchmarks.READERS))
    parser.add_argument("--protocol", choices=PROTOCOLS, default="polyalign")
    args = parser.parse_args(argv)
    log_to_stderr()
    try:
        names = standin.read_names()
        fraction = standin.held_out_fraction(args.training)
        unseen = standin.held_out_names(names, fraction)
        if len(unseen) < 2:
            log.warning(
                "the run held out %d of the images with names: it is asked about images that it has seen", len(unseen)
            )
        names = unseen if len(unseen) >= 2 else names
        names = {emoji: names[emoji] for emoji in sorted(names)[: args.images]}
        remark = (
            f"{len(names)} emoji that the model {'has not seen' if len(unseen) >= 2 else 'HAS SEEN'} in training, and their names by "
            "CLDR's translators: a stand-in that shows that evaluation works, not a benchmark."
        )
        have = {code for of in names.values() for code in of}
        data = args.out / "data"
        codes = standin.write(data, names, [code for code in BY_NLLB if code in have], args.benchmark)
        items: dict[str, list[Item]] = {name: benchmarks.read(name, data, codes[name]) for name in args.benchmark}
        model = load(args.training)
        result = evaluate(
            items, model, PROTOCOLS[args.protocol], args.out, data, "the demo's model", batch_size=64, remark=remark
        )
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if result is not None:
        sys.stdout.write(f"{remark}\n{report.text_table(result, rows=8)}")
        sys.stdout.write(f"evaluation: {args.out / 'index.html'}\n")


if __name__ == "__main__":
    main()
