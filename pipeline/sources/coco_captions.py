"""COCO captions in the official form: `captions_train2014.json`, `captions_train2017.json` and their like.

    {"images": [{"id": 318556, "file_name": "COCO_train2014_000000318556.jpg", "license": 5, "coco_url": "…", …}],
     "licenses": [{"id": 5, "name": "No known copyright restrictions", "url": "…"}],
     "annotations": [{"id": 48, "image_id": 318556, "caption": "A very clean and well decorated empty bathroom"}]}

An example is an annotation. The file says under which licence each picture is; the card shows it beside the licence of the texts.
"""

from collections.abc import Iterator

from pipeline.corpus import Example, SourceError
from pipeline.sources.build import build_example
from pipeline.sources.config import CocoCaptionsSource
from pipeline.sources.json_stream import get, read_records


def read(source: CocoCaptionsSource) -> Iterator[Example | SourceError]:
    """Stream the annotations. The table of images is held in memory: some hundred bytes an image."""
    licences: dict[object, str] = {}
    for record in read_records(source.path, "licenses.item"):
        if not isinstance(record, SourceError) and isinstance(get(record[1], "id"), int | str):
            licences[str(record[1]["id"])] = str(get(record[1], "name"))
    images: dict[object, tuple[str, str]] = {}
    for record in read_records(source.path, "images.item"):
        if isinstance(record, SourceError):  # a file that breaks off is reported below, once
            if record.reason == "wrong_schema":
                yield record
                return
            continue
        where, image = record
        if not isinstance(get(image, "file_name"), str) or not isinstance(get(image, "id"), int | str):
            yield SourceError(where, str(get(image, "id")), "wrong_schema", "an image has `id` and `file_name`")
            continue
        images[image["id"]] = (image["file_name"], licences.get(str(image.get("license")), ""))
    for record in read_records(source.path, "annotations.item"):
        if isinstance(record, SourceError):
            yield record
            continue
        where, annotation = record
        own_id, image_id = str(get(annotation, "id")), get(annotation, "image_id")
        if not isinstance(image_id, int | str) or image_id not in images:
            yield SourceError(where, own_id, "no_image", f"the file has no image {image_id}")
            continue
        file_name, picture_licence = images[image_id]
        caption = get(annotation, "caption")
        caption = caption.strip() if isinstance(caption, str) else caption
        licence = (
            f"{source.licence} (text), {picture_licence} (picture)" if source.licence and picture_licence else None
        )
        yield build_example(source, where, own_id, "captioning", file_name, [("caption", caption)], licence=licence)
