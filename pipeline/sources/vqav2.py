"""VQAv2: `v2_OpenEnded_mscoco_train2014_questions.json` with `v2_mscoco_train2014_annotations.json`.

    {"data_subtype": "train2014", "questions": [{"image_id": 458752, "question": "What is this photo taken looking through?",
                                                 "question_id": 458752000}], …}
    {"annotations": [{"question_id": 458752000, "image_id": 458752, "question_type": "what", "answer_type": "other", "multiple_choice_answer": "net",
                      "answers": [{"answer": "net", "answer_confidence": "maybe", "answer_id": 1}, …]}], …}

A question goes with the annotation of its own id, wherever that stands (mBLIP relied on the order). The answer is the one that most people gave.
A question gives one example for each of the source's tasks.
"""

from collections.abc import Iterator

from pipeline.corpus import Example, SourceError
from pipeline.sources.build import build_example
from pipeline.sources.config import Vqav2Source
from pipeline.sources.json_stream import get, read_records


def read(source: Vqav2Source) -> Iterator[Example | SourceError]:
    """Stream the questions; the answers are held in memory, some hundred bytes each."""
    answers: dict[object, tuple[str, object]] = {}
    for record in read_records(source.annotations, "annotations.item"):
        if isinstance(record, SourceError):
            yield record
            continue
        where, annotation = record
        answer, question_id = get(annotation, "multiple_choice_answer"), get(annotation, "question_id")
        if not isinstance(answer, str) or not isinstance(question_id, int | str):
            detail = "an annotation has `question_id` and the text `multiple_choice_answer`"
            yield SourceError(where, str(question_id), "wrong_schema", detail)
            continue
        answers[question_id] = (answer, annotation.get("image_id"))
    for record in read_records(source.path, "questions.item"):
        if isinstance(record, SourceError):
            yield record
            continue
        where, question = record
        question_id, image_id = get(question, "question_id"), get(question, "image_id")
        if not isinstance(question_id, int | str) or question_id not in answers:
            yield SourceError(
                where, str(question_id), "no_answer", f"{source.annotations} has no annotation of this question"
            )
            continue
        answer, answered_image = answers[question_id]
        if not isinstance(image_id, int) or image_id != answered_image:
            detail = f"the question is about image {image_id}, its annotation about image {answered_image}"
            yield SourceError(where, str(question_id), "wrong_schema", detail)
            continue
        texts = [("question", get(question, "question")), ("answer", answer)]
        for task in source.tasks:
            yield build_example(
                source, where, f"{question_id}-{task}", task, source.image_name.format(id=image_id), [*texts]
            )
