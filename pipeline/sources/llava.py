"""LLaVA-Instruct: `detail_23k.json`, `conversation_58k.json`, `complex_reasoning_77k.json`, `llava_instruct_150k.json`, `llava_v1_5_mix665k.json`.

    [{"id": "000000033471", "image": "000000033471.jpg",
      "conversations": [{"from": "human", "value": "<image>\\nWhat are the colors of the bus in the image?"},
                        {"from": "gpt", "value": "The bus in the image is white and red."}, …]}]

The `<image>` tag is taken out: where the picture stands is the model's business. The same picture has several conversations under one `id` (the
665k file joins several datasets), so an example's id is that `id` and a hash of its conversation. A record without a picture is text
only; it is counted as `text_only`.
"""

from collections.abc import Iterator
from typing import Any

from pipeline.corpus import Example, LeftOut, SourceError
from pipeline.sources.build import build_example, content_id
from pipeline.sources.config import LlavaSource
from pipeline.sources.json_stream import get, read_records

ROLE_OF = {"human": "instruction", "gpt": "response"}


def read(source: LlavaSource) -> Iterator[Example | SourceError | LeftOut]:
    """Stream the conversations in file order."""
    for record in read_records(source.path):
        if isinstance(record, SourceError):
            yield record
            continue
        where, item = record
        own_id = str(get(item, "id"))
        turns = get(item, "conversations")
        if not isinstance(turns, list) or [get(t, "from") for t in turns] != ["human", "gpt"] * (len(turns) // 2):
            detail = "`conversations` is a list of turns that alternate `human` and `gpt`, with an answer at the end"
            yield SourceError(where, own_id, "wrong_schema", detail)
            continue
        if not turns:
            yield SourceError(where, own_id, "wrong_schema", "`conversations` is empty")
            continue
        if "image" not in item and source.image_name is None:
            yield LeftOut("text_only", 1)
            continue
        image = _image(source, own_id, item)
        if image is None:
            detail = f"`image_name` needs a COCO number as `id`, and this is {own_id!r}"
            yield SourceError(where, own_id, "bad_id", detail)
            continue
        texts = [(ROLE_OF[t["from"]], _without_tag(t.get("value"))) for t in turns]
        yield from _examples(source, where, own_id, image, texts)


def _image(source: LlavaSource, own_id: str, item: dict[str, Any]) -> str | None:
    if source.image_name is None:
        return str(item["image"])
    return source.image_name.format(id=int(own_id)) if own_id.isascii() and own_id.isdigit() else None


def _examples(
    source: LlavaSource, where: str, own_id: str, image: str, texts: list[tuple[str, Any]]
) -> Iterator[Example | SourceError | LeftOut]:
    parts = [texts] if source.turns == "together" else [texts[i : i + 2] for i in range(0, len(texts), 2)]
    for part in parts:
        if source.max_sentences is not None and str(part[1][1]).count(".") > source.max_sentences:
            yield LeftOut("too_many_sentences", 1)
            continue
        name = f"{own_id.replace('/', '-')}-{content_id(*(str(text) for _, text in part))}"
        yield build_example(source, where, name, "instruction", image, part)


def _without_tag(text: object) -> object:
    return text.replace("<image>", "").strip() if isinstance(text, str) else text
