"""Promise 3: scores are facts, thresholds are policy."""

import pyarrow as pa
import pytest
import yaml

from pipeline.corpus import SCORES
from pipeline.quality.accept import DEFAULT_POLICY, PolicyError, accept, read_policy
from pipeline.quality.learn import LESSONS
from pipeline.quality.lid import Contract
from pipeline.quality.policy import parse_policy
from pipeline.quality.score import sample_scores

from .conftest import candidate

CONTRACTS = {
    "deu_Latn": Contract("group", "deu_Latn", ("deu_Latn", "ltz_Latn")),
    "xho_Latn": Contract("unverified", None, ()),
}
FINE = {
    "source_copy": 0.0,
    "script_share": 1.0,
    "length_ratio": 1.0,
    "length_deviation": 0.0,
    "repetition": 0.0,
    "truncation": 0.0,
    "numbers_lost": 0.0,
    "numbers_changed": 0.0,
    "options_lost": 0.0,
    "markup": 0.0,
    "unknown_tokens": 0.0,
    "log_probability": -1.0,
    "answer_agreement": 1.0,
    "language_probability": 0.9,
    "group_probability": 0.9,
    "english_probability": 0.0,
    "language_label": "deu_Latn",
}


def row(
    sample="s@x",
    language="deu_Latn",
    field=0,
    status="translated",
    words=8,
    characters=40,
    task="captioning",
    judged=None,
    **scores,
):
    return {
        "id": sample,
        "field": field,
        "role": "caption",
        "language": language,
        "task": task,
        "status": status,
        "source_words": words,
        "words_judged": words if judged is None else judged,
        "characters": characters,
        "bytes_judged": characters,
        "scores": {**FINE, **scores},
    }


def verdicts(rows, policy=None, readmitted=()):
    table = pa.Table.from_pylist(list(rows), schema=SCORES)
    return {v["id"]: v for v in accept(table, CONTRACTS, policy or read_policy(), readmitted).to_pylist()}


def reasons(*rows, policy=None, readmitted=()):
    return {name: v["reason"] for name, v in verdicts(rows, policy, readmitted).items()}


def changed(reason, **check):
    content = yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8"))
    content["checks"][reason].update(check)
    return parse_policy(content, "policy.yaml")


def test_a_fine_sample_is_accepted():
    assert reasons(row()) == {"s@x": ""}


FAULTS = [
    ({"status": "too_long"}, "too_long"),
    ({"status": "unfinished"}, "unfinished"),
    ({"characters": 0}, "empty"),
    ({"unknown_tokens": 1.0}, "unknown_tokens"),
    ({"markup": 1.0}, "markup"),
    ({"script_share": 0.2}, "wrong_script"),
    ({"source_copy": 0.9}, "source_copy"),
    ({"repetition": 0.9}, "repetition"),
    ({"numbers_changed": 0.5}, "numbers"),
    ({"options_lost": 0.5}, "options"),
    ({"length_deviation": -9.0}, "too_short"),
    ({"length_deviation": 9.0}, "too_wordy"),
    ({"truncation": 3.5}, "truncated"),
    ({"log_probability": -9.0}, "log_probability"),
    ({"answer_agreement": 0.0}, "answer"),
    ({"language_label": "fra_Latn", "group_probability": 0.0}, "wrong_language"),
    ({"language": "xho_Latn", "english_probability": 0.9, "language_label": "eng_Latn"}, "english"),
]


@pytest.mark.parametrize(("change", "reason"), FAULTS)
def test_each_fault_has_its_reason(change, reason):
    assert reasons(row(**change)) == {"s@x": reason}


def test_every_check_of_the_policy_is_tried_here_and_learnt_or_set_by_a_lesson():
    assert {"too_long", "unfinished", "empty", *read_policy().checks} == {reason for _, reason in FAULTS}
    assert list(read_policy().checks) == [lesson.reason for lesson in LESSONS]


@pytest.mark.parametrize(
    "change",
    [
        {"source_copy": 1.0, "words": 1},  # a name or a loanword
        {"language_label": "fra_Latn", "group_probability": 0.5},  # not the first, but likely
        {"language": "xho_Latn", "language_label": "zul_Latn", "group_probability": 0.0},  # unverified
        {"numbers_lost": 1.0},  # written as a word
    ],
)
def test_what_can_not_be_told_is_not_rejected(change):
    assert reasons(row(**change)) == {"s@x": ""}


def test_one_bad_field_rejects_the_sample_with_the_first_reason_of_its_first_bad_field():
    rows = [
        row("a", field=0),
        row("a", field=1, repetition=1.0, script_share=0.0),
        row("a", field=2, unknown_tokens=9.0),
        row("b"),
        row("a", field=3, characters=0),
    ]
    found = verdicts(rows)
    assert {name: v["reason"] for name, v in found.items()} == {"a": "wrong_script", "b": ""}
    assert found["a"]["detail"] == "caption: script_share is 0, below 0.5"


def test_a_threshold_can_be_changed_on_the_same_scores():
    rows = [row(repetition=0.55)]
    assert reasons(*rows) == {"s@x": "repetition"}
    assert reasons(*rows, policy=changed("repetition", above=0.6, languages={})) == {"s@x": ""}


def test_thresholds_go_by_length_language_and_task():
    by_length = changed("repetition", above=[None, 0.9, 0.5, 0.5, 0.1])
    assert [reasons(row(words=n, repetition=0.6), policy=by_length)["s@x"] for n in (1, 3, 7, 16)] == [
        "",
        "",
        "repetition",
        "repetition",
    ]
    by_language = changed("repetition", above=0.5, languages={"de": 0.8})
    assert reasons(row(repetition=0.7), policy=by_language) == {"s@x": ""}
    assert reasons(row(language="xho_Latn", repetition=0.7), policy=by_language) == {"s@x": "repetition"}
    by_task = changed("repetition", above=0.5, languages={"de": 0.8}, tasks={"vqa": 0.1})
    assert reasons(row(task="vqa", repetition=0.2), policy=by_task) == {"s@x": "repetition"}


def test_identification_goes_by_the_words_of_all_fields():
    policy = changed("wrong_language", below=[None, None, 0.5, 0.5, 0.5], languages={})
    assert reasons(row(words=1, judged=9, group_probability=0.1), policy=policy) == {"s@x": "wrong_language"}
    assert reasons(row(words=1, judged=1, group_probability=0.1), policy=policy) == {"s@x": ""}


def test_a_person_can_readmit_a_sample_and_the_verdict_says_so():
    rows = [row("a", repetition=1.0), row("b", repetition=1.0), row("c", characters=0)]
    found = verdicts(rows, readmitted=("a", "c", "unheard of"))
    assert {name: v["reason"] for name, v in found.items()} == {"a": "", "b": "repetition", "c": "empty"}
    assert found["a"]["detail"].startswith("readmitted: repetition")


@pytest.mark.parametrize(
    ("reason", "check", "message"),
    [
        ("repetition", {"above": "much"}, "repetition"),
        ("repetition", {"signal": "rep"}, "signal"),
        ("repetition", {"below": 0.1}, "`above` or `below`"),
        ("repetition", {"languages": {"klingon": 0.1}}, "klingon"),
        ("repetition", {"tasks": {"painting": 0.1}}, "painting"),
        ("repetition", {"above": [0.1, 0.2]}, "above"),
    ],
)
def test_a_wrong_policy_is_refused_with_file_and_key(tmp_path, reason, check, message):
    content = yaml.safe_load(DEFAULT_POLICY.read_text(encoding="utf-8"))
    content["checks"][reason].update(check)
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(PolicyError, match=rf"policy\.yaml: .*{message}"):
        read_policy(path)
    with pytest.raises(PolicyError, match="nowhere"):
        read_policy(tmp_path / "nowhere.yaml")


def test_of_several_fields_the_worst_score_counts():
    rows = [
        row("a", script_share=0.9, length_ratio=0.2, repetition=0.1, length_deviation=-3.0),
        row("b"),
        row("a", length_ratio=1.5, length_deviation=1.0),
    ]
    table = sample_scores(pa.Table.from_pylist(rows, schema=SCORES))
    assert table["id"].to_pylist() == ["a", "b"]
    worst = table["scores"][0].as_py()
    assert worst["script_share"] == pytest.approx(0.9) and worst["length_ratio"] == pytest.approx(0.2)
    assert worst["length_deviation"] == -3 and worst["repetition"] == pytest.approx(0.1)
    assert sample_scores(SCORES.empty_table()).num_rows == 0


def test_question_and_answer_are_judged_together(judge):
    question = ("question", "Which animal sleeps on the red sofa?", "Welches Tier schläft auf dem roten Sofa?")
    good = candidate("deu_Latn", [question, ("answer", "cat", "Katze")], "vqa", "good")
    english = candidate("deu_Latn", [(*question[:2], question[1]), ("answer", "cat", "cat")], "vqa", "english")
    strange = candidate(
        "deu_Latn",
        [("question", "Is it red or blue?", "Ist es rot oder blau?"), ("answer", "blue", "traurig")],
        "vqa",
        "strange",
    )
    assert judge(good, english, strange) == {
        "good@deu_Latn": "",
        "english@deu_Latn": "source_copy",
        "strange@deu_Latn": "answer",
    }
