"""MaXM v1 (Changpinyo et al. 2023): questions in seven languages on images of Crossmodal-3600, answers in the question's language.

`maxm/maxm_v1_release/maxm_v1_CODE.json`: `{"dataset", "version", "split", "annotations": [{"image_id", "image_url", "qa_pairs": [{"question_id",
"question", "answers", "processed_answers", "is_collection"}]}]}`. `processed_answers` are the accepted answers of the owner's own metric,
`answers` the raw ones. The images are those of `xm3600/images/`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluation.records import BenchmarkError, Item, field, read_json


def read(data: Path, codes: Sequence[str]) -> Iterator[Item]:
    for code in codes:
        path = data / "maxm" / "maxm_v1_release" / f"maxm_v1_{code}.json"
        content = read_json(path)
        if content.get("split", code) != code:
            raise BenchmarkError(f"{path} is of the split {content['split']!r}, not {code!r}. Was it renamed?")
        for annotation in field(content, "annotations", str(path)):
            image = field(annotation, "image_id", str(path))
            for pair in field(annotation, "qa_pairs", f"{path}, image {image}"):
                where = f"{path}, image {image}, question {pair.get('question_id')}"
                answers = field(pair, "processed_answers", where)
                if not answers:
                    raise BenchmarkError(f"{where} has no processed answer.")
                yield Item(
                    id=f"{code}/{field(pair, 'question_id', where)}",
                    code=code,
                    images=(data / "xm3600" / "images" / f"{image}.jpg",),
                    text=field(pair, "question", where),
                    answers=tuple(answers),
                    group=image,
                )
