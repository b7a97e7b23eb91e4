"""The mixes that are shipped, on small files in the published forms."""

import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

from pipeline.languages import ENGLISH, LANGUAGES
from pipeline.mix import read_mix
from pipeline.plan import overview, plan_languages
from pipeline.sources.read import missing_sources, read_examples
from tests.pipeline.sources import published

ROOT = Path(__file__).resolve().parents[2]
MIXES = ("mblip", "balanced")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A folder with mixes/ and data/, as the mixes expect them."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "mixes", folder / "mixes")
    published.write_all(folder / "data")
    published.write(folder / "data/evaluation/images.txt", b"coco:72  # an image of an evaluation set\n")
    published.write(folder / "data/evaluation/images/a.jpg", published.picture(71))
    return folder


@pytest.fixture(scope="module", params=MIXES)
def planned(house, request):
    mix = read_mix(house / "mixes" / f"{request.param}.yaml")
    corpus = read_examples(mix)
    return request.param, mix, corpus, plan_languages(corpus.examples, mix.languages, mix.sources, corpus.given)


def test_every_source_is_present_and_every_record_accounted_for(planned):
    _, mix, corpus, plan = planned
    assert missing_sources(mix) == []
    usable, lost = (Counter(t["source"].to_pylist()) for t in (corpus.examples, corpus.ledger))
    for source in mix.sources:
        left_out = sum(n for k, n in corpus.counts.items() if k.startswith(f"{source.name}:"))
        assert (
            usable[source.name] > 0 and corpus.counts[source.name] == usable[source.name] + lost[source.name] + left_out
        )
    assert set(plan["language"].to_pylist()) <= {x.nllb for x in LANGUAGES}


@pytest.mark.parametrize("planned", ["mblip"], indirect=True)
def test_mblip_has_the_paper_s_tasks_each_example_once(planned):
    _, mix, corpus, plan = planned
    assert Counter(plan["example"].to_pylist()).most_common(1)[0][1] == 1  # one language an example
    assert (
        plan.num_rows == corpus.examples.num_rows
    )  # and none left out: the shares of the sources are those of their sizes
    tasks = defaultdict(set)
    for e in corpus.examples.to_pylist():
        tasks[e["source"]].add(e["task"])
    assert dict(tasks) == {
        "capfilt": {"captioning"},
        "coco": {"captioning"},
        "llava_detail": {"instruction"},
        "llava_conversation": {"instruction"},
        "vqav2": {"vqa", "question_generation"},
        "aokvqa": {"reasoning", "explanation"},
        "matching": {"matching"},
        "imagenet": {"classification"},
        "imagenet_presence": {"object_presence"},
    }
    english = overview(corpus.examples, plan, mix.languages, mix.sources).by_source["aokvqa"]
    assert set(english) == {ENGLISH}


def test_mblip_gives_languages_their_share_of_mt5_with_english_among_them(house):
    import pyarrow as pa

    mix = read_mix(house / "mixes/mblip.yaml")
    count = 60_000
    counts = Counter(
        plan_languages(pa.table({"id": [f"coco:{i}" for i in range(count)]}), mix.languages)["language"].to_pylist()
    )
    assert counts.total() == count and len(counts) == 96
    for language in LANGUAGES:
        expected = count * language.mt5_percent / 100
        assert abs(counts[language.nllb] - expected) < 5 * expected**0.5, language.name


def test_balanced_is_about_half_english_and_leaves_evaluation_images_out(house):
    mix = read_mix(house / "mixes/balanced.yaml")
    corpus = read_examples(mix)
    excluded = [r for r in corpus.ledger.to_pylist() if r["reason"] == "evaluation_image"]
    assert any("coco:72 is in images.txt" in r["detail"] for r in excluded)
    assert any("looks like images/a.jpg" in r["detail"] for r in excluded)
    assert not any(i.endswith(("0072.jpg", "0071.jpg")) for i in corpus.examples["image"].to_pylist())
    without_floor = mix.languages.model_copy(update={"floor": 0})
    plan = plan_languages(corpus.examples, without_floor, mix.sources, corpus.given)
    share = plan["language"].to_pylist().count(ENGLISH) / plan.num_rows
    assert 0.3 < share < 0.6


@pytest.mark.parametrize("name", MIXES)
def test_licences_and_whom_to_credit_are_named_for_every_source(name):
    content = yaml.safe_load((ROOT / "mixes" / f"{name}.yaml").read_text(encoding="utf-8"))
    for source in content["sources"]:
        assert source["reader"] == "matching" or (source["licence"] and source["credit"]), source["name"]
