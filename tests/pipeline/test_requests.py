import pyarrow as pa
import pytest

from pipeline.corpus import EXAMPLES, PLAN, TRANSLATIONS
from pipeline.languages import ENGLISH
from pipeline.memory import Memory, sentence_key
from pipeline.requests import (
    Segmenter,
    cut_blocks,
    planned_rows,
    translated_fields,
    unanswered,
    wanted_sentences,
)


@pytest.fixture
def planned():
    fields = {
        "s:a": [("question", "What is it? Say."), ("answer", "a dog")],
        "s:b": [("caption", "a dog"), ("label", "yes")],
        "s:c": [("caption", "42")],
    }
    tasks = {"s:a": "vqa", "s:b": "matching", "s:c": "captioning"}
    rows = [
        {"id": i, "source": "s", "task": tasks[i], "fields": [{"role": r, "text": t} for r, t in f]}
        for i, f in fields.items()
    ]
    examples = pa.Table.from_pylist(rows, schema=EXAMPLES)
    plan = [{"example": e, "language": x} for x in ("deu_Latn", ENGLISH, "zho_Hans") for e in fields]
    return planned_rows(examples, pa.Table.from_pylist(plan, schema=PLAN), ["Answer:"])


def answer(language, sentence, **more):
    entry = {"status": "translated", "log_probability": -1.0, "unknown_tokens": 0, "rung": "first", **more}
    return {"key": sentence_key("e", language, sentence), "source": sentence, "text": f"<{sentence}>", **entry}


def test_each_sentence_is_asked_for_once_a_language_and_never_for_english_labels_or_digits(planned):
    wanted = wanted_sentences(planned, "e", Segmenter())
    for language in ("deu_Latn", "zho_Hans"):
        mine = [r["text"] for r in wanted.to_pylist() if r["language"] == language]
        assert sorted(mine) == ["Answer:", "Say.", "What is it?", "a dog"]
    assert ENGLISH not in wanted["language"].to_pylist()


def test_what_the_memory_knows_is_not_asked_for_again(planned, tmp_path):
    memory = Memory(tmp_path, "e")
    memory.add("deu_Latn", pa.Table.from_pylist([answer("deu_Latn", "a dog")], schema=TRANSLATIONS))
    wanted = wanted_sentences(planned, "e", Segmenter())
    left = unanswered(wanted, memory)
    assert left.num_rows == wanted.num_rows - 1
    blocks = cut_blocks(left, 2).to_pylist()
    assert sorted(k for b in blocks for k in b["keys"]) == sorted(left["key"].to_pylist())
    assert all(len(b["keys"]) <= 2 for b in blocks)


def test_translations_go_back_into_their_places_with_the_worst_status(planned):
    answers = [
        answer("deu_Latn", "What is it?"),
        answer("deu_Latn", "Say.", status="unfinished", log_probability=-3.0, unknown_tokens=1),
        answer("deu_Latn", "a dog", unknown_tokens=1),
        answer("deu_Latn", "Answer:"),
    ]
    rows = translated_fields(
        "deu_Latn", planned["deu_Latn"], pa.Table.from_pylist(answers, schema=TRANSLATIONS), Segmenter()
    )
    a, b, c, prompt = rows.to_pylist()
    assert [f["text"] for f in a["fields"]] == ["<What is it?> <Say.>", "<a dog>"]
    assert (a["status"], a["log_probability"], a["unknown_tokens"]) == ("unfinished", -3.0, 2)
    assert [f["text"] for f in b["fields"]] == ["<a dog>", "yes"]
    assert (c["fields"][0]["text"], c["status"]) == ("42", "copied")
    assert prompt["fields"][0] == {"role": "prompt", "source": "Answer:", "text": "<Answer:>", "origin": ""}


def test_english_is_the_source_text(planned):
    rows = translated_fields(ENGLISH, planned[ENGLISH], TRANSLATIONS.empty_table(), Segmenter()).to_pylist()
    assert len(rows) == 3  # no prompts
    assert all(f["text"] == f["source"] for r in rows for f in r["fields"])
