"""xGQA (Pfeiffer et al. 2022) in the layout of e-bug/iglue: GQA's test-dev questions in eight languages, answers in English.

`iglue/datasets/xGQA/annotations/few_shot/CODE/test.json` is an object from question id to `{"imageId", "question", "answer", …}`; the image is
`iglue/datasets/gqa/images/IMAGEID.jpg`. The test split of few_shot/ is what mBLIP and IGLUE's few-shot track evaluate (the development questions
are taken out of it); `zero_shot/testdev_balanced_questions_CODE.json` has all 12,578 and is another split.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluation.records import BenchmarkError, Item, field, read_json


def read(data: Path, codes: Sequence[str]) -> Iterator[Item]:
    root = data / "iglue" / "datasets"
    for code in codes:
        path = root / "xGQA" / "annotations" / "few_shot" / code / "test.json"
        records = read_json(path)
        if not isinstance(records, dict):
            raise BenchmarkError(
                f"{path} is not an object from question ids to questions. Is it the file of annotations/few_shot?"
            )
        for number, record in records.items():
            where = f"{path}, question {number}"
            image = str(field(record, "imageId", where))
            yield Item(
                id=f"{code}/{number}",
                code=code,
                images=(root / "gqa" / "images" / f"{image}.jpg",),
                text=field(record, "question", where),
                answers=(field(record, "answer", where),),
                group=image,
            )
