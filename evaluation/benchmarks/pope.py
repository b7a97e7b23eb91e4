"""POPE (Li et al. 2023): is there such an object in the image? Three settings of 3,000 questions on COCO val2014, half of them yes.

`pope/output/coco/coco_pope_SETTING.json` holds one JSON object a line in spite of its name: `{"question_id", "image", "text", "label"}`. Settings:
random, popular, adversarial (how absent objects are chosen). The owner publishes English only.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluation.records import BenchmarkError, Item, field, read_jsonl

SETTINGS = ("random", "popular", "adversarial")


def read(data: Path, codes: Sequence[str]) -> Iterator[Item]:
    root = data / "pope"
    for code in codes:
        for setting in SETTINGS:
            path = root / "output" / "coco" / f"coco_pope_{setting}.json"
            for line, record in read_jsonl(path):
                where = f"{path}, line {line}"
                label = field(record, "label", where)
                if label not in ("yes", "no"):
                    raise BenchmarkError(f"{where}: the label {label!r} is not yes or no.")
                image = field(record, "image", where)
                yield Item(
                    id=f"{code}/{setting}/{field(record, 'question_id', where)}",
                    code=code,
                    images=(root / "val2014" / image,),
                    text=field(record, "text", where),
                    answers=(label,),
                    group=f"{setting}/{image}",
                )
