"""The YAML head of the README, which is what the Hugging Face hub reads of a dataset card.

Allowed values: https://github.com/huggingface/hub-docs/blob/main/datasetcard.md. `dataset_info` types the columns,
because `datasets` can't infer them: tars whose images have several formats have members of several names.
"""

from typing import Any

import pyarrow as pa
import yaml

from data_cards import licences
from data_cards.wording import slug

# Values of the hub's `task_categories`, by our task.
HUB_TASKS = {
    "captioning": "image-to-text",
    "vqa": "visual-question-answering",
    "question_generation": "visual-question-answering",
    "instruction": "image-text-to-text",
    "reasoning": "visual-question-answering",
    "explanation": "visual-question-answering",
    "classification": "image-classification",
    "object_presence": "visual-question-answering",
    "matching": "image-text-to-text",
}
SIZE_CATEGORIES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"),
)  # fmt: skip
"""Upper bounds and names of the hub's `size_categories`."""
SAMPLE_COLUMNS_IN_JSON = (
    "id", "example", "source", "task", "language", "prompt_language",
    "target_language", "template", "prompt", "target", "answer_origin", "scores",
)  # fmt: skip
"""Columns of the samples that a shard's JSON has, `docs/formats.md`."""


def describe(view: dict[str, Any], samples: pa.Schema) -> str:
    """The head as YAML, without its fences. `view` is what the templates get, `samples` the schema of the samples."""
    identifier = licences.hub_identifier(view["licence"])
    other = (
        {"license_name": slug(view["licence"]), "license_link": "README.md#licences"} if identifier == "other" else {}
    )
    tally = view["tally"]
    codes = sorted({tag.split("-")[0] for tag in view["tags"]})
    return yaml.safe_dump(
        {
            "pretty_name": f"{view['name']}: multilingual vision-language data",
            "license": identifier,
            **other,
            "language": codes,
            "multilinguality": ["multilingual", "translation"],
            "language_creators": ["machine-generated"],
            "task_categories": sorted({HUB_TASKS[task] for task in tally.tasks}),
            "size_categories": [next((name for limit, name in SIZE_CATEGORIES if tally.images < limit), "n>1B")],
            "tags": ["croissant", "image", "multilingual", "polyalign", "text", "webdataset"],
            "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "shards/*.tar"}]}],
            "dataset_info": {"features": _hub_features(view["extensions"], samples)},
        },
        sort_keys=False,
        allow_unicode=True,
    ).strip()


def _hub_features(extensions: list[str], samples: pa.Schema) -> list[dict[str, Any]]:
    texts = [name for name in SAMPLE_COLUMNS_IN_JSON if name in samples.names]
    image = {
        "sha256": "string",
        "file": "string",
        "width": "int32",
        "height": "int32",
        "licence": "string",
        "credit": "string",
    }
    return [
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
        *({"name": extension, "dtype": "image"} for extension in extensions),
        {
            "name": "json",
            "struct": [
                {"name": "image", "struct": [{"name": name, "dtype": kind} for name, kind in image.items()]},
                {"name": "texts", "list": [_hub_feature(name, samples.field(name).type) for name in texts]},
            ],
        },
    ]


def _hub_feature(name: str, kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(kind):
        return {"name": name, "struct": [_hub_feature(field.name, field.type) for field in kind]}
    names = {pa.float32(): "float32", pa.float64(): "float64", pa.int32(): "int32", pa.int64(): "int64"}
    return {"name": name, "dtype": names.get(kind, "string")}
