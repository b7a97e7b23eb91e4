import logging

import pyarrow as pa
import pytest

from pipeline.corpus import TRANSLATIONS
from pipeline.memory import Memory, block_name, sentence_key


def entry(key, text="t", score=-0.5):
    return {
        "key": key,
        "source": f"s{key}",
        "text": text,
        "status": "translated",
        "log_probability": score,
        "unknown_tokens": 0,
    }


def table(*entries):
    return pa.Table.from_pylist(list(entries), schema=TRANSLATIONS)


def test_a_key_depends_on_text_language_and_engine_but_not_on_unicode_spelling():
    key = sentence_key("e", "deu_Latn", "café")
    assert key == sentence_key("e", "deu_Latn", "cafe\u0301")
    assert (
        len(
            {
                key,
                sentence_key("f", "deu_Latn", "café"),
                sentence_key("e", "nld_Latn", "café"),
                sentence_key("e", "deu_Latn", "cafe"),
            }
        )
        == 4
    )


def test_what_was_added_is_found_and_nothing_else(tmp_path):
    memory = Memory(tmp_path, "engine")
    memory.add("deu_Latn", table(entry("a", "1"), entry("b", "2")))
    memory.add("deu_Latn", table(entry("c", "3")))
    found = memory.lookup("deu_Latn", pa.array(["c", "a", "a", "x"]))
    assert found.to_pylist() == [entry("a", "1"), entry("c", "3")]
    assert memory.lookup("nld_Latn", pa.array(["a"])).num_rows == 0
    assert Memory(tmp_path, "other").lookup("deu_Latn", pa.array(["a"])).num_rows == 0


def test_of_two_writers_the_same_one_is_read_whoever_came_first(tmp_path):
    blocks = [table(entry("a", "from ab"), entry("b")), table(entry("a", "from ac"), entry("c"))]
    texts = set()
    for number, order in enumerate((blocks, blocks[::-1])):
        memory = Memory(tmp_path / str(number), "engine")
        for block in order:
            memory.add("deu_Latn", block)
        texts.add(memory.lookup("deu_Latn", pa.array(["a"]))["text"][0].as_py())
    assert len(texts) == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_part_is_set_aside_and_its_sentences_are_asked_for_again(tmp_path, caplog, damage):
    memory = Memory(tmp_path, "engine")
    keys = [f"{i:032x}" for i in range(500)]
    memory.add("deu_Latn", table(*(entry(k, f"text {k}") for k in keys)))
    memory.add("deu_Latn", table(entry("z")))
    path = memory.path("deu_Latn", block_name(keys))
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes({"flip": data, "cut": data[: len(data) // 2], "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        found = memory.lookup("deu_Latn", pa.array([*keys, "z"]))
    assert found["key"].to_pylist() == ["z"]
    assert path.name in caplog.text
    assert not memory.has_block("deu_Latn", keys)
    assert path.with_suffix(".damaged").exists()
