"""How a model is asked: prompts, decoding and the cleaning of answers, as named and versioned presets.

A score means nothing without its protocol, so its name and version stand in every result and are part of a run's identity. Changing anything
here needs a new version. `mblip` and `centurio` are those papers' public code (gregor-ge/mBLIP, gregor-ge/Centurio); where ours differs and why
is the table in docs/evaluation.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from evaluation.records import Item, facts, language_name, nllb_code
from model.generate import Decoding
from pipeline.languages import ENGLISH

MBLIP_NAMES = {"fa": "Farsi", "uk": "Ukranian", "pt": "Portugese"}
"""Names in mBLIP's prompts for XM3600 that are not the table's, spelt as there (data/xm3600/convert_xm3600_to_coco.py)."""


@dataclass(frozen=True)
class Ask:
    """How one benchmark is asked."""

    template: str
    """`{text}` and `{language}` are filled in."""
    decoding: Decoding = field(default_factory=Decoding)
    clean: Literal["strip", "vqa", "first_sentence_yes_no"] = "strip"
    """What is done to the output before it is compared: nothing but stripping, VQA's official cleaning, or POPE's own rule."""
    answer: Literal["generate", "rank"] = "generate"
    """`rank`: the label with the highest mean log-probability a token is the answer, and nothing is generated."""
    answers_in: Literal["English", "its language"] = "English"
    """The language that a right answer is in: a model with language tokens (NLLB's family) is told it by a token."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of languages by the benchmark's code, where they are not the table's."""

    def prompt(self, item: Item) -> str:
        return self.template.format(text=item.text, language=self.names.get(item.code) or language_name(item.code))

    def target_language(self, item: Item) -> str:
        """NLLB code of the language that the answer must be in."""
        return nllb_code(item.code) if self.answers_in == "its language" else ENGLISH


@dataclass(frozen=True)
class Protocol:
    name: str
    version: int
    asks: Mapping[str, Ask]
    splitting: Literal["paper", "all"] = "all"
    """Languages whose words are found by a segmenter: those of the paper (zh, ja, th), or all that are written without spaces."""

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"


SHORT = Decoding(beams=5, max_new_tokens=10, length_penalty=-1.0)
CAPTION = Decoding(beams=5, max_new_tokens=50)
YES_NO_MAYBE = 'Is it guaranteed true that "{text}"? Yes, no, or maybe? Answer in English:'

MBLIP = Protocol(
    "mblip",
    1,
    {
        "xgqa": Ask("Question: {text} Short answer in English:", SHORT, "vqa"),
        "xvnli": Ask(YES_NO_MAYBE, SHORT, "vqa"),
        "marvl": Ask(
            'Based on the two images, is it correct to say "{text}"? Yes or no? Answer in English:', SHORT, "vqa"
        ),
        "xflickrco": Ask("Caption in {language}: ", CAPTION, answers_in="its language"),
        "xm3600": Ask("Caption in {language}: ", CAPTION, answers_in="its language", names=MBLIP_NAMES),
        "maxm": Ask("Question: {text} Short answer in {language}:", SHORT, answers_in="its language"),
        "pope": Ask("{text}", SHORT, "first_sentence_yes_no"),
        "chair": Ask(
            "Describe the image in {language} with as much detail as possible.",
            Decoding(beams=5, max_new_tokens=256, repetition_penalty=1.5),
            answers_in="its language",
        ),
    },
    splitting="paper",
)

GREEDY_SHORT = Decoding(max_new_tokens=10, length_penalty=-1.0)
GREEDY_CAPTION = Decoding(max_new_tokens=128, repetition_penalty=1.1)

CENTURIO = Protocol(
    "centurio",
    1,
    {
        "xgqa": Ask("{text}", GREEDY_SHORT),
        "xvnli": Ask(YES_NO_MAYBE, GREEDY_SHORT),
        "marvl": Ask('Given the two images, is it correct to say "{text}"? Answer yes or no.', GREEDY_SHORT),
        "xflickrco": Ask(
            "Briefly describe the image in {language} in one sentence.", GREEDY_CAPTION, answers_in="its language"
        ),
        "xm3600": Ask(
            "Briefly describe the image in {language} in one sentence.", GREEDY_CAPTION, answers_in="its language"
        ),
        "maxm": Ask("{text}", GREEDY_SHORT, answers_in="its language"),
        "pope": Ask("{text}", GREEDY_SHORT, "first_sentence_yes_no"),
        "chair": Ask(
            "Describe the image in {language} with as much detail as possible.",
            GREEDY_CAPTION,
            answers_in="its language",
        ),
    },
    splitting="paper",
)

POLYALIGN = Protocol(
    "polyalign",
    1,
    {
        "xgqa": Ask("Question: {text} Short answer in English:", SHORT, "vqa"),
        "xvnli": Ask(YES_NO_MAYBE, answer="rank"),
        "marvl": Ask(
            'Based on the two images, is it correct to say "{text}"? Yes or no? Answer in English:', answer="rank"
        ),
        "xflickrco": Ask("Caption in {language}:", CAPTION, answers_in="its language"),
        "xm3600": Ask("Caption in {language}:", CAPTION, answers_in="its language"),
        "maxm": Ask("Question: {text} Short answer in {language}:", SHORT, answers_in="its language"),
        "pope": Ask("{text} Yes or no? Answer in English:", answer="rank"),
        "chair": Ask(
            "Describe the image in {language} with as much detail as possible.",
            Decoding(beams=5, max_new_tokens=256, repetition_penalty=1.5),
            answers_in="its language",
        ),
    },
)

PROTOCOLS = {protocol.name: protocol for protocol in (MBLIP, CENTURIO, POLYALIGN)}


def labels_of(benchmark: str) -> tuple[str, ...]:
    """The candidate answers of a benchmark of the task `choice`."""
    return tuple(facts()[benchmark]["labels"])
