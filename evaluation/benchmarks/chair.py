"""CHAIR (Rohrbach et al. 2018) as mBLIP runs it: which COCO objects of a caption are not in the image.

`chair/segmentation/coco_ground_truth_segmentation.json` (of AoiDragon/POPE): one JSON object a line, `{"image", "objects": [...]}`, with names
of COCO's 80 classes. `chair/synonyms.txt` (data/synonyms.txt of LisaAnne/Hallucination): one class a line, its name and its synonyms separated
by ", ". Images are `chair/val2014/FILE`. `chair/images.txt`, one file name a line, restricts the images (mBLIP: Karpathy's test split).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluation.records import BenchmarkError, Item, field, read_jsonl


def read(data: Path, codes: Sequence[str]) -> Iterator[Item]:
    """`answers` are the objects that are in the image."""
    root = data / "chair"
    path = root / "segmentation" / "coco_ground_truth_segmentation.json"
    chosen_path = root / "images.txt"
    chosen = set(chosen_path.read_text(encoding="utf-8").split()) if chosen_path.is_file() else None
    for code in codes:
        seen = set()
        for line, record in read_jsonl(path):
            where = f"{path}, line {line}"
            image = field(record, "image", where)
            if chosen is not None and image not in chosen:
                continue
            seen.add(image)
            yield Item(
                f"{code}/{image}", code, (root / "val2014" / image,), "", tuple(field(record, "objects", where)), image
            )
        if chosen is not None and chosen - seen:
            raise BenchmarkError(
                f"{chosen_path} names {len(chosen - seen)} images that {path} lacks, first {min(chosen - seen)}."
            )


def read_synonyms(data: Path) -> dict[str, str]:
    """Word → its class. Raises BenchmarkError when the file is not there."""
    path = data / "chair" / "synonyms.txt"
    if not path.is_file():
        raise BenchmarkError(f"{path} is not there: take data/synonyms.txt of github.com/LisaAnne/Hallucination.")
    classes: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        words = [word.strip() for word in line.split(", ") if word.strip()]
        for word in words:
            classes[word] = words[0]
    return classes
