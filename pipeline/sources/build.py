"""From the texts of a record to an example, or the reason why it is none. All readers end here, so all check the same."""

import hashlib

from pipeline.corpus import Example, Field, SourceError, check_fields
from pipeline.sources.config import SourceConfig

MAX_TEXT_CHARACTERS = 100_000
"""A longer text is a mistake of the file, not a caption or an answer."""


def content_id(*parts: str) -> str:
    """An id for a record that has none of its own: 16 hexadecimal digits of a hash of what it says."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def build_example(
    source: SourceConfig,
    where: str,
    own_id: object,
    task: str,
    image: object,
    texts: list[tuple[str, object]],
    licence: object = None,
    credit: object = None,
    group: str = "",
    given: str = "",
) -> Example | SourceError:
    """Check one record. `texts`: (role, text) in the order of the task's roles; `where`: file and place, for people."""
    if not isinstance(own_id, str) or not own_id or "@" in own_id or any(c.isspace() for c in own_id):
        return SourceError(
            where, str(own_id), "bad_id", "`id` is a text without spaces and without @, unique in the file"
        )
    if not isinstance(image, str) or not image:
        return SourceError(where, own_id, "no_image", "`image` is missing or not a text")
    if image.startswith(("/", "\\")) or ".." in image.split("/"):
        detail = f"{image!r} is not below the image folder; name the folder as `images:` in the mix file and the path below it here"
        return SourceError(where, own_id, "bad_image", detail)
    if not all(isinstance(text, str) for _, text in texts):
        wrong = ", ".join(role for role, text in texts if not isinstance(text, str))
        return SourceError(where, own_id, "bad_fields", f"a text is not a string: {wrong}")
    fields = tuple(Field(role, str(text)) for role, text in texts)
    if reason := check_fields(task, fields):
        return SourceError(where, own_id, "bad_fields", reason)
    for field in fields:
        if len(field.text) > MAX_TEXT_CHARACTERS:
            detail = f"the {field.role} has {len(field.text):,} characters; the limit is {MAX_TEXT_CHARACTERS:,}"
            return SourceError(where, own_id, "too_large", detail)
    try:
        "".join((own_id, image, *(f.text for f in fields))).encode("utf-8")
    except UnicodeEncodeError as error:
        return SourceError(where, own_id, "bad_unicode", f"a text has a lone surrogate: {error}")
    licence = licence or source.licence
    if not licence:
        return SourceError(
            where, own_id, "no_licence", "name a `licence` in the record, or for the whole source in the mix file"
        )
    return Example(
        id=f"{source.name}:{own_id}",
        source=source.name,
        task=task,
        image=image,
        fields=fields,
        licence=str(licence),
        credit=str(credit or source.credit),
        group=f"{source.name}:{group}" if group else "",
        given=given,
    )
