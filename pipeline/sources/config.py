"""What the mix file may say about a source: the options that all readers share, and those of each reader.

Paths are relative to the mix file. An option that a reader does not have is an error, so that a misspelt one can't be lost.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Role = Literal["caption", "question", "answer", "rationale", "instruction", "response", "object", "label"]
ColumnTask = Literal[
    "captioning",
    "vqa",
    "question_generation",
    "instruction",
    "reasoning",
    "explanation",
    "matching",
    "classification",
    "object_presence",
]


class Section(BaseModel):
    """A part of the mix file. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NounPhrases(Section):
    """Balanced selection of captions by their noun phrases, as mBLIP did for Web CapFilt."""

    min: Annotated[int, Field(ge=1)] = 10
    """A phrase in fewer captions chooses none: it is rare, or a mistake."""
    max: Annotated[int, Field(ge=1)] = 30
    """Captions that a phrase chooses at most."""

    @model_validator(mode="after")
    def _ordered(self) -> "NounPhrases":
        if self.min > self.max:
            raise ValueError(f"min is {self.min} and max is {self.max}; min can't be the greater")
        return self


class SourceLanguages(Section):
    """What a source does otherwise than the mix's `languages`. What is not named stays as it is there."""

    shares: Literal["mc4", "mt5", "uniform"] | None = None
    exponent: Annotated[float, Field(ge=0, le=1)] | None = None
    per_example: Annotated[int, Field(gt=0)] | Literal["all"] | None = None
    english: Annotated[float, Field(ge=0, le=1)] | None = None


class SourceConfig(Section):
    """One English dataset: the options that every reader has."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    """Short name; the first part of every example id."""
    reader: str
    """Which file of `pipeline/sources/` reads it."""
    path: Path
    images: Path | None = None
    """Folder that image paths are relative to; by default the folder of `path`."""
    licence: str | None = None
    """Licence of records that name none."""
    credit: str = ""
    """Whom the card credits for records that name nobody."""
    limit: Annotated[int, Field(gt=0)] | None = None
    """Use this many examples at most: those with the smallest hash of their id, so that growth of the source moves few."""
    weight: Annotated[float, Field(ge=0)] = 1.0
    """How many planned texts an example gives, in units of `per_example`: 0.5 uses half of the examples, 2 puts each into twice the languages."""
    languages: Literal["english"] | SourceLanguages | None = None
    """`english`: its examples stay English. Or what is otherwise than in the mix's `languages`."""
    duplicates: Literal["keep", "exact", "near"] = "keep"
    """Which examples are left out because another one of the task says the same: `exact` ignores case, spaces and punctuation, `near` compares
    the sets of content words."""
    duplicates_within: Literal["image", "source"] = "image"
    """Where the other one stands: with the same image, or anywhere in the source."""
    noun_phrases: NounPhrases | None = None
    """Select captions by their noun phrases."""

    other_paths: ClassVar[tuple[str, ...]] = ()
    """Names of the options beside `path` that are files to read."""

    @property
    def image_folder(self) -> Path:
        return self.images if self.images is not None else self.path.parent

    @property
    def files(self) -> tuple[Path, ...]:
        """Files and folders that decide what the reader yields."""
        paths = [getattr(self, option) for option in ("path", *self.other_paths)]
        return tuple(p for p in paths if p is not None)

    def relative_to(self, folder: Path) -> "SourceConfig":
        """The same with its paths below `folder`."""
        options = ("path", "images", *self.other_paths)
        values = {option: getattr(self, option) for option in options}
        return self.model_copy(update={k: None if v is None else folder / v for k, v in values.items()})


class JsonlSource(SourceConfig):
    """`jsonl.py`: one example a line."""

    reader: Literal["jsonl"] = "jsonl"


class CsvSource(SourceConfig):
    """`csv_table.py`: one example a row."""

    reader: Literal["csv"]
    task: ColumnTask = "captioning"
    columns: dict[Role | Literal["image", "id", "licence", "credit"], str] = {}
    """Column names by role, and those of `image`, `id`, `licence` and `credit`; by default columns are called like the role."""


class CocoKarpathySource(SourceConfig):
    """`coco_karpathy.py`: `dataset_coco.json` (also those of Flickr8k and Flickr30k)."""

    reader: Literal["coco_karpathy"]
    splits: list[Literal["train", "restval", "val", "test"]] = ["train"]


class CocoCaptionsSource(SourceConfig):
    """`coco_captions.py`: the official `captions_train2014.json` or 2017."""

    reader: Literal["coco_captions"]


class CapFiltSource(SourceConfig):
    """`capfilt.py`: BLIP's `ccs_synthetic_filtered_large.json`. `images`: the output folder of img2dataset."""

    reader: Literal["capfilt"]
    other_paths: ClassVar[tuple[str, ...]] = ("images",)

    @model_validator(mode="after")
    def _has_images(self) -> "CapFiltSource":
        if self.images is None:
            raise ValueError("`images` is missing: the folder into which img2dataset downloaded (docs/sources.md)")
        return self


class LlavaSource(SourceConfig):
    """`llava.py`: any file of LLaVA-Instruct."""

    reader: Literal["llava"]
    image_name: str | None = None
    """Path of an image by its COCO id, such as `train2014/COCO_train2014_{id:012d}.jpg`; by default the record's `image`."""
    turns: Literal["together", "single"] = "together"
    """`together`: a conversation is one example. `single`: each question with its answer is one, as in mBLIP."""
    max_sentences: Annotated[int, Field(gt=0)] | None = None
    """Leave out answers with more full stops than this, as mBLIP did with 3; only with `turns: single`."""

    @model_validator(mode="after")
    def _single(self) -> "LlavaSource":
        if self.max_sentences is not None and self.turns != "single":
            raise ValueError(
                "`max_sentences` needs `turns: single`: cutting answers out of a conversation would break it"
            )
        return self


class Vqav2Source(SourceConfig):
    """`vqav2.py`: a questions file with its annotations."""

    reader: Literal["vqav2"]
    annotations: Path
    tasks: Annotated[list[Literal["vqa", "question_generation"]], Field(min_length=1)] = ["vqa"]
    image_name: str = "train2014/COCO_train2014_{id:012d}.jpg"
    """Path of an image by its COCO id."""
    other_paths: ClassVar[tuple[str, ...]] = ("annotations",)


class AokvqaSource(SourceConfig):
    """`aokvqa.py`: `aokvqa_v1p0_train.json`."""

    reader: Literal["aokvqa"]
    tasks: Annotated[list[Literal["reasoning", "explanation", "vqa"]], Field(min_length=1)] = ["reasoning"]
    image_name: str = "train2017/{id:012d}.jpg"
    """Path of an image by its COCO id."""


class ImagenetSource(SourceConfig):
    """`imagenet.py`: ImageNet's folders of synsets with the names of Babel-ImageNet. `path`: the folder of synsets."""

    reader: Literal["imagenet"]
    labels: Path
    """Babel-ImageNet's `babel_imagenet.json` or `babel_imagenet-298.json`."""
    classes: Path
    """`imagenet_class_index.json`: synset and English name by class number."""
    tasks: Annotated[list[Literal["classification", "object_presence"]], Field(min_length=1)] = ["classification"]
    per_class: Annotated[int, Field(gt=0)] | None = None
    """Images of each class and task at most: those with the smallest hash."""
    other_paths: ClassVar[tuple[str, ...]] = ("labels", "classes")

    @property
    def image_folder(self) -> Path:
        return self.images if self.images is not None else self.path


class DatasetsSource(SourceConfig):
    """`hub.py`: anything that `datasets.load_dataset` opens. `path`: a folder, or an id on the hub."""

    reader: Literal["datasets"]
    config: str | None = None
    """Name of the dataset's configuration."""
    split: str = "train"
    revision: str | None = None
    """Commit of a dataset on the hub. Without it, what is read can change."""
    task: ColumnTask = "captioning"
    columns: dict[Role | Literal["image", "id", "licence", "credit"], str] = {}
    """Column names by role, and those of `image`, `id`, `licence` and `credit`; by default columns are called like the role."""

    @model_validator(mode="after")
    def _has_images(self) -> "DatasetsSource":
        if self.images is None:
            raise ValueError("`images` is missing: a folder into which the dataset's images are written once")
        return self

    @property
    def is_on_hub(self) -> bool:
        return not self.path.exists()

    @property
    def files(self) -> tuple[Path, ...]:
        return () if self.is_on_hub else (self.path,)

    def relative_to(self, folder: Path) -> "DatasetsSource":
        """A path that is not there stays as it is: it is an id on the hub."""
        path = folder / self.path if (folder / self.path).exists() else self.path
        return self.model_copy(update={"path": path, "images": folder / (self.images or "")})


class WebdatasetSource(SourceConfig):
    """`webdataset_tars.py`: tars of samples. `path`: one tar, or a folder of them."""

    reader: Literal["webdataset"]
    task: ColumnTask = "captioning"
    columns: dict[Role | Literal["id", "licence", "credit"], str] = {}
    """Where each role's text stands: an extension (`txt`) or a key of the JSON (`json.caption`). By default a caption is `txt`, and other roles
    are keys of the JSON called like the role."""

    @property
    def image_folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent


class MatchingSource(SourceConfig):
    """`matching.py`: true and false captions, made from the captions of another source of the mix."""

    reader: Literal["matching"]
    of: str
    """Name of that source; it must stand before this one."""
    path: Path = Path()
    ranks: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = [1, 3, 10, 30]
    """The false caption is the n-th nearest one of another image, n drawn from these by a hash. Low ranks are hard."""
    max_similarity: Annotated[float, Field(gt=0, le=1)] = 0.9
    """A caption more similar than this (cosine) may well be true, and is no false caption."""
    embedding: str | None = None
    """A sentence-transformers model, as a folder or hub id, that says which captions are near; by default TF-IDF of words."""

    @property
    def files(self) -> tuple[Path, ...]:
        return ()


READER_CONFIGS: dict[str, type[SourceConfig]] = {
    "jsonl": JsonlSource,
    "csv": CsvSource,
    "coco_karpathy": CocoKarpathySource,
    "coco_captions": CocoCaptionsSource,
    "capfilt": CapFiltSource,
    "llava": LlavaSource,
    "vqav2": Vqav2Source,
    "aokvqa": AokvqaSource,
    "imagenet": ImagenetSource,
    "datasets": DatasetsSource,
    "webdataset": WebdatasetSource,
    "matching": MatchingSource,
}


def _reader_of(value: Any) -> str:
    return str(value.get("reader", "jsonl")) if isinstance(value, dict) else str(getattr(value, "reader", "jsonl"))


AnySource = Annotated[
    Annotated[JsonlSource, Tag("jsonl")]
    | Annotated[CsvSource, Tag("csv")]
    | Annotated[CocoKarpathySource, Tag("coco_karpathy")]
    | Annotated[CocoCaptionsSource, Tag("coco_captions")]
    | Annotated[CapFiltSource, Tag("capfilt")]
    | Annotated[LlavaSource, Tag("llava")]
    | Annotated[Vqav2Source, Tag("vqav2")]
    | Annotated[AokvqaSource, Tag("aokvqa")]
    | Annotated[ImagenetSource, Tag("imagenet")]
    | Annotated[DatasetsSource, Tag("datasets")]
    | Annotated[WebdatasetSource, Tag("webdataset")]
    | Annotated[MatchingSource, Tag("matching")],
    Discriminator(
        _reader_of,
        custom_error_type="reader",
        custom_error_message=f"there is no such reader; the readers are {', '.join(READER_CONFIGS)}",
    ),
]
"""A source of a mix, by its `reader`."""
