"""Crossmodal-3600 (Thapliyal et al. 2022): 3,600 images with captions in 36 languages.

`xm3600/captions.jsonl` (from captions.zip): one image a line, `{"image/key", "image/locale", "CODE": {"caption": [...], "caption/tokenized":
[...], "caption/tokenized/lowercase": [...]}, …}`. The references are `caption`: the tokenized ones are split by another tokenizer than the
prediction would be. An image usually has two captions in a language or more. Images are `xm3600/images/KEY.jpg`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluation.records import BenchmarkError, Item, field, read_jsonl


def read(data: Path, codes: Sequence[str]) -> Iterator[Item]:
    root = data / "xm3600"
    path = root / "captions.jsonl"
    records = list(read_jsonl(path))
    for code in codes:
        found = False
        for line, record in records:
            key = field(record, "image/key", f"{path}, line {line}")
            if code not in record:
                continue
            captions = field(record[code], "caption", f"{path}, line {line}, language {code}")
            if not captions:
                continue
            found = True
            yield Item(f"{code}/{key}", code, (root / "images" / f"{key}.jpg",), "", tuple(captions), key)
        if not found:
            raise BenchmarkError(
                f"{path} has no caption in {code}; it has {', '.join(sorted(k for k in records[0][1] if '/' not in k)[:40])}."
            )
