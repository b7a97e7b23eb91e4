"""`python -m pipeline.translate` on the embedded model."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.translate import main

TEXTS = ["dog face", "", "red apple\nlion", "42", "fox", "dog face"]


@pytest.fixture
def run(demo_model, tmp_path):
    def run(source, out, *options, code=0):
        command = [
            str(tmp_path / source),
            str(tmp_path / out),
            "--model",
            str(demo_model),
            "--memory",
            str(tmp_path / "memory"),
            *options,
        ]
        assert main(command) == code
        return tmp_path / out

    return run


def test_text_lines_keep_their_places(run, tmp_path):
    lines = ["dog face", "", "red apple", "42", "dog face"]
    (tmp_path / "a.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run("a.txt", "a.{language}.txt", "--to", "de", "ar")
    german = (tmp_path / "a.deu_Latn.txt").read_text(encoding="utf-8").split("\n")
    assert len(german) == 6 and german[1] == "" and german[3] == "42" and german[0] == german[4] != ""
    assert (tmp_path / "a.arb_Arab.txt").exists()


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_tables_keep_their_order_and_every_other_column(run, tmp_path, suffix):
    rows = [{"id": i, "caption": t or None, "note": f'é, "{i}"'} for i, t in enumerate(TEXTS)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(
                file, ["id", "caption", "note"], dialect="excel-tab" if suffix == "tsv" else "excel"
            )
            writer.writeheader()
            writer.writerows(rows)
    out = run(f"a.{suffix}", f"b.{suffix}", "--to", "deu_Latn", "rus_Cyrl", "--column", "caption")
    if suffix == "parquet":
        found = pq.read_table(out).to_pylist()
    elif suffix == "jsonl":
        found = [json.loads(x) for x in out.read_text(encoding="utf-8").splitlines()]
    else:
        with open(out, newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file, dialect="excel-tab" if suffix == "tsv" else "excel"))
    assert [str(r["id"]) for r in found] == [str(r["id"]) for r in rows]
    assert [r["note"] for r in found] == [r["note"] for r in rows]
    assert not found[1]["caption_deu_Latn"] and found[3]["caption_rus_Cyrl"] == "42"
    assert found[0]["caption_deu_Latn"] == found[5]["caption_deu_Latn"] != "dog face"
    assert "\n" in found[2]["caption_rus_Cyrl"]


def test_a_second_run_translates_nothing(run, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("dog face\n", encoding="utf-8")
    first = run("a.txt", "b.txt", "--to", "fr").read_bytes()
    monkeypatch.setattr("pipeline.translate.Engine.translate", lambda *a: pytest.fail("translated again"))
    assert run("a.txt", "c.txt", "--to", "fr").read_bytes() == first


def test_a_text_that_can_not_be_translated_is_empty_and_reported(run, tmp_path, caplog):
    (tmp_path / "a.txt").write_text("lion\ne" + "\u0301" * 2000 + "\nlion\n", encoding="utf-8")
    lines = run("a.txt", "b.txt", "--to", "de", code=1).read_text(encoding="utf-8").split("\n")
    assert lines[0] and lines[0] == lines[2] and lines[1] == ""
    assert "row 2, deu_Latn: too_long" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.txt", b"good\nb\xff\xfe\n", ["--to", "de"], "line 2 is not UTF-8"),
        ("a.txt", b"x" * 100_001, ["--to", "de"], "row 1: the text has 100,001 characters"),
        ("a.txt", b"lion\n", ["--to", "tlh"], "no language 'tlh'"),
        ("a.txt", b"lion\n", ["--to", "de", "fr"], "needs {language}"),
        ("a.txt", b"lion\n", ["--to", "de", "--column", "x"], "has no columns"),
        ("a.doc", b"lion\n", ["--to", "de"], "ending"),
        ("a.csv", b"id,caption\n1,a,b\n", ["--to", "de", "--column", "caption"], "record 2 has 3 cells"),
        ("a.csv", b"id,caption\n1,a\n", ["--to", "de", "--column", "text"], "id, caption"),
        ("a.jsonl", b'{"caption": "a"}\n{"caption": 5}\n', ["--to", "de", "--column", "caption"], "line 2"),
        ("a.jsonl", b'{"caption": "a"}\n{', ["--to", "de", "--column", "caption"], "line 2 is not JSON"),
        ("a.parquet", b"PAR1", ["--to", "de", "--column", "caption"], "no Parquet file"),
    ],
)
def test_bad_input_is_named_with_place_and_remedy_before_any_work(
    run, tmp_path, capsys, name, content, options, message
):
    (tmp_path / name).write_bytes(content)
    run(name, f"b{name[1:]}", *options, code=2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "memory").exists()


def test_a_missing_input_and_an_unwritable_output_are_named(run, tmp_path, capsys):
    run("nowhere.txt", "b.txt", "--to", "de", code=2)
    assert "nowhere.txt" in capsys.readouterr().err
    (tmp_path / "a.txt").write_text("lion\n")
    (tmp_path / "file").write_text("")
    run("a.txt", "file/b.txt", "--to", "de", code=2)
    assert "can't be written" in capsys.readouterr().err


def test_a_full_disk_is_named_and_what_was_translated_is_kept(run, tmp_path, capsys, full_disk, monkeypatch):
    (tmp_path / "a.txt").write_text("lion\n")
    with monkeypatch.context():
        full_disk("b.txt")
        run("a.txt", "b.txt", "--to", "de", code=2)
    assert "b.txt can't be written, the disk is full" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr("pipeline.translate.Engine.translate", lambda *a: pytest.fail("translated again"))
    run("a.txt", "b.txt", "--to", "de")


def test_a_wrong_model_folder_and_a_language_that_it_lacks_are_named(run, tmp_path, capsys, demo_model):
    (tmp_path / "a.txt").write_text("lion\n")
    (tmp_path / "model").mkdir()
    run("a.txt", "b.txt", "--to", "de", "--model", str(tmp_path / "model"), code=2)
    assert f"{tmp_path / 'model'} has no tokenizer.json" in capsys.readouterr().err
    shutil.copytree(demo_model, tmp_path / "small")
    tokenizer = json.loads((tmp_path / "small" / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] != "zul_Latn"]
    (tmp_path / "small" / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = (tmp_path / "small" / "tokenizer_config.json").read_text(encoding="utf-8")
    (tmp_path / "small" / "tokenizer_config.json").write_text(
        settings.replace('"zul_Latn"', '"afr_Latn"'), encoding="utf-8"
    )
    run("a.txt", "b.txt", "--to", "zu", "--model", str(tmp_path / "small"), code=2)
    assert "has no language code zul_Latn" in capsys.readouterr().err


@pytest.mark.slow
def test_sigkill_while_decoding_loses_the_blocks_in_flight_and_no_more(demo_model, tmp_path):
    lines = [
        f"A {x} dog and a {y} cat number {i}" for i in range(45) for x in ("red", "blue") for y in ("small", "big")
    ]
    (tmp_path / "a.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    languages = ["deu_Latn", "hin_Deva", "zho_Hans", "arb_Arab"]

    def start(name):
        command = [
            sys.executable,
            "-m",
            "pipeline.translate",
            str(tmp_path / "a.txt"),
            str(tmp_path / f"{name}.{{language}}.txt"),
        ]
        command += ["--to", *languages, "--model", str(demo_model), "--memory", str(tmp_path / "memory")]
        return subprocess.Popen(command, stderr=subprocess.PIPE)

    def stored():
        return {p: p.stat().st_mtime_ns for p in (tmp_path / "memory").glob("*/*/*.parquet")}

    first = start("b")
    while not stored() and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    before = stored()
    assert 1 <= len(before) < len(languages) and not list(tmp_path.glob("b.*"))
    second = start("b")
    assert second.communicate()[1] and second.returncode == 0
    after = stored()
    assert len(after) == len(languages)  # one block a language
    assert {p: t for p, t in after.items() if p in before} == before
    assert all(len((tmp_path / f"b.{x}.txt").read_text("utf-8").splitlines()) == len(lines) for x in languages)
