from pathlib import Path

import pytest

from pipeline.mix import MixError, read_mix

GOOD = """\
name: m
sources:
  - {name: a, path: a.jsonl}
  - name: b
    path: sub/b.jsonl
    limit: 10
languages:
  include: [de, iw, zho_Hans]
  per_example: 2
translation: {model: some/model}
memory: memory
"""


def write(tmp_path, text):
    path = tmp_path / "mix.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_mix_is_read_with_paths_relative_to_it_and_languages_by_any_code(tmp_path):
    mix = read_mix(write(tmp_path, GOOD))
    assert mix.languages.targets == ("deu_Latn", "heb_Hebr", "zho_Hans")
    assert mix.sources[1].path == tmp_path / "sub" / "b.jsonl"
    assert mix.sources[1].image_folder == tmp_path / "sub"
    assert mix.translation.model == "some/model"  # no such folder: a hub id
    (tmp_path / "some" / "model").mkdir(parents=True)
    assert read_mix(tmp_path / "mix.yaml").translation.model == str(tmp_path / "some" / "model")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("per_example: 2", "per_example: 0", 9, "greater than 0"),
        ("per_example: 2", "per_example: 4", 7, "lower it"),
        ("limit: 10", "limt: 10", 6, "limt"),
        ("[de, iw, zho_Hans]", "[de, iww]", 8, "no language 'iww'"),
        ("[de, iw, zho_Hans]", "[de, deu_Latn]", 8, "named twice"),
        ("[de, iw, zho_Hans]", "[en, de]", 8, "English is not a target"),
        ("name: b", "name: a", 2, "two sources have the name 'a'"),
        ("translation: {model: some/model}\n", "", 1, "translation"),
        ("{model: some/model}", "{model: some/model, beam_size: 99}", 10, "less than or equal to 16"),
    ],
)
def test_a_mistake_is_reported_with_its_line_and_reason(tmp_path, old, new, line, message):
    assert old in GOOD
    with pytest.raises(MixError, match=rf"mix\.yaml, line {line}: .*{message}"):
        read_mix(write(tmp_path, GOOD.replace(old, new)))


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "\x00"])
def test_what_is_no_mix_is_refused_with_its_name(tmp_path, text):
    with pytest.raises(MixError, match=r"mix\.yaml"):
        read_mix(write(tmp_path, text))
    with pytest.raises(MixError, match="nowhere"):
        read_mix(Path("nowhere.yaml"))
