"""Examples, their tasks and roles, and the Arrow schemas of everything that stages hand to each other.

An example is one English item of a source: an image, a task, and fields (texts in roles). A planned text is an example in one language. What the
columns mean is in `docs/formats.md`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

UNTRANSLATED_ROLES = frozenset({"label", "name"})
"""Roles that never go through the translator: `label` is a symbol (yes or no), and `name` is a name of an object that people have given in
each language (schema GIVEN)."""

ROLES: dict[str, tuple[str, ...]] = {
    "captioning": ("caption",),
    "vqa": ("question", "answer"),
    "question_generation": ("question", "answer"),
    "instruction": ("instruction", "response"),
    "reasoning": ("question", "answer", "rationale"),
    "explanation": ("question", "answer", "rationale"),
    "matching": ("caption", "label"),
    "classification": ("object",),
    "object_presence": ("object", "label"),
}
"""Roles by task, in order. An instruction may repeat its two roles: a conversation of several turns. `name` may stand for `object`."""

TASKS = tuple(ROLES)


class Field(NamedTuple):
    role: str
    text: str


@dataclass(frozen=True)
class Example:
    """One English example. `image` is the path below the source's folder; a part that ends in .tar is a tar, and the rest a member of it."""

    id: str
    source: str
    task: str
    image: str
    fields: tuple[Field, ...]
    licence: str
    credit: str = ""
    group: str = ""
    """Examples of one group always go to the same languages: a true and a false caption of an image. By default an example is alone."""
    given: str = ""
    """Key of the names that people have given its object (schema GIVEN); such an example goes only to languages that have one."""


class SourceError(NamedTuple):
    """A record that can't be used: where it stands, its own id if it has one, why, and what was read."""

    where: str
    own_id: str
    reason: str
    detail: str


class LeftOut(NamedTuple):
    """Records that the mix file did not ask for: how many, and by which of its options. They are counted, not listed."""

    reason: str
    records: int


def check_fields(task: str, fields: tuple[Field, ...]) -> str | None:
    """Why these fields don't fit `task`, or None when they do."""
    if task not in ROLES:
        return f"there is no task {task!r}; the tasks are {', '.join(TASKS)}"
    roles, wanted = tuple("object" if f.role == "name" else f.role for f in fields), ROLES[task]
    turns = len(roles) // len(wanted) if task == "instruction" else 1
    if not fields or roles != wanted * turns:
        return f"the task {task} has the roles {', '.join(wanted)}, in this order; this record has {', '.join(roles) or 'none'}"
    for field in fields:
        if not field.text.strip():
            return f"the {field.role} is empty"
        if field.role == "label" and field.text not in ("yes", "no"):
            return f"the label of an example of {task} is yes or no, not {field.text!r}"
    return None


def planned_id(example: str, language: str) -> str:
    return f"{example}@{language}"


FIELDS = pa.list_(pa.struct([("role", pa.string()), ("text", pa.string())]))
TRANSLATED_FIELDS = pa.list_(
    pa.struct([("role", pa.string()), ("source", pa.string()), ("text", pa.string()), ("origin", pa.string())])
)
"""`origin`: which way a short answer went (`short_answers.py`), empty for every other field."""

EXAMPLES = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("task", pa.string()),
        ("image", pa.string()),
        ("image_sha256", pa.string()),
        ("image_format", pa.string()),
        ("image_width", pa.int32()),
        ("image_height", pa.int32()),
        ("fields", FIELDS),
        ("licence", pa.string()),
        ("credit", pa.string()),
        ("group", pa.string()),
        ("given", pa.string()),
    ]
)

GIVEN = pa.schema([("key", pa.string()), ("language", pa.string()), ("text", pa.string())])
"""Names of objects that people have given, by the `given` of an example and by language. They are used as they are."""

PLAN = pa.schema([("example", pa.string()), ("language", pa.string()), ("assigned_by", pa.string())])
"""`assigned_by`: share, floor or english."""

REQUESTS = pa.schema([("key", pa.string()), ("language", pa.string()), ("text", pa.string())])
"""Unique sentences to translate. `key`: content address in the translation memory."""

TRANSLATIONS = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("text", pa.string()),
        ("status", pa.string()),
        ("log_probability", pa.float32()),
        ("unknown_tokens", pa.int32()),
        ("rung", pa.string()),
    ]
)
"""`status`: translated, unfinished (the length limit was reached) or too_long (not translated). `log_probability`: mean per token, natural
logarithm, rounded to 4 digits. `rung`: which try of the retry ladder gave it (`retry.py`)."""

CANDIDATES = pa.schema(
    [
        ("id", pa.string()),
        ("example", pa.string()),
        ("source", pa.string()),
        ("task", pa.string()),
        ("language", pa.string()),
        ("fields", TRANSLATED_FIELDS),
        ("status", pa.string()),
        ("log_probability", pa.float32()),
        ("unknown_tokens", pa.int32()),
    ]
)
"""Planned texts with their translated fields. `status` is the worst of the sentences', `log_probability` the lowest."""

SIGNALS: tuple[str, ...] = (
    "source_copy",
    "script_share",
    "length_ratio",
    "length_deviation",
    "repetition",
    "truncation",
    "numbers_lost",
    "numbers_changed",
    "options_lost",
    "markup",
    "unknown_tokens",
    "log_probability",
    "answer_agreement",
    "language_probability",
    "group_probability",
    "english_probability",
)
"""Scores that are numbers. What each means is told where it is computed, in `pipeline/quality/`."""

SCORES_STRUCT = pa.struct([*((name, pa.float32()) for name in SIGNALS), ("language_label", pa.string())])

SCORES = pa.schema(
    [
        ("id", pa.string()),
        ("field", pa.int32()),
        ("role", pa.string()),
        ("language", pa.string()),
        ("task", pa.string()),
        ("status", pa.string()),
        ("source_words", pa.int32()),
        ("words_judged", pa.int32()),
        ("characters", pa.int32()),
        ("bytes_judged", pa.int32()),
        ("scores", SCORES_STRUCT),
    ]
)
"""One row for each translated field. Language identification sees the fields of a sample together, without names: `words_judged` counts the English
words with letters in them, `bytes_judged` the bytes of their translations in UTF-8."""

LEDGER = pa.schema(
    [
        ("id", pa.string()),
        ("example", pa.string()),
        ("source", pa.string()),
        ("task", pa.string()),
        ("language", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("fields", TRANSLATED_FIELDS),
        ("scores", SCORES_STRUCT),
    ]
)
"""What was rejected, with its first reason. `stage`: examples or accept. In the examples' ledger `language` is empty."""

SAMPLES = pa.schema(
    [
        ("id", pa.string()),
        ("example", pa.string()),
        ("source", pa.string()),
        ("task", pa.string()),
        ("language", pa.string()),
        ("prompt_language", pa.string()),
        ("target_language", pa.string()),
        ("template", pa.string()),
        ("prompt", pa.string()),
        ("target", pa.string()),
        ("answer_origin", pa.string()),
        ("english", pa.string()),
        ("image", pa.string()),
        ("image_sha256", pa.string()),
        ("scores", SCORES_STRUCT),
    ]
)
"""Rendered samples. `answer_origin`: which way its short answer went, empty when it has none. `english`: the fields before translation, joined by a
line break, for people who read the card."""
