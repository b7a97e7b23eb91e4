"""`python -m data_cards RUN`: write the card of a finished run into RUN/card."""

import argparse
import logging
import sys
from pathlib import Path

from data_cards.card import build_card
from data_cards.tally import UnbalancedRun

log = logging.getLogger("data_cards")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m data_cards", description="Write the dataset card of a finished run."
    )
    parser.add_argument("run", type=Path, help="run folder, for example runs/demo")
    parser.add_argument("--out", type=Path, help="folder for the card (default: RUN/card)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out = options.out or options.run / "card"
    try:
        build_card(options.run, out)
    except (UnbalancedRun, FileNotFoundError) as error:
        log.error("%s", error)
        return 1
    log.info("card: %s", out / "index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
