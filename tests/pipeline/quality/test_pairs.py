"""The tool for anyone's own pairs, from outside: files in, files out."""

import csv
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.quality import pairs as tool
from pipeline.quality.__main__ import main
from pipeline.quality.pairs import ADDED

ROWS = [
    ("A brown dog runs along the beach.", "Ein brauner Hund läuft am Strand entlang.", "deu_Latn", "accepted", ""),
    ("A brown dog runs along the beach.", "A brown dog runs along the beach.", "deu_Latn", "rejected", "source_copy"),
    ("A brown dog runs along the beach.", "茶色い犬がビーチを走っている。", "ja", "accepted", ""),
    ("A brown dog runs along the beach.", "Un chien brun court le long de la plage.", "deu_Latn", "rejected", "wrong_language"),
    ("Two dogs", "", "rus_Cyrl", "rejected", "empty"),
    ("There are 12 birds on the roof.", "На крыше сидят 13 птиц.", "rus_Cyrl", "rejected", "numbers"),
    ("A cat", "A cat", "eng_Latn", "accepted", ""),
    ("A red, old\ncar", "Ein rotes, altes\n\"Auto\"", "de", "accepted", ""),
]  # fmt: skip


def write(path, rows=ROWS, **more):
    names = ("source", "text", "language")
    records = [
        {**dict(zip(names, r, strict=False)), "id": f"x{i}", "task": "captioning", **more} for i, r in enumerate(rows)
    ]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif path.suffix == ".csv":
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]))
            writer.writeheader()
            writer.writerows(records)
    else:
        path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".csv":
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_every_row_comes_out_in_order_with_its_verdict(tmp_path, capsys, suffix):
    out = tmp_path / f"out{suffix}"
    assert main([str(write(tmp_path / f"in{suffix}")), str(out)]) == 0
    rows = read(out)
    assert [(r["source"], r["text"], r["language"], r["verdict"], r["reason"]) for r in rows] == ROWS
    assert [r["id"] for r in rows] == [f"x{i}" for i in range(len(ROWS))]
    assert set(ADDED) < set(rows[0]) and float(rows[1]["source_copy"]) == 1
    shown = capsys.readouterr().out
    assert (
        "deu_Latn German" in shown
        and "source_copy 1" in shown
        and shown.splitlines()[-1].split()[:3] == ["all", "8", "4"]
    )


def test_formats_can_be_changed_and_batches_change_nothing(tmp_path, monkeypatch):
    source = write(tmp_path / "in.jsonl", remark="Anmerkung")
    main([str(source), str(tmp_path / "whole.parquet")])
    monkeypatch.setattr(tool, "ROWS", 3)
    main([str(source), str(tmp_path / "cut.parquet")])
    assert read(tmp_path / "whole.parquet") == read(tmp_path / "cut.parquet")
    assert read(tmp_path / "cut.parquet")[0]["remark"] == "Anmerkung"


def test_processes_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "ROWS", 3)
    monkeypatch.setattr(tool, "BATCHES_FOR_PROCESSES", 2)
    source = write(tmp_path / "in.parquet", ROWS * 3)
    main([str(source), str(tmp_path / "one.parquet"), "--processes", "1"])
    main([str(source), str(tmp_path / "two.parquet"), "--processes", "2"])
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_processes_work_when_the_tool_is_run_as_a_command(tmp_path):
    """What runs as __main__ can't be found by other processes."""
    source = write(tmp_path / "in.parquet", ROWS * 3)
    code = (
        "import runpy, sys; from pipeline.quality import pairs; pairs.ROWS, pairs.BATCHES_FOR_PROCESSES = 3, 2\n"
        f"sys.argv = ['quality', {str(source)!r}, {str(tmp_path / 'out.parquet')!r}, '--processes', '2']\n"
        "runpy.run_module('pipeline.quality', run_name='__main__', alter_sys=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [r["reason"] for r in read(tmp_path / "out.parquet")] == [row[4] for row in ROWS] * 3


def test_a_bad_row_that_another_process_meets_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "ROWS", 3)
    monkeypatch.setattr(tool, "BATCHES_FOR_PROCESSES", 2)
    source = write(tmp_path / "in.parquet", [*ROWS, ("A dog", "Ein Hund", "deu_Latin", "", "")])
    assert main([str(source), str(tmp_path / "out.parquet"), "--processes", "2"]) == 2
    assert "row 9: There is no language 'deu_Latin'" in capsys.readouterr().err
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"source": "a", "text": "b"}\n', "no column language"),
        (
            '{"source": "a", "text": "b", "language": "deu_Latin"}\n',
            r"row 1: There is no language 'deu_Latin'.*deu_Latn",
        ),
        ('{"source": "a", "text": "b", "language": "de"}\nnot json\n', "line 2: not JSON"),
        ("[1]\n", "line 1: list, not an object"),
        ('{"source": "a", "text": "b", "language": "de", "verdict": 1}\n', "'verdict' already"),
        ("", "no rows"),
    ],
)
def test_a_file_that_can_not_be_used_is_refused_with_the_row_and_nothing_is_written(tmp_path, capsys, text, message):
    import re

    path, out = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    path.write_text(text, encoding="utf-8")
    assert main([str(path), str(out)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and "in.jsonl" in error
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_wrong_suffixes_and_missing_files_are_named(tmp_path, capsys):
    assert main([str(tmp_path / "in.xlsx"), str(tmp_path / "out.csv")]) == 2
    assert "in.xlsx: the suffix must be one of" in capsys.readouterr().err
    assert main([str(tmp_path / "in.csv"), str(tmp_path / "out.csv")]) == 2
    assert "in.csv can't be read" in capsys.readouterr().err


def test_lone_surrogates_come_through_as_replacement_characters(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"source": "A dog", "text": "Ein Hund \\ud800", "language": "de"}\n', encoding="utf-8")
    assert main([str(path), str(tmp_path / "out.jsonl")]) == 0
    assert read(tmp_path / "out.jsonl")[0]["text"] == "Ein Hund \ufffd"
