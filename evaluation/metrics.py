"""Every number of a result: from outputs and references to a score, with its interval.

Metrics of captions are pycocoevalcap's (CIDEr, Vedantam et al. 2015; BLEU-4; ROUGE-L) on text that `words.py` has split, so no Java is needed, and
sacrebleu's chrF2 (Popović 2015) on the text as it is. CIDEr's document frequencies are those of the references that are scored together: one
language of one benchmark. Intervals are percentile bootstraps over groups (all questions on one image together) with a fixed seed; CIDEr's
resamples means of the items' scores with the document frequencies of the whole set.
All scores are percentages, but for CIDEr, which is times 100 as papers give it, and counts.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from sacrebleu.metrics import CHRF

from evaluation.vqa_clean import clean

RESAMPLES = 1000
SEED = 0


class Interval(NamedTuple):
    low: float
    high: float


def caption_scores(
    outputs: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> dict[str, NDArray[np.float64]]:
    """Scores of each item, float64 (items,), for `cider` (× 100) and `rouge_l` (%), and `bleu_4` of the whole (%), shape (1,).

    `outputs`: items × words; `references`: items × references × words. An empty output scores 0.
    """
    predicted = {i: [" ".join(words)] for i, words in enumerate(outputs)}
    expected = {i: [" ".join(words) for words in refs] for i, refs in enumerate(references)}
    _, cider = Cider().compute_score(expected, predicted)
    _, rouge = Rouge().compute_score(expected, predicted)
    bleu, _ = Bleu(4).compute_score(expected, predicted, verbose=0)
    return {
        "cider": 100 * np.asarray(cider, float),
        "rouge_l": 100 * np.asarray(rouge, float),
        "bleu_4": np.array([100 * bleu[3]]),
    }


def chrf(outputs: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """chrF2 of the corpus, 0 to 100 (sacrebleu's defaults). Items may have unequal numbers of references."""
    most = max(map(len, references))
    streams: list[list[str | None]] = [[refs[k] if k < len(refs) else None for refs in references] for k in range(most)]
    return float(CHRF().corpus_score(list(outputs), streams).score)  # type: ignore[arg-type]


def tidy(output: str, how: str) -> str:
    """An output as it is compared: see `protocols.Ask.clean`. In lower case, as mBLIP compares."""
    if how == "vqa":
        output = clean(output)
    elif how == "first_sentence_yes_no":
        output = pope_answer(output)
    return output.strip().lower()


def pope_answer(output: str) -> str:
    """POPE's own rule (its evaluate.py): "no" when the first sentence has the word No, no or not, else "yes"."""
    words = output.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def exact_match(output: str, answers: Sequence[str]) -> float:
    """100 when `output`, already tidied, is one of the answers up to case and outer spaces, else 0."""
    return 100.0 * (output in {answer.strip().lower() for answer in answers})


def relaxed_match(output: str, answers: Sequence[str]) -> float:
    """mBLIP's `relaxed_acc`: the output begins or ends with an answer."""
    wanted = [answer.strip().lower() for answer in answers]
    return 100.0 * any(output.startswith(answer) or output.endswith(answer) for answer in wanted)


def yes_no_scores(predicted: Sequence[str], true: Sequence[str]) -> dict[str, float]:
    """POPE's figures: accuracy, precision, recall and F1 of "yes", and how often yes is said, all %."""
    said = np.array([x == "yes" for x in predicted])
    right = np.array([x == "yes" for x in true])
    hits = int((said & right).sum())
    precision = hits / said.sum() if said.any() else 0.0
    recall = hits / right.sum() if right.any() else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    values = {
        "accuracy": (said == right).mean(),
        "precision": precision,
        "recall": recall,
        "f1_yes": f1,
        "yes_ratio": said.mean(),
    }
    return {name: 100 * float(value) for name, value in values.items()}


DOUBLE_WORDS = """motor bike, motor cycle, air plane, traffic light, street light, traffic signal, stop light, fire hydrant, stop sign,
parking meter, suit case, sports ball, baseball bat, baseball glove, tennis racket, wine glass, hot dog, cell phone, mobile phone, teddy bear,
hair drier, potted plant, laptop computer, stove top oven, home plate, train track"""
ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "animal", "cub")
PLURALS = (
    (re.compile(r"(ch|sh|ss|x)es$"), r"\1"),
    (re.compile(r"(bus)es$"), r"\1"),
    (re.compile(r"(o)es$"), r"\1"),
    (re.compile(r"([^aeiou]|qu)ies$"), r"\1y"),
    (re.compile(r"(kni|wi|li)ves$"), r"\1fe"),
    (re.compile(r"([aeo]l|ea|oa)ves$"), r"\1f"),
    (re.compile(r"(m|l)ice$"), r"\1ouse"),
    (re.compile(r"(?<![sui])s$"), ""),
)
IRREGULAR = {"men": "man", "women": "woman", "people": "person", "children": "child", "geese": "goose", "sheep": "sheep", "scissors": "scissors",
             "skis": "skis", "oxen": "ox", "glasses": "glasses"}  # fmt: skip


def singular(word: str) -> str:
    """English singular by a few rules. CHAIR's authors use pattern's `singularize`; the rules that COCO's classes need are here."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    for rule, replacement in PLURALS:
        if rule.search(word):
            return rule.sub(replacement, word)
    return word


def _double_words() -> dict[str, str]:
    doubles = {words.strip(): words.strip() for words in DOUBLE_WORDS.replace("\n", " ").split(",")}
    doubles |= {f"{age} {animal}": animal for age in ("baby", "adult") for animal in ANIMALS}
    doubles |= {f"passenger {vehicle}": vehicle for vehicle in ("jet", "train")}
    return doubles | {"bow tie": "tie", "toilet seat": "toilet", "wine glas": "wine glass"}


DOUBLES = _double_words()


def objects_in(caption: str, classes: Mapping[str, str]) -> list[str]:
    """COCO's classes that an English caption names, with repetitions, by CHAIR's rules (Rohrbach et al. 2018, utils/chair.py).

    `classes`: word → class, from the authors' synonyms.txt.
    """
    words = [singular(word) for word in re.findall(r"[a-z]+", caption.lower())]
    merged: list[str] = []
    i = 0
    while i < len(words):
        pair = " ".join(words[i : i + 2])
        merged.append(DOUBLES.get(pair, words[i]))
        i += 2 if pair in DOUBLES else 1
    if "toilet" in merged and "seat" in merged:
        merged = [word for word in merged if word != "seat"]
    return [classes[word] for word in merged if word in classes]


def chair_scores(
    captions: Sequence[str], objects: Sequence[Sequence[str]], classes: Mapping[str, str]
) -> dict[str, float]:
    """CHAIR_i: share of named objects that are not in the image; CHAIR_s: share of captions that name such a one; recall; all %."""
    named_total = wrong_total = wrong_captions = found = there_total = 0
    for caption, there in zip(captions, objects, strict=True):
        in_image = {classes.get(name, name) for name in there}
        named = objects_in(caption, classes)
        wrong = [name for name in named if name not in in_image]
        named_total += len(named)
        wrong_total += len(wrong)
        wrong_captions += bool(wrong)
        found += len(in_image & set(named))
        there_total += len(in_image)
    return {
        "chair_i": 100 * wrong_total / max(1, named_total),
        "chair_s": 100 * wrong_captions / max(1, len(captions)),
        "recall": 100 * found / max(1, there_total),
    }


def bootstrap(values: NDArray[np.float64], groups: Sequence[str], resamples: int = RESAMPLES) -> Interval:
    """95 % interval of the mean of `values` (items,), by drawing whole groups with replacement."""
    number = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    which = np.array([number[name] for name in groups])
    sums = np.bincount(which, weights=values, minlength=len(number))
    counts = np.bincount(which, minlength=len(number))
    drawn = np.random.default_rng(SEED).integers(0, len(number), size=(resamples, len(number)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(low), float(high))


def macro(scores: Mapping[str, float], english: str = "en") -> dict[str, float]:
    """Means over languages, each counting once: of all, and of all but English (None of either is not a number but absent)."""
    finite = {code: score for code, score in scores.items() if math.isfinite(score)}
    others = [score for code, score in finite.items() if code != english]
    result = {}
    if finite:
        result["all"] = float(np.mean(list(finite.values())))
    if others:
        result["without_english"] = float(np.mean(others))
    if english in finite:
        result["english"] = finite[english]
    return result


def most_common(outputs: Sequence[str]) -> dict[str, Any]:
    """The commonest output and its share in %: a model that says one thing to everything shows itself here."""
    text, times = Counter(outputs).most_common(1)[0]
    return {"text": text, "share": round(100 * times / len(outputs), 1)}
