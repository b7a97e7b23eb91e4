"""From answers to the scores of a benchmark: per language with intervals, and macro averages. A pure function of items and outputs."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from evaluation import metrics
from evaluation.benchmarks.chair import read_synonyms
from evaluation.protocols import Protocol
from evaluation.records import BenchmarkError, Item, facts, language_of
from evaluation.words import describe, split_words
from pipeline.languages import Language
from pipeline.quality.characters import column
from pipeline.quality.lid import Identifier, load_identifier
from pipeline.quality.script import script_shares

IN_TARGET_LANGUAGE = frozenset({"xflickrco", "xm3600", "maxm"})
"""Benchmarks whose answers must be in the language asked for; the others are answered in English."""
GENERATED_IN_LANGUAGE = 0.5
"""An output is in its language when the identifier gives the language and those it is confused with at least this probability."""


def score(
    name: str,
    items: Sequence[Item],
    rows: Mapping[str, Mapping[str, Any]],
    protocol: Protocol,
    data: Path | None = None,
) -> dict[str, Any]:
    """What `BENCHMARK.result.json` holds under "scores". Raises BenchmarkError when an item has no answer: no score leaves one out."""
    unanswered = [item.id for item in items if item.id not in rows]
    if unanswered:
        raise BenchmarkError(
            f"{name}: {len(unanswered)} items have no answer, first {unanswered[0]}. Run the same command again."
        )
    main = facts()[name]["metric"]
    by_language: dict[str, dict[str, Any]] = {}
    for code in dict.fromkeys(item.code for item in items):
        of_language = [item for item in items if item.code == code]
        outputs = [rows[item.id]["output"] for item in of_language]
        if name == "chair":
            if data is None:
                raise BenchmarkError("CHAIR needs --data for its synonyms.txt.")
            values: dict[str, Any] = dict(
                metrics.chair_scores(outputs, [x.answers for x in of_language], read_synonyms(data))
            )
        elif facts()[name]["task"] == "caption":
            values = _captions(of_language, outputs, protocol)
        else:
            values = _answers(name, of_language, outputs, protocol)
        if name in IN_TARGET_LANGUAGE:
            values |= _fidelity(outputs, language_of(code))
        values |= {"items": len(of_language), "most_common": metrics.most_common(outputs)}
        by_language[code] = values
    return {
        "metric": main,
        "by_language": by_language,
        "macro": metrics.macro({code: values[main] for code, values in by_language.items()}),
        "segmenters": describe([language_of(code) for code in by_language], protocol.splitting)
        if facts()[name]["task"] == "caption" and name != "chair"
        else {},
    }


def _captions(items: Sequence[Item], outputs: Sequence[str], protocol: Protocol) -> dict[str, Any]:
    language = language_of(items[0].code)
    words = [split_words(output, language, protocol.splitting) for output in outputs]
    references = [[split_words(text, language, protocol.splitting) for text in item.answers] for item in items]
    scores = metrics.caption_scores(words, references)
    interval = metrics.bootstrap(scores["cider"], [item.group for item in items])
    return {
        "cider": float(scores["cider"].mean()),
        "interval": [round(x, 2) for x in interval],
        "bleu_4": float(scores["bleu_4"][0]),
        "rouge_l": float(scores["rouge_l"].mean()),
        "chrf": metrics.chrf(outputs, [item.answers for item in items]),
        "words": float(np.mean([len(x) for x in words])),
    }


def _answers(name: str, items: Sequence[Item], outputs: Sequence[str], protocol: Protocol) -> dict[str, Any]:
    ask = protocol.asks[name]
    tidied = [metrics.tidy(output, ask.clean if ask.answer == "generate" else "strip") for output in outputs]
    exact = np.array([metrics.exact_match(x, item.answers) for x, item in zip(tidied, items, strict=True)])
    values: dict[str, Any] = {
        "interval": [round(x, 2) for x in metrics.bootstrap(exact, [item.group for item in items])],
        "relaxed": float(np.mean([metrics.relaxed_match(x, y.answers) for x, y in zip(tidied, items, strict=True)])),
    }
    if name == "pope":
        return values | metrics.yes_no_scores(tidied, [item.answers[0] for item in items])
    main = facts()[name]["metric"]
    values[main] = float(exact.mean())
    if facts()[name]["task"] == "choice":
        labels = facts()[name]["labels"]
        values["not_a_label"] = 100 * float(np.mean([x not in labels for x in tidied]))
    return values


@cache
def _identifier() -> Identifier:
    return load_identifier(None)


def _fidelity(outputs: Sequence[str], language: Language | None) -> dict[str, Any]:
    """`in_language`: % of the outputs that have letters which the identifiers put into the language or its confusable neighbours; None where
    they can't tell. `in_script`: mean % of letters in the language's script. Outputs of one to three words can hardly be identified, so on
    short answers only the script means much.
    """
    if language is None:
        return {"in_language": None, "in_script": None, "check": "unverified"}
    texts = column(list(outputs))
    contract = _identifier().resolve([language.nllb])[language.nllb]
    script = 100 * float(script_shares(texts, language.nllb).mean())
    if contract.check == "unverified":
        return {"in_language": None, "in_script": script, "check": contract.check}
    labels, values = _identifier().judge_column(texts, contract)
    judged = [
        group >= GENERATED_IN_LANGUAGE for label, group in zip(labels, values[:, 1].tolist(), strict=True) if label
    ]
    return {
        "in_language": 100 * sum(judged) / len(judged) if judged else None,
        "in_script": script,
        "check": contract.check,
    }
