"""xFlickrCO (Bugliarello et al. 2022) in the layout of e-bug/iglue: 1,000 images of Flickr30k and 1,000 of COCO with captions in eight languages.

`iglue/datasets/xFlickrCO/annotations/CODE/test.jsonl`: `{"sentences": [...], "id", "img_path"}`. Images of both origins are in
`iglue/datasets/flickr30k/flickr_images/`, as in mBLIP's set-up. The ids are strings for Flickr30k and numbers for COCO.
mBLIP evaluates English on Flickr30k's own test file instead, which has other images and five captions each: see docs/evaluation.md.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluation.records import BenchmarkError, Item, field, read_jsonl


def read(data: Path, codes: Sequence[str]) -> Iterator[Item]:
    root = data / "iglue" / "datasets"
    for code in codes:
        path = root / "xFlickrCO" / "annotations" / code / "test.jsonl"
        for line, record in read_jsonl(path):
            where = f"{path}, line {line}"
            sentences = field(record, "sentences", where)
            if not sentences:
                raise BenchmarkError(f"{where} has no sentence.")
            image = field(record, "img_path", where)
            yield Item(
                id=f"{code}/{field(record, 'id', where)}",
                code=code,
                images=(root / "flickr30k" / "flickr_images" / image,),
                text="",
                answers=tuple(sentences),
                group=image,
            )
