"""What a score is worth: what the same model gets with other images, and what one answer to everything gets.

A model that does not look at its images scores the same with others', and accuracy on yes-or-no questions begins at a half. Both figures stand
beside every score of a report that has them; neither is a baseline of any paper.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from evaluation import metrics
from evaluation.records import BenchmarkError, Item, facts


def exchange_images(items: Sequence[Item]) -> list[Item]:
    """The same items, each with the images of another of its language, half-way round the language's list of images.

    No item keeps its own images, questions on one image keep company, and every image is used as often as there are questions on its
    predecessor. Half-way rather than next, since neighbours in a benchmark's file are often alike (MaRVL's are about one concept). Raises
    BenchmarkError for a language with one image only.
    """
    images_of: dict[str, dict[tuple[Path, ...], int]] = {}
    for item in items:
        images_of.setdefault(item.code, {}).setdefault(item.images, len(images_of[item.code]))
    for code, numbers in images_of.items():
        if len(numbers) < 2:
            raise BenchmarkError(f"{code} has one image only, and none to exchange it with: ask more items.")
    ordered = {code: list(numbers) for code, numbers in images_of.items()}
    exchanged = []
    for item in items:
        images = ordered[item.code]
        other = images[(images_of[item.code][item.images] + len(images) // 2) % len(images)]
        exchanged.append(dataclasses.replace(item, images=other))
    return exchanged


def constant_answer(name: str, items: Sequence[Item]) -> dict[str, float]:
    """By language, the benchmark's score of the one answer that does best when it is given to everything; empty for captions."""
    if facts()[name]["task"] == "caption":
        return {}
    by_language: dict[str, list[Item]] = {}
    for item in items:
        by_language.setdefault(item.code, []).append(item)
    return {code: _best_constant(name, of) for code, of in by_language.items()}


def _best_constant(name: str, items: Sequence[Item]) -> float:
    if facts()[name]["metric"] == "f1_yes":
        true = [item.answers[0] for item in items]
        return max(metrics.yes_no_scores([label] * len(true), true)["f1_yes"] for label in ("yes", "no"))
    accepted: dict[str, int] = {}
    for item in items:
        for answer in {answer.strip().lower() for answer in item.answers}:
            accepted[answer] = accepted.get(answer, 0) + 1
    return 100 * max(accepted.values()) / len(items)
