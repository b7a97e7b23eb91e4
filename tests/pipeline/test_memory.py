import json
import logging
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from pipeline.corpus import TRANSLATIONS
from pipeline.memory import Memory, main, part_name, sentence_key


def entry(key, text="t", score=-0.5):
    return {
        "key": key,
        "source": f"s{key}",
        "text": text,
        "status": "translated",
        "log_probability": score,
        "unknown_tokens": 0,
        "rung": "first",
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


def test_of_two_writers_the_same_answer_is_read_whoever_came_first(tmp_path):
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
    path = memory.folder / "deu_Latn" / f"{part_name(keys)}.parquet"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes({"flip": data, "cut": data[: len(data) // 2], "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        found = memory.lookup("deu_Latn", pa.array([*keys, "z"]))
    assert found["key"].to_pylist() == ["z"]
    assert path.name in caplog.text
    assert path.with_suffix(".damaged").exists()


@pytest.fixture
def filled(tmp_path):
    memory = Memory(tmp_path / "memory", "engine", {"model": "m"})
    for start in range(0, 60, 20):
        for language in ("deu_Latn", "arb_Arab"):
            memory.add(
                language, table(*(entry(f"{i:032x}", f"{language} <{i}> & كلب") for i in range(start, start + 25)))
            )
    return memory


def test_compacting_joins_files_and_loses_and_changes_nothing(filled, tmp_path, capsys):
    keys = pa.array([f"{i:032x}" for i in range(70)])
    before = filled.lookup("deu_Latn", keys)
    assert main(["compact", str(tmp_path / "memory")]) == 0
    assert "6 files joined into 2" in capsys.readouterr().out
    assert filled.lookup("deu_Latn", keys).equals(before) and before.num_rows == 65
    assert len(filled.parts("deu_Latn")) == 1
    assert main(["size", str(tmp_path / "memory")]) == 0
    assert "engine engine m" in (shown := capsys.readouterr().out) and "130" in shown


def test_another_memory_is_merged_once(filled, tmp_path, capsys):
    other = Memory(tmp_path / "other", "engine")
    other.add("deu_Latn", table(entry("z" * 32)))
    for expected in (1, 0):
        assert main(["merge", str(tmp_path / "other"), str(tmp_path / "memory")]) == 0
        assert f"{expected} files taken over" in capsys.readouterr().out
    assert filled.lookup("deu_Latn", pa.array(["z" * 32])).num_rows == 1


def test_translations_are_exported_as_tmx_and_jsonl(filled, tmp_path):
    for name in ("m.tmx", "m.jsonl"):
        assert main(["export", str(tmp_path / "memory"), str(tmp_path / name), "--to", "ar"]) == 0
    units = ElementTree.parse(tmp_path / "m.tmx").getroot().findall("body/tu")
    lines = [json.loads(x) for x in (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(units) == len(lines) == 65
    assert units[0].findall("tuv")[1].find("seg").text == lines[0]["text"] == "arb_Arab <0> & كلب"
    assert {x["language"] for x in lines} == {"arb_Arab"}


def test_what_is_no_memory_is_refused(tmp_path, capsys):
    assert main(["size", str(tmp_path)]) == 2
    assert "no translation memory" in capsys.readouterr().err
