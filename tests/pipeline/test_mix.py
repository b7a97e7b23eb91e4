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


SOURCES = """\
name: m
sources:
  - {name: a, path: a.jsonl}
  - name: b
    reader: capfilt
    path: c.json
    images: d
    noun_phrases: {min: 10, max: 30}
  - {name: c, reader: matching, of: a}
languages:
  floors: {yo: 10}
  per_example: all
translation: {model: some/model}
memory: memory
"""


def test_sources_have_the_options_of_their_reader(tmp_path):
    mix = read_mix(write(tmp_path, SOURCES))
    assert [s.reader for s in mix.sources] == ["jsonl", "capfilt", "matching"]
    assert mix.languages.languages_per_example == 95 and mix.languages.floor_of("yor_Latn") == 10


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("reader: capfilt", "reader: capfil", 4, "the readers are jsonl, csv, coco_karpathy"),
        ("    images: d\n", "", 4, "img2dataset"),
        ("images: d", "image: d", 7, "Extra inputs"),
        ("min: 10", "min: 40", 8, "min can't be the greater"),
        ("of: a", "of: z", 2, "no source of that name stands before it"),
        ("{yo: 10}", "{yoo: 10}", 11, "no language 'yoo'"),
        ("per_example: all", "per_example: some", 12, "all"),
        ("{name: a, path: a.jsonl}", "{name: a, path: a.jsonl, task: vqa}", 3, "task"),
        ("{name: a, path: a.jsonl}", "{name: a, path: a.jsonl, weight: -1}", 3, "greater than or equal to 0"),
        ("{name: a, path: a.jsonl}", "{name: a, path: a.jsonl, languages: german}", 3, "languages"),
        ("memory: memory", "memory: memory\nexclude: {image: x}", 15, "image"),
    ],
)
def test_a_mistake_in_a_source_is_reported_with_its_line_too(tmp_path, old, new, line, message):
    assert old in SOURCES
    with pytest.raises(MixError, match=rf"mix\.yaml, line {line}: .*{message}"):
        read_mix(write(tmp_path, SOURCES.replace(old, new)))
