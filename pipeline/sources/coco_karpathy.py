"""COCO captions in Karpathy's splits: `dataset_coco.json`, and `dataset_flickr8k.json` and `dataset_flickr30k.json`, which have the same form.

    {"dataset": "coco", "images": [{"filepath": "val2014", "filename": "COCO_val2014_000000391895.jpg", "split": "test", "cocoid": 391895,
                                    "imgid": 0, "sentids": [770337], "sentences": [{"raw": "…", "tokens": ["…"], "imgid": 0, "sentid": 770337}]}]}

An example is a caption; its id is the sentence's. Images of other splits than the mix names are counted as `other_split`, one a caption.
"""

from collections.abc import Iterator

from pipeline.corpus import Example, LeftOut, SourceError
from pipeline.sources.build import build_example
from pipeline.sources.config import CocoKarpathySource
from pipeline.sources.json_stream import get, read_records


def read(source: CocoKarpathySource) -> Iterator[Example | SourceError | LeftOut]:
    """Stream the captions of the source's splits."""
    for record in read_records(source.path, "images.item"):
        if isinstance(record, SourceError):
            yield record
            continue
        where, image = record
        sentences, filename = get(image, "sentences"), get(image, "filename")
        if not isinstance(sentences, list) or not isinstance(filename, str) or not isinstance(get(image, "split"), str):
            detail = "an image has `filename`, `split` and a list `sentences`; this one lacks one of them"
            yield SourceError(where, str(get(image, "imgid")), "wrong_schema", detail)
            continue
        if image["split"] not in source.splits:
            yield LeftOut("other_split", len(sentences))
            continue
        path = f"{image['filepath']}/{filename}" if isinstance(image.get("filepath"), str) else filename
        for sentence in sentences:
            own_id = str(get(sentence, "sentid"))
            yield build_example(
                source, where, own_id, "captioning", path, [("caption", _stripped(get(sentence, "raw")))]
            )


def _stripped(text: object) -> object:
    return text.strip() if isinstance(text, str) else text
