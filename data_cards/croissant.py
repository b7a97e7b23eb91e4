"""The card for machines: Croissant 1.0 (https://docs.mlcommons.org/croissant/docs/croissant-spec.html).

Every file of the dataset with its sha256, the images and JSON inside the tars as file sets, and the index as a record
set that a reader can iterate. Paths are relative to the published folder, in which this file lies beside `shards/`.
`datePublished` is left out: the card of a run must not depend on the day it was made.
"""

from typing import Any

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification prescribes, in its order."""

INDEX_COLUMNS = {
    "id": ("sc:Text", "The text's id: source, example and language."),
    "language": ("sc:Text", "NLLB code of the language that the plan asked for."),
    "task": ("sc:Text", "captioning, vqa, question_generation, instruction, reasoning or matching."),
    "shard": ("sc:Text", "The tar that holds the image and its texts."),
    "key": ("sc:Text", "Name of the image's two members in the tar, without extension."),
    "text": ("sc:Integer", "Position in `texts` of the JSON member."),
    "image_offset": ("sc:Integer", "Where the image's bytes begin in the tar."),
    "image_bytes": ("sc:Integer", "Length of the image's bytes."),
    "image_sha256": ("sc:Text", "Hash of the image's bytes as they are in the tar."),
    "json_offset": ("sc:Integer", "Where the JSON's bytes begin in the tar."),
    "json_bytes": ("sc:Integer", "Length of the JSON's bytes."),
}
"""What a reader of the index needs, with Croissant's type and a description."""

IMAGE_TYPES = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


def describe(
    manifest: dict, description: str, licences: list[str], tags: list[str], extensions: list[str], index_bytes: int
) -> dict[str, Any]:
    """The JSON-LD document of a dataset.

    `manifest` is that of the shards, `licences` are URLs or names, `tags` are BCP 47 language tags, `extensions`
    those of the images.
    """
    index_file = manifest["index"]["file"]
    tars = [{"@id": shard["file"]} for shard in manifest["shards"]]
    members = [
        {
            "@type": "cr:FileSet",
            "@id": f"{extension}-members",
            "name": f"{extension}-members",
            "containedIn": tars,
            "encodingFormat": IMAGE_TYPES.get(extension, "application/json"),
            "includes": f"*.{extension}",
        }
        for extension in [*extensions, "json"]
    ]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": manifest["name"],
        "description": description,
        "license": licences,
        "version": "1.0.0",
        "inLanguage": tags,
        "isLiveDataset": False,
        "distribution": [
            *(_file(s["file"], "application/x-tar", s["sha256"], s["bytes"]) for s in manifest["shards"]),
            _file(index_file, "application/x-parquet", manifest["index"]["sha256"], index_bytes),
            *members,
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "texts",
                "name": "texts",
                "description": "One record a text: which language and task it is, and where its image and JSON lie.",
                "key": {"@id": "texts/id"},
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"texts/{column}",
                        "name": column,
                        "description": meaning,
                        "dataType": kind,
                        "source": {"fileObject": {"@id": index_file}, "extract": {"column": column}},
                    }
                    for column, (kind, meaning) in INDEX_COLUMNS.items()
                ],
            }
        ],
    }


def _file(name: str, encoding: str, sha256: str, size: int) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": f"shards/{name}",
        "contentSize": f"{size} B",
        "encodingFormat": encoding,
        "sha256": sha256,
    }
