"""`mixes/mblip.yaml` from end to end on small files in the published forms: every source, every task, and the sum per language.

The stages are called one after the other, as the flow does, so no server is needed. Only the model and the list of languages are other ones.
"""

import json
import shutil
import tarfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

from data_cards.card import build_card
from flows import steps
from flows.run import open_run
from pipeline import files
from pipeline.languages import BY_NLLB, ENGLISH
from pipeline.stage import run_stage
from pipeline.verify import verify
from tests.pipeline.sources import published

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The finished run of mblip.yaml in six languages."""
    folder = tmp_path_factory.mktemp("house")
    published.write_all(folder / "data")
    content = yaml.safe_load((ROOT / "mixes/mblip.yaml").read_text(encoding="utf-8"))
    content["translation"] = {"model": str(ROOT / "demo/translation_model/ct2-int8"), "licence": "Apache-2.0"}
    content["languages"] |= {"include": ["de", "he", "zh", "sw", "ru", "hi"], "shares": "uniform"}
    content["shards"] = {"count": 3}
    (folder / "mixes").mkdir()
    (folder / "mixes/mblip.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    found = open_run(str(folder / "mixes/mblip.yaml"), str(folder / "run"))
    steps.write_description(found)
    steps.make_examples(found)
    steps.make_plan(found)
    steps.make_requests(found)
    for stage in ("translate", "back_translate"):
        if stage == "back_translate":
            steps.make_back_requests(found)
        for block in steps.open_blocks(found, stage):
            steps.translate_block(found, stage, block["language"], block["keys"], block["texts"])
        steps.collect_translations(found, stage)
    run_stage(
        found.stages()["score"],
        lambda _: [steps.score_language(found, x) for x in steps.languages_planned(found)] and None,
    )
    steps.make_verdicts(found)
    steps.make_samples(found)

    def write_shards(_):
        numbers = list(steps.shard_contents(found))
        for number in numbers:
            steps.write_shard(found, number)
        return steps.finish_shards(found, numbers)

    run_stage(found.stages()["shards"], write_shards)
    run_stage(found.stages()["card"], lambda stage: build_card(found.folder, stage.folder))
    yield found
    shutil.rmtree(folder, ignore_errors=True)


def test_every_source_and_task_reaches_the_shards_and_the_sum_holds_in_every_language(run):
    manifest = files.read_json(run.folder / "shards/manifest.json")
    assert list(verify(run.folder / "shards")) == []
    plan, ledger = steps.table(run, "plan", "plan"), steps.table(run, "accept", "ledger")
    planned, rejected = (Counter(t["language"].to_pylist()) for t in (plan, ledger))
    assert planned == rejected + Counter(manifest["by_language"]) and set(planned) == {
        *run.mix.languages.targets,
        ENGLISH,
    }
    examples = steps.table(run, "examples", "examples")
    assert set(examples["source"].to_pylist()) == {s.name for s in run.mix.sources}
    assert set(manifest["by_task"]) == set(examples["task"].to_pylist())
    card = (run.folder / "card/README.md").read_text(encoding="utf-8").replace("\\", "")
    assert all(s.name in card for s in run.mix.sources)


def samples_of(run):
    for path in sorted((run.folder / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    content = json.loads(tar.extractfile(member).read())
                    yield from ((content["image"], text) for text in content["texts"])


def test_names_that_people_gave_are_used_as_they_are(run):
    names = {
        "deu_Latn": {"Schleie", "Goldfisch", "Weißer Hai", "Getigerte Katze"},
        "heb_Hebr": {"דג זהב"},
        "zho_Hans": {"金鱼", "虎斑猫"},
        ENGLISH: {"tench", "goldfish", "great white shark", "tabby"},
    }
    found = defaultdict(set)
    for _, text in samples_of(run):
        if text["task"] == "classification":
            found[text["language"]].add(text["target"])
        if text["task"] == "object_presence":
            assert text["target"] in ("yes", "no") and text["target_language"] == ENGLISH
            assert any(name in text["prompt"] for name in names[text["language"]])
    assert found and all(targets <= names[language] for language, targets in found.items())
    assert not any(r["source"].startswith("imagenet") for r in steps.table(run, "accept", "ledger").to_pylist())
    requests = set(steps.table(run, "requests", "requests")["text"].to_pylist())
    assert not requests & {"tench", "goldfish", "great white shark", "tabby"}


def test_a_picture_that_stayed_in_a_tar_of_img2dataset_is_delivered_as_it_is(run):
    image = next(image for image, text in samples_of(run) if text["source"] == "capfilt")
    assert ".tar/" in image["file"]
    data = (run.mix.sources[0].image_folder / image["file"].split("/")[0]).read_bytes()
    key = next((run.folder / "shards").glob("*.tar"))
    with tarfile.open(key) as tar:
        pictures = [tar.extractfile(m).read() for m in tar if m.name.endswith(".jpg")]
    assert any(p in data for p in pictures)


def test_prompts_say_their_language_and_reasons_stay_english_in_this_mix(run):
    for _, text in samples_of(run):
        if text["source"] == "aokvqa":
            assert text["language"] == text["prompt_language"] == text["target_language"] == ENGLISH
        if text["prompt_language"] == ENGLISH and text["task"] in ("captioning", "vqa"):
            assert BY_NLLB[text["target_language"]].name in text["prompt"]
