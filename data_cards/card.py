"""`build_card`: from a finished run folder to the three files that people and catalogues read.

The tables are read once, counted (`tally`), a few samples are drawn (`choose`), their pictures shrunk (`pictures`),
and two Jinja templates are filled. Texts of the dataset are hostile input here: the HTML template escapes everything,
and each text carries its own `lang` and `dir` and is isolated, so that an Arabic caption can't reorder the English
around it.
"""

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.compute as pc

from data_cards import choose, croissant, front_matter, licences, wording
from data_cards.answers import WAY_MEANING, count_answers
from data_cards.pictures import Pictures, data_uri
from data_cards.tally import LanguageCount, Tally, UnbalancedRun, count_run
from pipeline import corpus, files
from pipeline.languages import BY_NLLB, ENGLISH
from pipeline.short_answers import KEPT_ENGLISH

log = logging.getLogger(__name__)

VERSION = 4
"""Raise it when the card of the same run changes: the flow then writes the card again."""

SAMPLES_SHOWN = 4
"""Of each language."""
REJECTED_SHOWN = 2
"""Of each language; the section of the filter shows as many more of each reason."""
REJECTED_SHOWN_BY_REASON = 6
HERO_LANGUAGES = 20
PICTURE_BUDGET = 1_400_000
"""Bytes of all small pictures together. Texts of 96 languages are about 1 MB; a page under 3 MB opens at once and
fits in a mail."""
HERO_PIXELS = 560
CHARACTERS_SHOWN = 420
"""A longer text is cut on the page, with an ellipsis; the dataset has the whole."""
REJECTED_CHARACTERS_SHOWN = 160
"""Of each field of a rejected text: a loop is recognised at once."""
CREDITS_SHOWN = 12
"""Of each licence of each source."""

TASK_MEANING = {
    "captioning": "asked for a caption → the caption",
    "vqa": "a question about the picture → the answer",
    "question_generation": "an answer → a question that it answers",
    "instruction": "the conversation so far → the next response",
    "reasoning": "a question → the answer and why",
    "matching": "is this caption true? → yes or no",
}
CHECK_MEANING = {
    "checked": "the identifier tells this language from all others",
    "group": "the identifier can only tell its group of confusable languages",
    "unverified": "the identifier does not know this language: its texts were only told from English",
}


@dataclass(frozen=True)
class Run:
    """What is read from a run folder."""

    facts: dict[str, Any]
    """run.json"""
    examples: pa.Table
    unusable: pa.Table
    records_read: dict[str, int]
    plan: pa.Table
    samples: pa.Table
    ledger: pa.Table
    manifest: dict[str, Any]
    index: pa.Table
    shards: Path

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Raises FileNotFoundError that names what the run has not finished."""
        shards = folder / "shards"
        if not (shards / "manifest.json").exists():
            raise FileNotFoundError(
                f"{shards / 'manifest.json'} is missing: this run is not finished. Run the flow again."
            )
        manifest = files.read_json(shards / "manifest.json")
        return cls(
            facts=files.read_json(folder / "run.json"),
            examples=files.read_table(folder / "examples" / "examples.parquet"),
            unusable=files.read_table(folder / "examples" / "ledger.parquet"),
            records_read=files.read_json(folder / "examples" / "manifest.json")["records_read"],
            plan=files.read_table(folder / "plan" / "plan.parquet", columns=["example", "language"]),
            samples=files.read_table(folder / "render" / "samples.parquet"),
            ledger=files.read_table(folder / "accept" / "ledger.parquet"),
            manifest=manifest,
            index=files.read_table(shards / manifest["index"]["file"]),
            shards=shards,
        )


def build_card(run: Path, out: Path) -> None:
    """Write `README.md`, `index.html` and `croissant.json` of the run folder `run` into `out`.

    Raises UnbalancedRun when planned texts are not samples + ledger rows; then only `index.html` is written, with the
    alarm on top, so that nothing publishable comes out of a run that lost something.
    """
    data = Run.read(run)
    tally = count_run(
        data.examples, data.unusable, data.plan, data.samples, data.ledger, data.manifest, data.records_read
    )
    view = _view(data, tally)
    environment = _environment()
    files.write_text(out / "index.html", environment.get_template("index.html.j2").render(view))
    if not tally.balanced:
        for name in ("README.md", "croissant.json"):  # of an earlier, good run
            (out / name).unlink(missing_ok=True)
        raise UnbalancedRun(
            f"{run} does not add up, so it gets no card ({out / 'index.html'} shows where): "
            + "; ".join(tally.faults[:5])
        )
    files.write_text(out / "README.md", environment.get_template("README.md.j2").render(view))
    files.write_json(
        out / "croissant.json",
        croissant.describe(
            data.manifest,
            view["summary"],
            [licences.link(part) or part for part in view["licence_parts"]],
            view["tags"],
            view["extensions"],
            (data.shards / data.manifest["index"]["file"]).stat().st_size,
        ),
    )
    log.info("card of %s: %d languages, %d samples, all accounted for", view["name"], len(tally.languages), tally.kept)


def _view(data: Run, tally: Tally) -> dict[str, Any]:
    """Everything that the templates show."""
    facts, model = data.facts, data.facts["translation_model"]
    source_licences = _source_licences(data.examples)
    all_licences = sorted({row["licence"] for row in source_licences})
    licence = licences.inherit(model["licence"], all_licences)
    extensions = sorted(set(data.index["extension"].to_pylist()))
    checks = {code: (check["check"], check["detail"]) for code, check in facts["languages"].items()}
    checks[ENGLISH] = ("original", "not translated")
    written = set(data.samples["prompt_language"].to_pylist()) | set(data.samples["target_language"].to_pylist())
    shown = _draw(data, tally)
    view: dict[str, Any] = {
        "name": facts["name"],
        "description": facts["mix"]["description"],
        "tally": tally,
        "first_language": next((x.language for x in tally.languages if x.language != ENGLISH), ENGLISH),
        "languages": [_language(row, *checks[row.language]) for row in tally.languages],
        "reason_class": {reason: f"r{min(position, 6)}" for position, reason in enumerate(tally.reasons)},
        "checks": Counter(checks[row.language][0] for row in tally.languages),
        "check_meaning": CHECK_MEANING,
        "task_meaning": TASK_MEANING,
        "policy": _flatten(facts["policy"]),
        "model": model,
        "identifier": facts["identifier"],
        "key": data.manifest["key"],
        "versions": facts["versions"],
        "prompts_translated": pc.sum(
            pc.and_(
                pc.equal(data.samples["prompt_language"], data.samples["language"]),
                pc.not_equal(data.samples["language"], ENGLISH),
            )
        ).as_py()
        or 0,
        "answers": count_answers(data.samples, data.ledger),
        "way_meaning": WAY_MEANING,
        "short_answers": facts["short_answers"],
        "source_licences": source_licences,
        "licence": licence,
        "licence_parts": sorted({part for text in [model["licence"], *all_licences] for part in licences.split(text)}),
        "shard_count": len(data.manifest["shards"]),
        "shard_bytes": sum(shard["bytes"] for shard in data.manifest["shards"]),
        "images_as": wording.images_as(data.manifest),
        "brace": wording.brace([shard["file"] for shard in data.manifest["shards"]]),
        "extensions": extensions,
        "tags": [BY_NLLB[code].tag for code in sorted(written, key=lambda code: BY_NLLB[code].tag)],
        **shown,
    }
    view["summary"] = _summary(view)
    view["front_matter"] = front_matter.describe(view, data.samples.schema)
    return view


def _language(row: LanguageCount, check: str, detail: str) -> dict[str, Any]:
    language = BY_NLLB[row.language]
    return {
        "code": row.language,
        "tag": language.tag,
        "name": language.name,
        "own_name": language.own_name,
        "script": language.script,
        "direction": language.direction,
        "count": row,
        "check": check,
        "check_detail": detail,
    }


def _draw(data: Run, tally: Tally) -> dict[str, Any]:
    """The samples on the page and their pictures."""
    pictures = Pictures(data.shards, data.index)
    accepted = choose.draw_for_each(data.samples, "language", SAMPLES_SHOWN, kind="task")

    # A rejected text has a picture on the page when its image is in the shards, with another text; those that have
    # one come first.
    image_of = dict(zip(data.examples["id"].to_pylist(), data.examples["image_sha256"].to_pylist(), strict=True))
    images = [image_of.get(example) for example in data.ledger["example"].to_pylist()]
    ledger = data.ledger.append_column("image_sha256", pa.array(images, pa.string()))
    pictured = ledger.filter(pa.array([image is not None and image in pictures for image in images], pa.bool_()))
    rejected = choose.draw_for_each(pictured, "language", REJECTED_SHOWN, kind="reason")
    rejected |= {
        language: rows
        for language, rows in choose.draw_for_each(ledger, "language", REJECTED_SHOWN, kind="reason").items()
        if language not in rejected
    }
    by_reason = choose.draw_for_each(pictured, "reason", REJECTED_SHOWN_BY_REASON, kind="language")
    hero = choose.most_translated(data.samples, HERO_LANGUAGES, lambda code: BY_NLLB[code].script)

    rows = [row for group in (*accepted.values(), *rejected.values(), *by_reason.values()) for row in group]
    wanted = sorted({row["image_sha256"] for row in rows if row["image_sha256"] and row["image_sha256"] in pictures})
    return {
        "accepted": {language: [_sample(row) for row in rows] for language, rows in accepted.items()},
        "rejected": {language: [_rejected(row) for row in rows] for language, rows in rejected.items()},
        "rejected_by_reason": {
            reason: [_rejected(row) for row in by_reason.get(reason, [])] for reason in tally.reasons
        },
        "hero": [_sample(row) for row in hero] if len(hero) >= 3 else [],
        "hero_picture": data_uri(pictures.read(hero[0]["image_sha256"]), HERO_PIXELS) if len(hero) >= 3 else "",
        "pictures": {sha256[:12]: uri for sha256, uri in pictures.thumbnails(wanted, PICTURE_BUDGET).items()},
    }


def _text(text: str, code: str, longest: int = CHARACTERS_SHOWN) -> dict[str, str]:
    """A text with what a browser must know to set it."""
    language = BY_NLLB[code]
    cut = text if len(text) <= longest else text[:longest].rstrip() + " …"
    return {
        "text": cut,
        "tag": language.tag,
        "direction": language.direction,
        "name": language.name,
        "own_name": language.own_name,
    }


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "task": row["task"],
        "template": row["template"],
        "picture": row["image_sha256"][:12],
        "prompt": _text(row["prompt"], row["prompt_language"]),
        "target": _text(row["target"], row["target_language"]),
        "english": _text(row["english"] or "", ENGLISH),
        "translated": row["language"] != ENGLISH,
    }


def _rejected(row: dict[str, Any]) -> dict[str, Any]:
    scores = {name: value for name, value in (row["scores"] or {}).items() if value is not None}
    return {
        "id": row["id"],
        "task": row["task"],
        "reason": row["reason"],
        "detail": row["detail"] or "",
        "scores": scores,
        "picture": (row["image_sha256"] or "")[:12],
        "language": BY_NLLB[row["language"]].name,
        "fields": [
            {
                "role": field["role"],
                "source": _text(field["source"] or "", ENGLISH, REJECTED_CHARACTERS_SHOWN),
                "text": _text(
                    field["text"] or "",
                    ENGLISH if field["origin"] == KEPT_ENGLISH else row["language"],
                    REJECTED_CHARACTERS_SHOWN,
                ),
            }
            for field in row["fields"] or []
            if field["role"] not in corpus.UNTRANSLATED_ROLES
        ],
    }


def _source_licences(examples: pa.Table) -> list[dict[str, Any]]:
    """The sources' parts by licence, most examples first, each with whom to credit. Credits can be as many as images, so
    only the most frequent are named here; every image's JSON has its own."""
    table = examples.group_by(["source", "licence", "credit"]).aggregate([([], "count_all")])
    parts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in table.to_pylist():
        parts[row["source"], row["licence"]][row["credit"] or ""] += row["count_all"]
    rows = []
    for (source, licence), credits in parts.items():
        named = [credit for credit, _ in sorted(credits.items(), key=lambda item: (-item[1], item[0])) if credit]
        more = len(named) - CREDITS_SHOWN
        credit = "; ".join(named[:CREDITS_SHOWN]) + (f"; and {more:,} more" if more > 0 else "")
        rows.append({"source": source, "licence": licence, "credit": credit, "examples": credits.total()})
    return sorted(rows, key=lambda row: (row["source"], -row["examples"], row["licence"]))


def _flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, inner in sorted(value.items()):
        if isinstance(inner, dict):
            flat |= _flatten(inner, f"{prefix}{name} · ")
        else:
            flat[prefix + name] = inner
    return flat


def _summary(view: dict[str, Any]) -> str:
    tally, model = view["tally"], view["model"]
    translated = sum(row.language != ENGLISH for row in tally.languages)
    languages = f"{translated} languages" + (" and English" if translated < len(tally.languages) else "")
    return (
        f"{tally.kept:,} texts about {tally.images:,} images in {languages}: prompts and targets "
        f"for training vision-language models, made from {tally.examples:,} English examples by machine translation "
        f"with {model['name']}. "
        f"Of {tally.planned:,} planned texts the quality filter kept {wording.percent(tally.kept, tally.planned)}; "
        f"the other {tally.turned_away:,} are in a ledger with their reasons."
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": wording.percent,
        "number": wording.number,
        "readable": wording.readable,
        "size": wording.size,
        "markdown": wording.markdown,
        "licence_link": licences.link,
    }
    return environment
