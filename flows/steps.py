"""What each stage of translate-mix reads, calls and writes. One function a stage or a part of one; no Prefect here.

Tables travel between stages as Parquet in the run folder, so that a step needs nothing but the run: it can be a task on another machine, and it can
be called by hand.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flows.run import Run
from pipeline import files, requests, shards
from pipeline.corpus import CANDIDATES, LEDGER, REQUESTS, SCORES, TRANSLATIONS
from pipeline.estimate import estimate
from pipeline.languages import ENGLISH
from pipeline.memory import Memory
from pipeline.plan import overview, plan_languages
from pipeline.quality.accept import VERDICTS, accept
from pipeline.quality.release import ABOUT_REJECTED, REJECTED
from pipeline.quality.score import sample_scores, score
from pipeline.render import prompt_texts, render
from pipeline.requests import PROMPT_SOURCE, Segmenter
from pipeline.sources.images import read_image
from pipeline.sources.read import image_folders, read_examples
from pipeline.stage import run_stage

logger = logging.getLogger("polyalign")

PROBE_BEFORE_RUN = 192
"""Sentences that a run decodes to estimate its own time."""

PROMPTS = pa.schema(
    [("language", pa.string()), ("text", pa.string()), ("translation", pa.string()), ("reason", pa.string())]
)


class AccountingError(RuntimeError):
    """Examples in are not samples out + ledger rows: a bug, and no dataset."""


def table(run: Run, stage: str, name: str) -> pa.Table:
    return files.read_table(run.folder / stage / f"{name}.parquet")


def write_description(run: Run) -> None:
    """Write run.json, unless it is there as it should be."""
    path, content = run.folder / "run.json", run.describe()
    if not path.exists() or files.read_json(path) != content:
        files.write_json(path, content)


def make_examples(run: Run) -> bool:
    def build(stage: Any) -> dict[str, Any]:
        corpus = read_examples(run.mix)
        files.write_table(stage.path("examples.parquet"), corpus.examples)
        files.write_table(stage.path("given.parquet"), corpus.given)
        files.write_table(stage.path("ledger.parquet"), corpus.ledger)
        return {"records_read": corpus.counts}

    return run_stage(run.stages()["examples"], build)


def make_plan(run: Run) -> bool:
    def build(stage: Any) -> None:
        path = run.folder / "examples" / "examples.parquet"
        examples = files.read_table(path, columns=["id", "source", "group", "given"])
        plan = plan_table(run, examples, table(run, "examples", "given"))
        files.write_table(stage.path("plan.parquet"), plan)
        for line in overview(examples, plan, run.mix.languages, run.mix.sources).warnings:
            logger.warning("%s", line)

    return run_stage(run.stages()["plan"], build)


def plan_table(run: Run, examples: pa.Table, given: pa.Table) -> pa.Table:
    """The plan of these examples; it holds the plan that the mix extends, if it names one."""
    existing = files.read_table(run.mix.extends) if run.mix.extends else None
    return plan_languages(examples, run.mix.languages, run.mix.sources, given, existing)


def planned(run: Run, examples: pa.Table, plan: pa.Table, given: pa.Table) -> dict[str, list[dict[str, Any]]]:
    texts = prompt_texts(run.templates, pc.unique(examples["task"]).to_pylist())
    return requests.planned_rows(examples, plan, texts, given)


def make_requests(run: Run) -> bool:
    def build(stage: Any) -> None:
        examples, given = table(run, "examples", "examples"), table(run, "examples", "given")
        rows = planned(run, examples, table(run, "plan", "plan"), given)
        wanted = requests.wanted_sentences(rows, run.engine.key, Segmenter(), run.short_answers)
        files.write_table(stage.path("requests.parquet"), wanted)
        write_blocks(run, stage, wanted, run.memory)

    return run_stage(run.stages()["requests"], build)


def make_back_requests(run: Run) -> bool:
    """Which translations of short answers must be translated back into English."""

    def build(stage: Any) -> None:
        parts = [REQUESTS.empty_table()]
        if run.short_answers.description["back_translation"]:
            examples, given = table(run, "examples", "examples"), table(run, "examples", "given")
            rows = planned(run, examples, table(run, "plan", "plan"), given)
            segmenter = Segmenter()
            for language in requests.languages_of(table(run, "requests", "requests")):
                translations = table(run, "translate", language)
                parts.append(
                    requests.answers_to_check(
                        language, rows[language], translations, run.into_english.key, segmenter, run.short_answers
                    )
                )
        write_blocks(run, stage, pa.concat_tables(parts), run.memory_into_english)

    return run_stage(run.stages()["back_requests"], build)


def write_blocks(run: Run, stage: Any, wanted: pa.Table, memory: Memory) -> None:
    files.write_table(stage.path("requests.parquet"), wanted)
    blocks = requests.cut_blocks(requests.unanswered(wanted, memory), run.engine.block_sentences)
    files.write_table(stage.path("blocks.parquet"), blocks)


ROUNDS = {"translate": "requests", "back_translate": "back_requests"}
"""Stages that translate, and the stage that says what."""


def memory_of(run: Run, stage: str) -> Memory:
    return run.memory_into_english if stage == "back_translate" else run.memory


def open_blocks(run: Run, stage: str) -> list[dict[str, Any]]:
    """The blocks of `translate` or `back_translate` that are not in the memory yet. Those that were planned first; when all of them are there,
    whatever is still unanswered because the memory was damaged or removed."""
    memory = memory_of(run, stage)
    if blocks := requests.unfinished_blocks(table(run, ROUNDS[stage], "blocks"), memory):
        return blocks
    missing = requests.unanswered(table(run, ROUNDS[stage], "requests"), memory)
    return requests.cut_blocks(missing, run.engine.block_sentences).to_pylist()


def translate_block(run: Run, stage: str, language: str, keys: list[str], texts: list[str]) -> int:
    """Translate one block into the memory; returns its sentences."""
    engine = run.into_english if stage == "back_translate" else run.engine
    memory_of(run, stage).add(language, engine.translate(keys, texts, language))
    return len(keys)


def collect_translations(run: Run, stage: str) -> bool:
    """Take the run's translations out of the memory, so that the run folder is whole by itself."""

    def build(target: Any) -> None:
        wanted = table(run, ROUNDS[stage], "requests")
        for language in requests.languages_of(wanted):
            mine = wanted.filter(pc.equal(wanted["language"], language))
            files.write_table(target.path(f"{language}.parquet"), memory_of(run, stage).lookup(language, mine["key"]))

    return run_stage(run.stages()[stage], build)


TIMING = "timing.json"


def start_timing(run: Run, blocks: list[dict[str, Any]]) -> Callable[[], None]:
    """Estimate what `blocks` will cost, and return what to call when they are done: it records the estimate beside the truth, for the next
    dry run. No stage reads this file. Little work is not estimated: the probe would cost a good part of it, again at each start."""
    rows = [
        {"key": k, "language": b["language"], "text": t}
        for b in blocks
        for k, t in zip(b["keys"], b["texts"], strict=True)
    ]
    expected = None
    if len(rows) >= 50 * PROBE_BEFORE_RUN:
        cost = estimate(run.engine, pa.Table.from_pylist(rows, schema=REQUESTS), PROBE_BEFORE_RUN)
        expected = round(cost.seconds, 1)
        logger.info("translate %s sentences; about %.0f s", f"{len(rows):,}", expected)
    start = time.monotonic()

    def finish() -> None:
        spent = time.monotonic() - start
        content = {"sentences": len(rows), "seconds": round(spent, 1), "estimated_seconds": expected}
        files.write_json(run.folder / TIMING, content)

    return finish


def translation_time(run: Run) -> dict[str, Any] | None:
    """What the last translation in this run folder took, and what had been estimated; None if there was none."""
    path = run.folder / TIMING
    return files.read_json(path) if path.exists() else None


def languages_planned(run: Run) -> list[str]:
    return list(dict.fromkeys(table(run, "plan", "plan")["language"].to_pylist()))


def score_language(run: Run, language: str) -> None:
    """Rebuild the fields of one language and score them; what is there already stays."""
    folder = run.folder / "score"
    scores_path = folder / f"scores-{language}.parquet"
    if scores_path.exists():
        return
    plan = table(run, "plan", "plan")
    mine = plan.filter(pc.equal(plan["language"], language))
    rows = planned(run, table(run, "examples", "examples"), mine, table(run, "examples", "given"))[language]
    translations = table(run, "translate", language) if language != ENGLISH else TRANSLATIONS.empty_table()
    has_back = (run.folder / "back_translate" / f"{language}.parquet").exists()
    back = table(run, "back_translate", language) if has_back else None
    candidates = requests.translated_fields(language, rows, translations, Segmenter(), run.short_answers, back)
    files.write_table(folder / f"candidates-{language}.parquet", candidates)
    files.write_table(scores_path, score(candidates, run.identifier, run.contracts))


def read_scored(run: Run, kind: str, schema: pa.Schema) -> pa.Table:
    """All languages' candidates or scores, in the order of the plan."""
    parts = [table(run, "score", f"{kind}-{language}") for language in languages_planned(run)]
    return pa.concat_tables(parts) if parts else schema.empty_table()


def make_verdicts(run: Run) -> bool:
    """Judge by the policy: verdicts of all planned texts, the ledger, and the prompts that may be used."""

    def build(stage: Any) -> None:
        candidates, scores = read_scored(run, "candidates", CANDIDATES), read_scored(run, "scores", SCORES)
        judged = accept(scores, run.contracts, run.policy, run.readmitted)
        place = pc.index_in(
            candidates["id"], value_set=judged["id"].combine_chunks()
        )  # English has no scores: accepted
        reason, detail = (pc.fill_null(judged[name].take(place), "") for name in ("reason", "detail"))
        is_prompt = pc.equal(candidates["source"], PROMPT_SOURCE)
        is_rejected = pc.and_(pc.invert(is_prompt), pc.not_equal(reason, ""))
        verdicts = pa.table([candidates["id"], reason, detail], schema=VERDICTS).filter(pc.invert(is_prompt))
        of_rejected = pc.is_in(scores["id"], value_set=candidates["id"].filter(is_rejected).combine_chunks())
        scores_of = scores_by_sample(scores.filter(of_rejected))
        judged_candidates = candidates.append_column("reason", reason).append_column("detail", detail)
        ledger = [
            {**c, "stage": "accept", "scores": scores_of.get(c["id"])}
            for c in judged_candidates.filter(is_rejected)
            .select([x for x in LEDGER.names if x not in ("stage", "scores")])
            .to_pylist()
        ]
        prompts = [
            {
                "language": c["language"],
                "text": c["fields"][0]["source"],
                "translation": c["fields"][0]["text"],
                "reason": c["reason"],
            }
            for c in judged_candidates.filter(is_prompt).to_pylist()
        ]
        files.write_table(stage.path("verdicts.parquet"), verdicts)
        files.write_table(stage.path("ledger.parquet"), pa.Table.from_pylist(ledger, schema=LEDGER))
        files.write_table(stage.path("prompts.parquet"), pa.Table.from_pylist(prompts, schema=PROMPTS))

    return run_stage(run.stages()["accept"], build)


def scores_by_sample(scores: pa.Table) -> dict[str, dict[str, Any] | None]:
    """Scores of each sample: the worst of its fields'."""
    worst = sample_scores(scores)
    return dict(zip(worst["id"].to_pylist(), worst["scores"].to_pylist(), strict=True))


def make_samples(run: Run) -> bool:
    def build(stage: Any) -> None:
        candidates = read_scored(run, "candidates", CANDIDATES)
        verdicts = table(run, "accept", "verdicts")
        kept = verdicts.filter(pc.equal(verdicts["reason"], ""))["id"]
        accepted = candidates.filter(pc.is_in(candidates["id"], value_set=kept.combine_chunks()))
        examples = table(run, "examples", "examples").select(["id", "image", "image_sha256"]).to_pylist()
        prompts: dict[str, dict[str, str]] = {}
        for row in table(run, "accept", "prompts").to_pylist():
            if not row["reason"]:
                prompts.setdefault(row["language"], {})[row["text"]] = row["translation"]
        samples = render(
            accepted,
            {e["id"]: (e["image"], e["image_sha256"]) for e in examples},
            scores_by_sample(read_scored(run, "scores", SCORES)),
            prompts,
            run.templates,
            run.mix.prompts.translated,
        )
        check_sum(table(run, "plan", "plan"), samples, table(run, "accept", "ledger"))
        files.write_table(stage.path("samples.parquet"), samples)

    return run_stage(run.stages()["render"], build)


def check_sum(plan: pa.Table, samples: pa.Table, ledger: pa.Table) -> None:
    """Examples in = samples out + ledger rows, in every language. Raises AccountingError."""
    count = [Counter(t["language"].to_pylist()) for t in (plan, samples, ledger)]
    for language, wanted in count[0].items():
        if wanted != count[1][language] + count[2][language]:
            raise AccountingError(
                f"{language}: {wanted} examples in, but {count[1][language]} samples + {count[2][language]} ledger rows out. "
                "This is a bug in the pipeline; please report it with the run folder's run.json."
            )


def shard_contents(run: Run) -> dict[int, list[shards.ImageWithTexts]]:
    """What goes into each shard that gets anything."""
    return _shard_contents(run.folder, run.stages()["render"].key, run.mix.shards.count)


@lru_cache(maxsize=1)
def _shard_contents(folder: Path, render_key: str, count: int) -> dict[int, list[shards.ImageWithTexts]]:
    samples, examples = (
        files.read_table(folder / name) for name in ("render/samples.parquet", "examples/examples.parquet")
    )
    return {number: content for number, content in shards.group_by_shard(samples, examples, count).items() if content}


def write_shard(run: Run, number: int) -> None:
    """Write one tar and its part of the index; what is there already stays."""
    folder = run.folder / "shards"
    part = folder / "index" / f"{shards.shard_name(number)}.parquet"
    if part.exists():
        return
    folders = image_folders(run.mix)

    def read(image: dict[str, Any]) -> bytes:
        source_folder = folders[image["source"]]
        data = read_image(source_folder, image["image"])
        shards.check_bytes(data, image["image_sha256"], source_folder / image["image"])
        return data

    path, content = folder / shards.shard_name(number), shard_contents(run)[number]
    files.write_table(part, shards.write_shard(path, content, read, run.mix.shards.images))


def write_rejected(run: Run) -> None:
    """Publish the ledger beside the data: everything that is not in the shards, with its text, scores and first reason."""
    rejected = pa.concat_tables([table(run, "accept", "ledger"), table(run, "examples", "ledger")])
    path = run.folder / "shards" / REJECTED
    files.write_table(path, rejected)
    files.write_text(path.with_name("README.md"), ABOUT_REJECTED.format(rows=f"{rejected.num_rows:,}"))


def finish_shards(run: Run, numbers: list[int]) -> dict[str, Any]:
    """Join the parts of the index and count; returns what the shards' manifest says beside its files."""
    folder = run.folder / "shards"
    paths = [folder / "index" / f"{shards.shard_name(n)}.parquet" for n in sorted(numbers)]
    index = shards.write_index(folder, [files.read_table(p) for p in paths])
    for path in paths:
        path.unlink()
    if paths:
        (folder / "index").rmdir()
    write_rejected(run)
    samples = table(run, "render", "samples")
    description = shards.describe_shards(folder, run.mix.name, index, samples, run.mix.shards.images)
    return {**description, "translation_model": run.describe()["translation_model"]}
