import json
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus import CANDIDATES, ROLES, TASKS
from pipeline.languages import ENGLISH
from pipeline.render import PromptError, choose_template, fill, prompt_texts, read_templates, render

GOLDEN = Path(__file__).with_name("golden_prompts.json")
GOLDEN_SAMPLES = Path(__file__).with_name("golden_samples.json")
FIELDS = {
    "captioning": [("caption", "Ein Hund.")],
    "vqa": [("question", "Was ist das?"), ("answer", "ein Hund")],
    "question_generation": [("question", "Was ist das?"), ("answer", "ein Hund")],
    "instruction": [
        ("instruction", "Was ist das?"),
        ("response", "Ein Hund."),
        ("instruction", "Und?"),
        ("response", "Er läuft."),
    ],
    "reasoning": [("question", "Was ist das?"), ("answer", "ein Hund"), ("rationale", "Er bellt.")],
    "explanation": [("question", "Was ist das?"), ("answer", "ein Hund"), ("rationale", "Er bellt.")],
    "matching": [("caption", "Ein Hund."), ("label", "yes")],
    "classification": [("name", "Schleie")],
    "object_presence": [("object", "Hund"), ("label", "no")],
}


def fields(task):
    return [{"role": r, "text": t} for r, t in FIELDS[task]]


def rendered():
    templates = read_templates()
    translated = {text: f"[{text}]" for text in prompt_texts(templates)}
    return {t.id: list(fill(t, "deu_Latn", fields(task), translated)) for task in TASKS for t in templates[task]}


def test_every_template_renders_as_the_golden_file_says():
    """To accept a change on purpose: python -m tests.pipeline.test_render"""
    assert rendered() == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("task", TASKS)
def test_no_template_loses_a_field(task):
    """The paper's scripts lost the rationale of one template."""
    for template in read_templates()[task]:
        prompt, target = rendered()[template.id]
        for role, text in FIELDS[task]:
            assert text in prompt + target, (template.id, role)
        assert "{" not in prompt + target
        assert target.strip()


def test_prompt_files_that_lose_or_invent_a_role_are_refused(tmp_path):
    source = Path(read_templates.__wrapped__.__globals__["FOLDER"])
    for task in ROLES:
        (tmp_path / f"{task}.yaml").write_text((source / f"{task}.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    path = tmp_path / "vqa.yaml"
    good = path.read_text(encoding="utf-8")
    for bad, message in (
        (good.replace("{question}", "{query}", 1), "query"),
        (good.replace("{question} Answer in", "Answer in"), "question"),
        (good.replace('"{question} Answer with a few', '"{question}: Answer with a few'), "begins with no letter"),
    ):
        path.write_text(bad, encoding="utf-8")
        read_templates.cache_clear()
        with pytest.raises(PromptError, match=rf"vqa\.yaml: .*{message}"):
            read_templates(tmp_path)
    path.unlink()
    with pytest.raises(PromptError, match="vqa"):
        read_templates(tmp_path)


@given(st.integers(), st.floats(0, 1))
def test_a_translated_prompt_is_taken_only_where_all_its_texts_were_accepted(number, share):
    templates = read_templates()["vqa"]
    everything = {text: text for text in prompt_texts(read_templates())}
    chosen = choose_template(f"s:{number}@deu_Latn", "deu_Latn", templates, everything, share)
    assert chosen == choose_template(f"s:{number}@deu_Latn", "deu_Latn", templates, everything, share)
    assert not choose_template(f"s:{number}@deu_Latn", "deu_Latn", templates, {}, share).is_translated
    assert not choose_template(f"s:{number}@{ENGLISH}", ENGLISH, templates, everything, share).is_translated
    if chosen.is_translated:
        rest = {k: v for k, v in everything.items() if k != chosen.texts()[0]}
        assert choose_template(f"s:{number}@deu_Latn", "deu_Latn", templates, rest, share) != chosen


def test_the_share_of_translated_prompts_is_that_of_the_mix_and_templates_are_spread():
    templates = read_templates()["vqa"]
    everything = {text: text for text in prompt_texts(read_templates())}
    chosen = [choose_template(f"s:{i}@deu_Latn", "deu_Latn", templates, everything, 0.3) for i in range(2000)]
    assert abs(sum(t.is_translated for t in chosen) / 2000 - 0.3) < 0.05
    assert {t.id for t in chosen} == {t.id for t in templates}


def candidates():
    """One planned text of each task, in three languages."""
    rows = [
        {
            "id": f"s:{task}-{i}@{language}",
            "example": f"s:{task}-{i}",
            "source": "s",
            "task": task,
            "language": language,
            "fields": [{"role": r, "source": t, "text": t} for r, t in FIELDS[task]],
            "status": "translated",
        }
        for task in TASKS
        for language in ("deu_Latn", "zho_Hans", ENGLISH)
        for i in range(2)
    ]
    return pa.Table.from_pylist(rows, schema=CANDIDATES)


def rendered_samples(accepted):
    templates = read_templates()
    prompts = {x: {text: f"[{text}]" for text in prompt_texts(templates)} for x in ("deu_Latn", "zho_Hans")}
    images = {e: ("a.jpg", "0" * 64) for e in accepted["example"].to_pylist()}
    samples = render(accepted, images, {}, prompts, templates, 0.5)
    kept = ("prompt_language", "target_language", "template", "prompt", "target")
    return {r["id"]: {k: r[k] for k in kept} for r in samples.to_pylist()}


def test_rendering_is_the_same_on_any_machine_and_in_any_order():
    """The golden file is what every machine must give: hashes of the ids choose the templates, and nothing else does."""
    accepted = candidates()
    expected = json.loads(GOLDEN_SAMPLES.read_text(encoding="utf-8"))
    assert rendered_samples(accepted) == expected
    order = list(range(accepted.num_rows))
    Random(1).shuffle(order)
    assert rendered_samples(accepted.take(order)) == expected
    assert rendered_samples(accepted.slice(5, 3)) == {i: expected[i] for i in accepted["id"].to_pylist()[5:8]}


def test_each_side_of_a_sample_says_its_language():
    for planned, sample in rendered_samples(candidates()).items():
        task, language = planned.split(":")[1].rsplit("-", 1)[0], planned.split("@")[1]
        assert sample["target_language"] == (ENGLISH if task in ("matching", "object_presence") else language)
        assert sample["prompt_language"] in (language, ENGLISH)
        if "[" in sample["prompt"]:  # the prompt's own words were translated
            assert sample["prompt_language"] == language


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(rendered(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    GOLDEN_SAMPLES.write_text(
        json.dumps(rendered_samples(candidates()), ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
