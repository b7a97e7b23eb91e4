"""docs/own-data.md as a new user follows it: its table and its mix file, as they stand on the page."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.corpus import ROLES
from pipeline.mix import MixError, read_mix
from pipeline.plan import plan_languages
from pipeline.sources.config import READER_CONFIGS
from pipeline.sources.read import READERS, read_examples
from tests.pipeline.sources import published

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/own-data.md").read_text(encoding="utf-8")


@pytest.fixture
def mine(tmp_path):
    """The folder that the page asks for."""
    for i, name in enumerate(("dog.jpg", "boat.jpg")):
        published.write(tmp_path / "mine/pictures" / name, published.picture(i))
    (tmp_path / "mine/captions.csv").write_text(re.search(r"```csv\n(.*?)```", PAGE, re.S)[1], encoding="utf-8")
    (tmp_path / "mine/mix.yaml").write_text(re.search(r"```yaml\n(name: .*?)```", PAGE, re.S)[1], encoding="utf-8")
    return tmp_path / "mine"


def test_the_page_s_files_give_examples_and_a_plan(mine):
    mix = read_mix(mine / "mix.yaml")
    corpus = read_examples(mix)
    assert corpus.ledger.num_rows == 0 and corpus.counts == {"mine": 3, "pairs": 6}
    plan = plan_languages(corpus.examples, mix.languages, mix.sources, corpus.given)
    assert plan.num_rows >= 18


def test_rows_may_be_added_and_moved_and_no_text_changes_its_languages(mine):
    def planned():
        mix = read_mix(mine / "mix.yaml")
        corpus = read_examples(mix)
        plan = plan_languages(corpus.examples, mix.languages, mix.sources, corpus.given)
        return {(r["example"], r["language"]) for r in plan.to_pylist() if r["example"].startswith("mine:")}

    before = planned()
    head, *rows = (mine / "captions.csv").read_text(encoding="utf-8").splitlines()
    (mine / "captions.csv").write_text(
        "\n".join([head, "boat.jpg,A boat.", *rows[::-1], "dog.jpg,Sand."]), encoding="utf-8"
    )
    assert before < planned()


def test_a_mistake_is_reported_as_the_page_says(mine):
    path = mine / "mix.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("task: captioning", "task: captions"), encoding="utf-8")
    with pytest.raises(
        MixError, match=r"mix\.yaml, line 7: sources\.0\.csv\.task: Input should be 'captioning', 'vqa'"
    ):
        read_mix(path)


def test_every_option_of_the_page_s_table_is_one(mine):
    content = yaml.safe_load((mine / "mix.yaml").read_text(encoding="utf-8"))
    content["sources"][0] |= {
        "limit": 10000,
        "weight": 2,
        "duplicates": "near",
        "duplicates_within": "source",
        "noun_phrases": {"min": 10, "max": 30},
    }
    content["languages"] |= {"english_is": "instead", "exponent": 0.5, "floor": 3}
    content |= {"extends": "plan.parquet", "exclude": {"ids": ["list.txt"], "images": ["folder"]}}
    (mine / "mix.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    mix = read_mix(mine / "mix.yaml")
    assert mix.extends == mine / "plan.parquet" and mix.exclude.ids == [mine / "list.txt"]


def test_the_pages_name_every_task_and_reader():
    for task in ROLES:
        assert task in PAGE, task
    sources = (ROOT / "docs/sources.md").read_text(encoding="utf-8")
    for reader in READER_CONFIGS:
        assert f"`{reader}`" in sources, reader
    assert set(READERS) | {"matching"} == set(READER_CONFIGS)
