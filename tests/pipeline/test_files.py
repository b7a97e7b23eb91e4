import os
import signal
import subprocess
import sys

import pyarrow as pa
import pytest

from pipeline import files


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), files.written_aside(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert files.read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_process_killed_while_writing_leaves_no_file_of_that_name(tmp_path):
    code = (
        "import sys, os, signal; from pathlib import Path; from pipeline import files\n"
        "with files.written_aside(Path(sys.argv[1])) as t:\n    t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt")], check=False)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "a.txt").exists()
    assert len(list(tmp_path.iterdir())) == 1
    files.remove_partial_files(tmp_path)
    assert not list(tmp_path.iterdir())


def test_equal_tables_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        files.write_table(tmp_path / name, pa.table({"x": ["é", "日本"] * 100, "y": [1.5, 2.5] * 100}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_flipped_bit_in_a_table_is_noticed_and_named(tmp_path):
    path = tmp_path / "table.parquet"
    files.write_table(path, pa.table({"x": [os.urandom(16).hex() for _ in range(2000)]}))
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"table\.parquet is damaged"):
        files.read_table(path)


def test_json_is_canonical():
    assert files.json_bytes({"b": "ä", "a": [1]}) == '{"a":[1],"b":"ä"}'.encode()


def test_a_full_disk_is_named_with_the_file_and_leaves_nothing(tmp_path, full_disk):
    full_disk("a.")
    for write in (
        lambda: files.write_text(tmp_path / "a.txt", "x"),
        lambda: files.write_table(tmp_path / "a.parquet", pa.table({"x": [1]})),
    ):
        with pytest.raises(OSError, match=r"a\.\w+ can't be written, the disk is full"):
            write()
    assert not list(tmp_path.iterdir())
