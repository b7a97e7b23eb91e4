"""The flow translate-mix: from a mix file to shards and a card.

    python -m flows.translate_mix demo/mix.yaml --out runs/demo             # no server needed
    python -m flows.translate_mix demo/mix.yaml --out runs/demo --dry-run   # the plan, and nothing else
    prefect deployment run translate-mix/local                              # with a server and a worker: docs/operations.md

Stages follow one another; inside a stage the work is cut into tasks: a block of sentences of one language, a language to score, a shard to write.
Tasks get the paths of the mix and the run folder (and a block its sentences) and find everything else there, so they run in threads here, or
in processes and on other machines under another task runner. Run again, the flow goes on where it was killed; when everything is done it says
so and does nothing.
"""

import argparse
import logging
import os
import sys
from collections import Counter
from typing import Any

os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
if __name__ == "__main__":
    os.environ.setdefault(
        "PREFECT_LOGGING_LEVEL", "WARNING"
    )  # the flow tells its progress itself; a line a task would bury it

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ThreadPoolTaskRunner
from tqdm import tqdm

from data_cards.card import build_card
from data_cards.wording import images_as
from flows import scoring, steps
from flows.dry_run import dry_run
from flows.run import Run, open_run
from pipeline import files
from pipeline.languages import BY_NLLB, ENGLISH
from pipeline.processes import available_cores
from pipeline.stage import run_stage

logger = logging.getLogger("polyalign")


@task(name="translate-block", retries=2, retry_delay_seconds=3, cache_policy=NO_CACHE, persist_result=False)
def translate_block(mix: str, out: str, stage: str, language: str, keys: list[str], texts: list[str]) -> int:
    return steps.translate_block(open_run(mix, out), stage, language, keys, texts)


@task(name="score-language", cache_policy=NO_CACHE, persist_result=False)
def score_language(mix: str, out: str, language: str) -> int:
    scoring.score_language(mix, out, language)
    return 1


@task(name="write-shard", cache_policy=NO_CACHE, persist_result=False)
def write_shard(mix: str, out: str, number: int) -> int:
    steps.write_shard(open_run(mix, out), number)
    return 1


def wait(futures: dict[PrefectFuture[int], int], description: str, unit: str) -> None:
    """Wait for all futures with a progress bar that shows the rate and the time left; `futures` gives each one's share of the work. Raises what
    a task raised."""
    with tqdm(
        total=sum(futures.values()), desc=description, unit=unit, unit_scale=True, mininterval=1, file=sys.stderr
    ) as bar:
        for future in as_completed(list(futures)):
            future.result()
            bar.update(futures[future])


@flow(name="translate-mix", persist_result=False, validate_parameters=False)
def translate_mix(mix: str = "demo/mix.yaml", out: str = "runs/demo") -> dict[str, Any]:
    """Build the dataset of the mix file `mix` in the run folder `out`; returns the totals of the shards' manifest."""
    run = open_run(mix, out)
    with files.locked(run.folder):
        if not is_done(run):
            build(run, mix, out)
    return report(run)


def build(run: Run, mix: str, out: str) -> None:
    steps.write_description(run)
    for name, step in (("examples", steps.make_examples), ("plan", steps.make_plan), ("requests", steps.make_requests)):
        say(name, step(run))
    stages = run.stages()
    translate_all(run, mix, out, "translate")
    say("back_requests", steps.make_back_requests(run))
    translate_all(run, mix, out, "back_translate")
    say("score", run_stage(stages["score"], lambda _: score_all(run, mix, out)))
    say("accept", steps.make_verdicts(run))
    say("render", steps.make_samples(run))
    say("shards", run_stage(stages["shards"], lambda _: write_all_shards(run, mix, out)))
    say("card", run_stage(stages["card"], lambda stage: build_card(run.folder, stage.folder)))


def translate_all(run: Run, mix: str, out: str, stage: str) -> None:
    if not run.stages()[stage].is_done():
        while blocks := steps.open_blocks(run, stage):
            finish_timing = steps.start_timing(run, blocks) if stage == "translate" else None
            wait(
                {
                    translate_block.submit(mix, out, stage, b["language"], b["keys"], b["texts"]): sum(
                        len(t) for t in b["texts"]
                    )
                    for b in blocks
                },
                stage,
                " characters",
            )
            if finish_timing:
                finish_timing()
    say(stage, steps.collect_translations(run, stage))


def score_all(run: Run, mix: str, out: str) -> None:
    planned = Counter(steps.table(run, "plan", "plan")["language"].to_pylist())
    with scoring.processes_for(planned.total()):
        wait(
            {score_language.submit(mix, out, language): texts for language, texts in planned.items()}, "score", " texts"
        )


def write_all_shards(run: Run, mix: str, out: str) -> dict[str, Any]:
    images = {number: len(content) for number, content in steps.shard_contents(run).items()}
    wait({write_shard.submit(mix, out, number): size for number, size in images.items()}, "shards", " images")
    return steps.finish_shards(run, list(images))


def say(stage: str, did_work: bool) -> None:
    logger.info("%-14s %s", stage, "done" if did_work else "was done before")


def is_done(run: Run) -> bool:
    """True when the last stage is done, and with it all others: its key holds theirs."""
    return all(stage.is_done() for stage in run.stages().values())


def report(run: Run) -> dict[str, Any]:
    """The totals, checked once more from the files: examples in = samples out + ledger, per language."""
    plan = Counter(steps.table(run, "plan", "plan")["language"].to_pylist())
    ledger = Counter(steps.table(run, "accept", "ledger")["language"].to_pylist())
    manifest = files.read_json(run.folder / "shards" / "manifest.json")
    lines = ["language                    examples in = samples out + ledger"]
    for code in run.languages:
        samples = manifest["by_language"].get(code, 0)
        if plan[code] != samples + ledger[code]:
            raise steps.AccountingError(f"{code}: {plan[code]} in, {samples} samples + {ledger[code]} ledger rows out.")
        lines.append(f"{code}  {BY_NLLB[code].name:<18} {plan[code]:>8,} = {samples:>11,} + {ledger[code]:>6,}")
    translated = sum(1 for code in run.languages if code != ENGLISH)
    lines.append(
        f"{translated} languages and English" if translated < len(run.languages) else f"{translated} languages"
    )
    lines[-1] += f": {plan.total():,} = {manifest['samples']:,} + {ledger.total():,}"
    logger.info("\n%s", "\n".join(lines))
    logger.info("shards: %s (%s images, %s)", run.folder / "shards", f"{manifest['images']:,}", images_as(manifest))
    logger.info("card:   %s", run.folder / "card" / "index.html")
    return {
        "examples": plan.total(),
        "samples": manifest["samples"],
        "ledger": ledger.total(),
        "images": manifest["images"],
    }


def talk() -> None:
    """Show the flow's own messages on the terminal, without Prefect's decoration."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m flows.translate_mix", description="Translate an English mix, filter it, and write shards."
    )
    parser.add_argument("mix", help="the mix file (YAML)")
    parser.add_argument("--out", required=True, help="the run folder; run again with the same one to go on")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
    parser.add_argument("--workers", type=int, default=None, help="tasks at once (default: the CPU cores)")
    options = parser.parse_args(arguments)
    talk()
    try:
        run = open_run(options.mix, options.out)
        if options.dry_run:
            dry_run(run, sys.stdout.write)
            return 0
        if is_done(run):
            report(run)
            logger.info("Nothing to do: every stage of %s is done.", options.out)
            return 0
        for folder in (run.folder, run.mix.memory):
            files.check_writable(folder)
        workers = options.workers or available_cores()
        runner: Any = ThreadPoolTaskRunner(max_workers=workers)
        translate_mix.with_options(task_runner=runner)(mix=options.mix, out=options.out)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"Interrupted. Run it again with --out {options.out}, and it goes on from here.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
