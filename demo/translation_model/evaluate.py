"""Measure the demo translation model: chrF, script and language of its output, and int8 against float32. Writes `scores.json`.

The model is loaded by the pipeline's own engine, greedily and in int8, as the demo runs it. chrF is sacrebleu's corpus chrF over the
names that CLDR has in a language; "sample" are the names of the embedded sample, which training oversampled, and "held out" are names
that training never saw in any language. Script is judged name by name. A language can't be told from one short name, so language is
judged on ten names in a row by fastText's lid.176, within the target's group of confusable languages; the human names, judged in the
same way, show what the identifier can do. With `--card` the table in the model card is rewritten.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import TypedDict

import pyarrow.parquet as pq
import torch
from sacrebleu import CHRF
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from demo.translation_model.split import held_out_emoji, sample_emoji
from pipeline.languages import BY_NLLB, ENGLISH, LANGUAGES
from pipeline.mix import TranslationConfig
from pipeline.quality.lid import Identifier, load_identifier
from pipeline.quality.script import script_share
from pipeline.translate import Engine, load_engine

log = logging.getLogger("evaluate")

ENOUGH_NAMES = 76
"""Human names that a language needs of the sample's 152 to count in the means: half."""

NAMES_A_LINE = 10
TABLE_START, TABLE_END = "<!-- scores: begin -->", "<!-- scores: end -->"


class Scores(TypedDict):
    """One language. None: there are no human names to compare with, or the identifier has no label."""

    sample_chrf: float | None
    held_out_chrf: float | None
    sample_exact: float | None
    right_script: float
    right_language: float | None
    human_right_language: float | None
    unfinished: int


def human_names(pairs: Path) -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    """{emoji: {NLLB code: name}}, English included, and the emoji of each part."""
    table = pq.read_table(pairs)
    names: dict[str, dict[str, str]] = defaultdict(dict)
    for row in table.filter(pq.filters_to_expression([("source", "=", "cldr-annotations")])).to_pylist():
        names[row["key"]][ENGLISH] = row["english"]
        names[row["key"]][row["language"]] = row["text"]
    return names, {"sample": sample_emoji(), "held_out": held_out_emoji(table)}


def chrf(outputs: list[str], references: list[str]) -> float | None:
    return round(CHRF().corpus_score(outputs, [references]).score, 1) if references else None


def share_in_language(texts: list[str], language: str, identifier: Identifier) -> float | None:
    """The share of lines of ten texts that the identifier gives to the language's group."""
    contract = identifier.resolve([language])[language]
    if contract.label is None or not texts:
        return None
    lines = [", ".join(texts[start : start + NAMES_A_LINE]) for start in range(0, len(texts), NAMES_A_LINE)]
    return round(mean(found.label in contract.accepted for found in identifier.judge(lines, contract)), 2)


def score_language(
    language: str, engine: Engine, names: dict[str, dict[str, str]], parts: dict[str, list[str]], identifier: Identifier
) -> Scores:
    emoji = [e for part in parts.values() for e in part]
    table = engine.translate(emoji, [names[e][ENGLISH] for e in emoji], language)
    outputs = dict(zip(emoji, table["text"].to_pylist(), strict=True))
    named = {part: [e for e in members if language in names[e]] for part, members in parts.items()}
    result = {
        f"{part}_chrf": chrf([outputs[e] for e in members], [names[e][language] for e in members])
        for part, members in named.items()
    }
    own = named["sample"]
    return Scores(
        **result,
        sample_exact=round(mean(outputs[e] == names[e][language] for e in own), 3) if own else None,
        right_script=round(mean(script_share(text, language) > 0.5 for text in outputs.values()), 3),
        right_language=share_in_language(list(outputs.values()), language, identifier),
        human_right_language=share_in_language(
            [names[e][language] for e in emoji if language in names[e]], language, identifier
        ),
        unfinished=sum(status == "unfinished" for status in table["status"].to_pylist()),
    )


@torch.inference_mode()
def agreement(checkpoint: Path, engine: Engine, texts: list[str]) -> float:
    """The share of texts × languages where transformers in float32 writes the same as CTranslate2 in int8, both greedy."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, src_lang=ENGLISH)
    model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    same = []
    for language in (language.nllb for language in LANGUAGES if language.nllb != ENGLISH):
        ids = model.generate(
            **inputs, forced_bos_token_id=tokenizer.convert_tokens_to_ids(language), num_beams=1, max_new_tokens=60
        )
        theirs = tokenizer.batch_decode(ids, skip_special_tokens=True)
        ours = engine.translate(texts, texts, language)["text"].to_pylist()
        same += [a.strip() == b.strip() for a, b in zip(theirs, ours, strict=True)]
    return round(mean(same), 4)


def summary(scores: dict[str, Scores], counted: list[str]) -> dict[str, float | int]:
    def average(key: str, languages: list[str]) -> float:
        return round(mean(s[key] for s in map(scores.get, languages) if s[key] is not None), 3)

    return {
        "languages": len(scores),
        "languages_with_names": len(counted),
        "sample_chrf": average("sample_chrf", counted),
        "sample_exact": average("sample_exact", counted),
        "languages_sample_chrf_45": sum(scores[code]["sample_chrf"] >= 45 for code in counted),
        "held_out_chrf": average("held_out_chrf", counted),
        "right_script": average("right_script", list(scores)),
        "right_language": average("right_language", list(scores)),
        "human_right_language": average("human_right_language", list(scores)),
        "unfinished": sum(s["unfinished"] for s in scores.values()),
    }


def table_of(scores: dict[str, Scores]) -> str:
    def cell(value: float | None, percent: bool = False) -> str:
        return "–" if value is None else f"{100 * value:.0f} %" if percent else f"{value:.1f}"

    lines = [
        "| language | code | sample names, chrF | held-out names, chrF | right script | right language | human names |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for code, s in scores.items():
        cells = [
            BY_NLLB[code].name,
            f"`{code}`",
            cell(s["sample_chrf"]),
            cell(s["held_out_chrf"]),
            *(cell(s[key], percent=True) for key in ("right_script", "right_language", "human_right_language")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_card(card: Path, scores: dict[str, Scores]) -> None:
    before, rest = card.read_text(encoding="utf-8").split(TABLE_START)
    after = rest.split(TABLE_END)[1]
    card.write_text(f"{before}{TABLE_START}\n{table_of(scores)}\n{TABLE_END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="the int8 CTranslate2 folder")
    parser.add_argument("--checkpoint", type=Path, help="the Hugging Face folder, to compare with")
    parser.add_argument("--pairs", type=Path, required=True, help="what collect.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="scores.json")
    parser.add_argument("--card", type=Path, help="the model card whose table is rewritten")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    names, parts = human_names(arguments.pairs)
    engine = load_engine(TranslationConfig(model=str(arguments.model), beam_size=1))
    identifier = load_identifier(None, "lid176")
    scores = {
        language.nllb: score_language(language.nllb, engine, names, parts, identifier)
        for language in LANGUAGES
        if language.nllb != ENGLISH
    }
    counted = [code for code in scores if sum(code in names[e] for e in parts["sample"]) >= ENOUGH_NAMES]
    means = summary(scores, counted)
    if arguments.checkpoint:
        texts = [names[e][ENGLISH] for e in parts["sample"]]
        means["int8_agrees_with_float32"] = agreement(arguments.checkpoint, engine, texts)
    log.info("%s", json.dumps(means, indent=1))
    arguments.out.write_text(json.dumps({"means": means, "languages": scores}, indent=1) + "\n", encoding="utf-8")
    if arguments.card:
        write_card(arguments.card, scores)


if __name__ == "__main__":
    main()
