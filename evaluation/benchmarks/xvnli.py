"""XVNLI (Bugliarello et al. 2022) in the layout of e-bug/iglue: does the image entail a hypothesis, in five languages.

`iglue/datasets/XVNLI/annotations/CODE/test.jsonl`: `{"gold_label", "sentence1", "sentence2", "captionID", "pairID", "Flikr30kID"}` (so spelt). The
hypothesis is `sentence2`; `sentence1` is the caption that annotators of SNLI saw, which no model may see here. The image is
`iglue/datasets/flickr30k/flickr_images/ID.jpg`. The label "-" (annotators did not agree) is no label; mBLIP leaves such pairs out and so does this.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluation.records import BenchmarkError, Item, field, read_jsonl

LABELS = {"entailment": "yes", "neutral": "maybe", "contradiction": "no"}
"""mBLIP's words for SNLI's labels (its data/xvnli/generate_xvnli.py)."""
NO_AGREEMENT = "-"


def read(data: Path, codes: Sequence[str]) -> Iterator[Item]:
    root = data / "iglue" / "datasets"
    for code in codes:
        path = root / "XVNLI" / "annotations" / code / "test.jsonl"
        for line, record in read_jsonl(path):
            where = f"{path}, line {line}"
            label = field(record, "gold_label", where)
            if label == NO_AGREEMENT:
                continue
            if label not in LABELS:
                raise BenchmarkError(f"{where}: the label {label!r} is none of {', '.join(LABELS)}.")
            image = str(field(record, "Flikr30kID", where))
            yield Item(
                id=f"{code}/{field(record, 'pairID', where)}",
                code=code,
                images=(root / "flickr30k" / "flickr_images" / f"{image.removesuffix('.jpg')}.jpg",),
                text=field(record, "sentence2", where),
                answers=(LABELS[label],),
                group=image,
            )
