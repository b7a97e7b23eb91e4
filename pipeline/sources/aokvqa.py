"""A-OKVQA: `aokvqa_v1p0_train.json`.

    [{"split": "train", "image_id": 299207, "question_id": "22MexNkBPpdZGX6sxbxVBH", "question": "What is the man by the bags awaiting?",
      "choices": ["skateboarder", "train", "delivery", "cab"], "correct_choice_idx": 3, "direct_answers": ["ride", …],
      "difficult_direct_answer": false, "rationales": ["A train would not be on the street, …", …]}]

Reasoning and explanation give one example for each rationale, vqa one for each question. The answer is the correct choice.
"""

from collections.abc import Iterator

from pipeline.corpus import Example, SourceError
from pipeline.sources.build import build_example, content_id
from pipeline.sources.config import AokvqaSource
from pipeline.sources.json_stream import get, read_records


def read(source: AokvqaSource) -> Iterator[Example | SourceError]:
    """Stream the questions in file order. Questions of the test split have no answer and are errors of their own."""
    for record in read_records(source.path):
        if isinstance(record, SourceError):
            yield record
            continue
        where, item = record
        own_id, image_id = str(get(item, "question_id")), get(item, "image_id")
        choices, correct, rationales = (get(item, k) for k in ("choices", "correct_choice_idx", "rationales"))
        if not isinstance(image_id, int) or not isinstance(choices, list) or not isinstance(rationales, list):
            detail = "a question has a number `image_id` and the lists `choices` and `rationales`"
            yield SourceError(where, own_id, "wrong_schema", detail)
            continue
        if not isinstance(correct, int) or not 0 <= correct < len(choices):
            yield SourceError(
                where, own_id, "no_answer", f"`correct_choice_idx` is {correct}, of {len(choices)} choices"
            )
            continue
        image = source.image_name.format(id=image_id)
        texts = [("question", item.get("question")), ("answer", choices[correct])]
        for task in source.tasks:
            if task == "vqa":
                yield build_example(source, where, f"{own_id}-vqa", task, image, [*texts])
                continue
            for rationale in rationales:
                name = f"{own_id}-{task}-{content_id(str(rationale))[:8]}"
                yield build_example(source, where, name, task, image, [*texts, ("rationale", rationale)])
