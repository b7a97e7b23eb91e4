"""Ask a model all items of a benchmark, and keep every answer at once.

Answers are appended to `BENCHMARK.predictions.RANK.jsonl` and flushed batch by batch, so a killed run goes on where it was: whole lines are
kept, a half line at the end is asked again. `BENCHMARK.run.json` says what the answers belong to (protocol, model, items); answers of another
run are never mixed in. Items of like length are asked together. With several processes (accelerate), each asks every n-th item.
An image that can't be read stops nothing but its own items; at the end all such images are named in an error, and no score is given.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from evaluation.ask import Answerer
from evaluation.protocols import Ask, Protocol, labels_of
from evaluation.records import BenchmarkError, Item
from model.images import BadImage, read_image
from pipeline import files

log = logging.getLogger(__name__)

IMAGES_KEPT = 512


def items_digest(items: Sequence[Item]) -> str:
    """A change of any text, answer, language, or of the items' ids gives another digest; folders don't matter."""
    rows = [(x.id, x.code, [path.name for path in x.images], x.text, x.answers) for x in items]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()[:16]


def predict(
    name: str, items: Sequence[Item], model: Answerer, protocol: Protocol, out: Path, batch_size: int = 32,
    rank: int = 0, world: int = 1, stop_after: int | None = None,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Item id → `{"output", "prompt"}` (and `"scores"` where labels are ranked), for all items this and earlier runs have asked.

    `stop_after`: batches, for tests. Raises BenchmarkError when images can't be read, or when `out` holds answers of another run.
    """
    ask = protocol.asks[name]
    identity = {"benchmark": name, "protocol": protocol.label, "model": model.fingerprint, "items": items_digest(items)}
    check_identity(out / f"{name}.run.json", identity, write=rank == 0)
    answered = read_predictions(name, out)
    wanted = {item.id for item in items}
    if answered:
        log.info("%s: %d of %d items were answered before", name, len(answered.keys() & wanted), len(items))
    # by the item's place, not by what is left: processes start at different moments and must not disagree about who asks what
    own = [item for i, item in enumerate(items) if i % world == rank and item.id not in answered]
    prompts = {item.id: ask.prompt(item) for item in own}
    own.sort(key=lambda item: (len(item.images), len(prompts[item.id]), item.id))
    load = lru_cache(maxsize=IMAGES_KEPT)(lambda path: read_image(path, model.image_size))
    bad: dict[str, int] = {}
    path = out / f"{name}.predictions.{rank}.jsonl"
    keep_whole_lines(path)
    started, done = time.monotonic(), 0
    with open(path, "a", encoding="utf-8") as file:
        for number, batch in enumerate(batches_of(own, batch_size)):
            if stop_after is not None and number >= stop_after:
                break
            pictures, readable = [], []
            for item in batch:
                try:
                    pictures.append([load(image) for image in item.images])
                    readable.append(item)
                except BadImage as error:
                    bad[str(error)] = bad.get(str(error), 0) + 1
            if readable:
                for row in answer(name, readable, pictures, [prompts[x.id] for x in readable], model, ask):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    answered[row["id"]] = row
                file.flush()
            done += len(batch)
            if number % 20 == 19 or done == len(own):
                speed = done / (time.monotonic() - started)
                log.info(
                    "%s: %d of %d, %.1f a second, %.0f s left", name, done, len(own), speed, (len(own) - done) / speed
                )
    if bad:
        shown = "\n  ".join(sorted(bad)[:10])
        raise BenchmarkError(
            f"{name}: {len(bad)} images can't be read, {sum(bad.values())} items were not asked, and there is no score without them:\n"
            f"  {shown}\nGet these files again and run the same command: what was answered is kept."
        )
    return {key: row for key, row in answered.items() if key in wanted}


def batches_of(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """Runs of at most `size` items that have the same number of images."""
    batch: list[Item] = []
    for item in items:
        if batch and (len(batch) == size or len(batch[0].images) != len(item.images)):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def answer(
    name: str, items: Sequence[Item], pictures: Sequence[Sequence[Any]], prompts: Sequence[str], model: Answerer, ask: Ask
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of one batch."""
    rows: list[dict[str, Any]] = [
        {"id": item.id, "prompt": prompt} for item, prompt in zip(items, prompts, strict=True)
    ]
    if ask.answer == "rank":
        labels = labels_of(name)
        for row, scores in zip(rows, model.rank(pictures, prompts, labels).tolist(), strict=True):
            row["scores"] = {label: round(score, 4) for label, score in zip(labels, scores, strict=True)}
            row["output"] = max(row["scores"], key=lambda label: row["scores"][label])
    else:
        languages = [ask.target_language(item) for item in items]
        for row, output in zip(rows, model.generate(pictures, prompts, languages, ask.decoding), strict=True):
            row["output"] = output
    return rows


def check_identity(path: Path, identity: dict[str, str], write: bool = True) -> None:
    """Raises BenchmarkError when `path` belongs to another run; writes it when it is not there."""
    if path.is_file():
        before = files.read_json(path)
        changed = sorted(key for key in identity if before.get(key) != identity[key])
        if changed:
            raise BenchmarkError(
                f"{path.parent} holds answers of another run (other {', '.join(changed)}). Give another --out, or remove {path.stem.split('.')[0]}.*"
            )
    elif write:
        files.write_json(path, identity)


def read_predictions(name: str, out: Path) -> dict[str, dict[str, Any]]:
    """Item id → its row, from the files of all processes; a half line at the end of a file is left out."""
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted(out.glob(f"{name}.predictions.*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                row = json.loads(line)
            except ValueError as error:
                raise BenchmarkError(f"{path} has a damaged line ({error}). Remove the line and run again.") from error
            rows[row["id"]] = row
    return rows


def keep_whole_lines(path: Path) -> None:
    """Cut what a killed process wrote after the last line end."""
    if not path.is_file():
        return
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end != len(data):
        files.write_bytes(path, data[:end])
