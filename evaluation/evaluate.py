"""One command for all benchmarks of the paper.

    python -m evaluation.evaluate --model RUN_OR_HF_FOLDER --benchmark xm3600 xgqa xvnli marvl xflickrco maxm --data DIR --protocol mblip

`--check` says which files, images and languages are missing under --data and asks nothing. A killed command is started again and goes on. In OUT
are then, for each benchmark, the answers (`*.predictions.*.jsonl`), and over all of them `report.json`, `report.md` and `index.html`. Several
GPUs: `accelerate launch --num_processes 4 -m evaluation.evaluate …`; each process asks its share and the first one scores.
"""

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from evaluation import benchmarks, chance, refclip, report, standin
from evaluation.ask import Answerer, load
from evaluation.protocols import PROTOCOLS, Protocol
from evaluation.records import Item, facts
from evaluation.run import predict, read_predictions
from evaluation.score import score
from evaluation.terminal import text_table
from pipeline import files
from pipeline.quality.lid import IdentifierError
from training.report import log_to_stderr

log = logging.getLogger("evaluation.evaluate")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a run of training/realign.py, a Hugging Face folder, or a hub id")
    parser.add_argument("--benchmark", nargs="+", choices=list(benchmarks.READERS), required=True)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with iglue/, xm3600/, maxm/ …: docs/evaluation.md"
    )
    parser.add_argument("--protocol", choices=PROTOCOLS, default="polyalign")
    parser.add_argument(
        "--languages", nargs="+", metavar="CODE", help="of these, each benchmark's own (default: all it has)"
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only the first N items of each language (not comparable)"
    )
    parser.add_argument("--out", type=Path, help="default: evaluation/PROTOCOL beside the model")
    parser.add_argument("--batch-size", type=int, default=32, help="items asked together")
    parser.add_argument("--clip", type=Path, help="folder of a CLIP model, for RefCLIPScore of captions")
    parser.add_argument(
        "--exchange-images",
        action="store_true",
        help="ask everything once more with other images: what the model scores without looking (twice the time)",
    )
    parser.add_argument("--check", action="store_true", help="only say what is missing under --data")
    args = parser.parse_args(argv)
    if not args.check and args.model is None:
        parser.error("--model is needed to evaluate (or --check to look at the data)")
    if not args.check and args.out is None and not args.model.is_dir():
        parser.error(f"{args.model} is no folder here; if it is a hub id, --out is needed too")
    return args


LONGEST_WAIT = timedelta(days=7)
"""How long a process waits for the others at the end of a benchmark. One that dies is no reason to wait: its launcher ends the others."""


def processes() -> PartialState:
    """This process among those of its launcher (accelerate or torchrun), and its device; alone without one. Without a GPU they talk by gloo."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    log_to_stderr()
    try:
        if args.check:
            sys.exit(1 if check(args) else 0)
        items = {
            name: select(benchmarks.read(name, args.data, own_codes(name, args.languages)), args.limit)
            for name in args.benchmark
        }
        model = load(args.model, processes().device)
        out = args.out or (args.model / "evaluation" / args.protocol)
        remark = "Only part of the items was asked (--limit)." if args.limit else ""
        result = evaluate(
            items, model, PROTOCOLS[args.protocol], out, args.data, args.model.name, args.batch_size, args.clip, remark,
            args.exchange_images,
        )  # fmt: skip
    except (OSError, ValueError, IdentifierError) as error:
        sys.exit(f"error: {error}")
    if result is not None:
        sys.stdout.write(text_table(result))
        sys.stdout.write(f"report: {out / 'index.html'}\n")


def check(args: argparse.Namespace) -> bool:
    """Write what is missing to stdout; returns whether anything is."""
    anything = False
    for name in args.benchmark:
        found, missing = benchmarks.check(name, args.data, own_codes(name, args.languages))
        anything |= bool(missing)
        sys.stdout.write(
            f"{facts()[name]['title']}: {found} items can be asked, {'nothing is missing' if not missing else 'missing:'}\n"
        )
        for entry in missing:
            sys.stdout.write(f"  {entry.code:4} {entry.kind}: {entry.what}\n")
        if missing:
            sys.stdout.write(f"  from: {facts()[name]['from']}\n")
    return anything


def own_codes(benchmark: str, languages: Sequence[str] | None) -> Sequence[str] | None:
    """Those of `languages` that the benchmark has, so that one list serves several; all of them where it has none, which reading will say."""
    if languages is None:
        return None
    return [code for code in languages if code in facts()[benchmark]["languages"]] or languages


def select(items: Sequence[Item], limit: int | None) -> list[Item]:
    """The first `limit` items of each language, all when it is None."""
    if limit is None:
        return list(items)
    counts: dict[str, int] = {}
    chosen = []
    for item in items:
        counts[item.code] = counts.get(item.code, 0) + 1
        if counts[item.code] <= limit:
            chosen.append(item)
    return chosen


def evaluate(
    items: Mapping[str, Sequence[Item]], model: Answerer, protocol: Protocol, out: Path, data: Path, name: str,
    batch_size: int = 32, clip: Path | None = None, remark: str = "", exchange_images: bool = False,
) -> dict[str, Any] | None:  # fmt: skip
    """Ask, score and report; returns what report.json holds, or None in the processes that don't score.

    With `exchange_images`, everything is asked again with other images (`chance.py`), and the answers are kept in OUT/exchanged.
    """
    state = processes()
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "format": "polyalign-evaluation/1",
        "protocol": protocol.label,
        "model": {"name": name, "fingerprint": model.fingerprint},
        "remark": remark,
        "stand_in": (data / standin.MARKER).is_file(),
        "benchmarks": {},
    }
    shown = {}
    for benchmark, asked in items.items():
        predict(benchmark, asked, model, protocol, out, batch_size, state.process_index, state.num_processes)
        others, aside = chance.exchange_images(asked) if exchange_images else [], out / "exchanged"
        if others:
            aside.mkdir(exist_ok=True)
            predict(benchmark, others, model, protocol, aside, batch_size, state.process_index, state.num_processes)
        state.wait_for_everyone()
        if not state.is_main_process:
            continue
        rows = read_predictions(benchmark, out)
        scores = score(benchmark, asked, rows, protocol, data) | {"constant": chance.constant_answer(benchmark, asked)}
        if others:
            of_others = score(benchmark, others, read_predictions(benchmark, aside), protocol, data)
            scores["exchanged"] = {code: x[scores["metric"]] for code, x in of_others["by_language"].items()}
        if clip is not None and facts()[benchmark]["task"] == "caption" and benchmark != "chair":
            for code, values in scores["by_language"].items():
                of_language = [x for x in asked if x.code == code]
                values |= refclip.score(clip, [x.images[0] for x in of_language], [rows[x.id]["output"] for x in of_language],
                                        [x.answers for x in of_language])  # fmt: skip
        result["benchmarks"][benchmark] = scores
        shown[benchmark] = report.samples(asked, rows, scores)
    if not state.is_main_process:
        return None
    for benchmark, samples in shown.items():
        files.write_json(out / f"{benchmark}.samples.json", samples)
    result["seconds"] = round(time.monotonic() - started, 1)
    for benchmark, scores in asked_before(out, result).items():
        result["benchmarks"][benchmark] = scores
        shown[benchmark] = files.read_json(out / f"{benchmark}.samples.json")
    files.write_json(out / "report.json", result)
    files.write_text(out / "report.md", report.markdown(result))
    files.write_text(out / "index.html", report.html(result, shown))
    return result


def asked_before(out: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of other benchmarks that an earlier command left in `out`, of the same model, protocol and remark: they stay in the report."""
    path = out / "report.json"
    if not path.is_file():
        return {}
    before = files.read_json(path)
    if any(before.get(key) != result[key] for key in ("format", "protocol", "model", "remark", "stand_in")):
        return {}
    return {
        name: scores
        for name, scores in before["benchmarks"].items()
        if name not in result["benchmarks"] and (out / f"{name}.samples.json").is_file()
    }


if __name__ == "__main__":
    main()
