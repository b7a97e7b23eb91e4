"""Plain JSONL: one English example a line, its texts as keys named by role.

    {"id": "dog-1", "image": "images/dog.jpg", "task": "captioning", "caption": "A dog on a beach.", "licence": "CC0-1.0"}
    {"id": "dog-2", "image": "images/dog.jpg", "task": "vqa", "question": "What animal is this?", "answer": "a dog"}
    {"id": "dog-3", "image": "images/dog.jpg", "task": "instruction", "turns": [{"instruction": "…", "response": "…"}]}

`docs/formats.md` lists the tasks and their roles. An unknown key is an error, since a misspelt role would lose a text.
"""

import json
from collections.abc import Iterator
from typing import Any

from pipeline.corpus import ROLES, TASKS, Example, SourceError
from pipeline.sources.build import build_example
from pipeline.sources.config import SourceConfig

COMMON_KEYS = {"id", "image", "task", "licence", "credit"}
MAX_LINE_BYTES = 16 * 1024 * 1024


def read(source: SourceConfig) -> Iterator[Example | SourceError]:
    """Stream the records of one JSONL file in file order."""
    with open(source.path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{source.path}, line {number}"
            if len(line) > MAX_LINE_BYTES:
                yield SourceError(
                    where, "", "too_large", f"the line has {len(line):,} bytes; the limit is {MAX_LINE_BYTES:,}"
                )
                continue
            try:
                record = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                yield SourceError(where, "", "not_json", f"{error}")
                continue
            yield parse(record, source, where)


def parse(record: Any, source: SourceConfig, where: str) -> Example | SourceError:
    """One record as an example, or why it is none."""
    if not isinstance(record, dict):
        return SourceError(where, "", "not_an_object", f"a record is a JSON object, this is {type(record).__name__}")
    own_id = record.get("id")
    for key in ("image", "task"):
        if not isinstance(record.get(key), str) or not record[key]:
            return SourceError(where, str(own_id), f"no_{key}", f"`{key}` is missing or not a text")
    task = record["task"]
    if task not in TASKS:
        return SourceError(
            where, str(own_id), "bad_task", f"there is no task {task!r}; the tasks are {', '.join(TASKS)}"
        )
    text_keys = {"turns"} if task == "instruction" else set(ROLES[task])
    if unknown := sorted(set(record) - COMMON_KEYS - text_keys):
        return SourceError(
            where,
            str(own_id),
            "unknown_key",
            f"{', '.join(unknown)}: the task {task} has {', '.join(sorted(text_keys))}",
        )
    turns = record.get("turns") if task == "instruction" else [record]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return SourceError(
            where, str(own_id), "bad_fields", "`turns` is a list of objects with `instruction` and `response`"
        )
    if task == "instruction" and any(set(turn) != set(ROLES[task]) for turn in turns):
        return SourceError(
            where, str(own_id), "bad_fields", "every turn has `instruction` and `response` and nothing else"
        )
    texts = [(role, turn[role]) for turn in turns for role in ROLES[task] if role in turn]
    return build_example(
        source, where, own_id, task, record["image"], texts, record.get("licence"), record.get("credit")
    )
