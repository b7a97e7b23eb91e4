"""MaRVL (Liu et al. 2021) in the layout of e-bug/iglue: is a statement true of two images, in five languages.

`iglue/datasets/marvl/zero_shot/annotations/marvl-CODE.jsonl`: `{"concept", "language", "caption", "left_img", "right_img", "label":
true, "id", …}`. Images are
`iglue/datasets/marvl/images/LANGUAGE/images/CONCEPT/FILE`. Names of concepts are not ASCII, and archives store them composed or decomposed (mBLIP
expects NFKD), so a path that is not there as written is looked for in the other forms.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from evaluation.records import BenchmarkError, Item, field, read_jsonl

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]


def read(data: Path, codes: Sequence[str]) -> Iterator[Item]:
    root = data / "iglue" / "datasets" / "marvl"
    for code in codes:
        path = root / "zero_shot" / "annotations" / f"marvl-{code}.jsonl"
        for line, record in read_jsonl(path):
            where = f"{path}, line {line}"
            label = field(record, "label", where)
            if not isinstance(label, bool):
                raise BenchmarkError(f"{where}: the label {label!r} is not true or false.")
            folder = root / "images" / field(record, "language", where) / "images"
            concept = field(record, "concept", where)
            left, right = (field(record, name, where) for name in ("left_img", "right_img"))
            yield Item(
                id=f"{code}/{field(record, 'id', where)}",
                code=code,
                images=(find_image(folder, concept, left), find_image(folder, concept, right)),
                text=field(record, "caption", where),
                answers=("yes" if label else "no",),
                group=concept,
            )


def find_image(folder: Path, concept: str, name: str) -> Path:
    """The file in whichever normal form of Unicode it is stored; the path as written where there is none."""
    for form in get_args(Form):
        path = folder / unicodedata.normalize(form, concept) / unicodedata.normalize(form, name)
        if path.is_file():
            return path
    return folder / concept / name
