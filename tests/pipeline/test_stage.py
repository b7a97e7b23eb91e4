from pipeline import files
from pipeline.stage import run_stage, stage


def write(name, text):
    def build(target):
        files.write_text(target.path(name), text)

    return build


def test_a_finished_stage_is_not_built_again(tmp_path):
    assert run_stage(stage(tmp_path, "a", 1, {}, []), write("x", "1"))
    assert not run_stage(stage(tmp_path, "a", 1, {}, []), write("x", "2"))
    assert (tmp_path / "a" / "x").read_text() == "1"


def test_another_configuration_version_or_input_builds_it_again_and_removes_what_was_there(tmp_path):
    first = stage(tmp_path, "a", 1, {}, [])
    run_stage(first, write("old", "1"))
    for changed in (
        stage(tmp_path, "a", 2, {}, []),
        stage(tmp_path, "a", 1, {"k": 1}, []),
        stage(tmp_path, "a", 1, {}, [first]),
    ):
        assert not changed.is_done()
    assert run_stage(stage(tmp_path, "a", 2, {}, []), write("new", "2"))
    assert not (tmp_path / "a" / "old").exists()


def test_what_a_killed_run_of_the_same_key_left_is_kept(tmp_path):
    target = stage(tmp_path, "a", 1, {}, [])
    target.begin()
    files.write_text(target.path("part"), "whole")
    (target.folder / ".part.123.abc.partial").write_text("half")
    assert not target.is_done()
    seen = []
    run_stage(target, lambda s: seen.extend(p.name for p in s.folder.iterdir()))
    assert "part" in seen and not any(name.endswith(".partial") for name in seen)


def test_a_file_that_was_cut_makes_the_stage_undone(tmp_path):
    target = stage(tmp_path, "a", 1, {}, [])
    run_stage(target, write("x", "12345"))
    target.path("x").write_text("12")
    assert not target.is_done()
