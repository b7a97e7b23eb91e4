"""Promise 3: scores are facts, thresholds are policy."""

import pyarrow as pa
import pytest

from pipeline.corpus import SCORES
from pipeline.quality.accept import DEFAULT_POLICY, PolicyError, accept, read_policy
from pipeline.quality.lid import Contract

CONTRACTS = {"deu_Latn": Contract("group", "de", ("de", "nl")), "xho_Latn": Contract("unverified", None, ())}
FINE = {
    "source_copy": 0.0,
    "script_share": 1.0,
    "length_ratio": 1.0,
    "repetition": 0.0,
    "log_probability": -1.0,
    "unknown_tokens": 0.0,
    "language_probability": 0.9,
    "group_probability": 0.9,
    "english_probability": 0.0,
    "language_label": "de",
}


def row(sample="s@x", language="deu_Latn", field=0, status="translated", words=8, characters=40, size=40, **scores):
    common = {
        "id": sample,
        "field": field,
        "role": "caption",
        "language": language,
        "task": "captioning",
        "status": status,
    }
    lengths = {"source_words": words, "characters": characters, "bytes_judged": size}
    return {**common, **lengths, "scores": {**FINE, **scores}}


def reasons(*rows, **policy):
    changed = read_policy().model_copy(update=policy)
    return {
        v["id"]: v["reason"]
        for v in accept(pa.Table.from_pylist(list(rows), schema=SCORES), CONTRACTS, changed).to_pylist()
    }


def test_a_fine_sample_is_accepted():
    assert reasons(row()) == {"s@x": ""}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "too_long"}, "too_long"),
        ({"status": "unfinished"}, "unfinished"),
        ({"characters": 0}, "empty"),
        ({"unknown_tokens": 1.0}, "unknown_tokens"),
        ({"source_copy": 0.9}, "source_copy"),
        ({"script_share": 0.2}, "wrong_script"),
        ({"repetition": 0.9}, "repetition"),
        ({"length_ratio": 0.1}, "too_short"),
        ({"length_ratio": 9.0}, "too_wordy"),
        ({"log_probability": -9.0}, "log_probability"),
        ({"language_label": "fr", "group_probability": 0.1}, "wrong_language"),
        ({"language": "xho_Latn", "english_probability": 0.9, "language_label": "en"}, "english"),
    ],
)
def test_each_fault_has_its_reason(change, reason):
    assert reasons(row(**change)) == {"s@x": reason}


@pytest.mark.parametrize(
    "change",
    [
        {"source_copy": 1.0, "words": 2},  # a name or a loanword
        {"language_label": "nl", "group_probability": 0.1},  # confusable
        {"language_label": "fr", "group_probability": 0.5},  # not the first, but likely
        {"language_label": "fr", "group_probability": 0.0, "size": 10},  # too short to be judged
        {"language": "xho_Latn", "language_label": "zu", "group_probability": 0.0},  # unverified
    ],
)
def test_what_can_not_be_told_is_not_rejected(change):
    assert reasons(row(**change)) == {"s@x": ""}


def test_one_bad_field_rejects_the_sample_with_the_first_reason():
    rows = [
        row("a", field=0),
        row("a", field=1, script_share=0.0, repetition=1.0),
        row("a", field=2, length_ratio=9.0),
        row("b"),
    ]
    assert reasons(*rows) == {"a": "wrong_script", "b": ""}


def test_a_threshold_can_be_changed_on_the_same_scores():
    rows = [row(repetition=0.5)]
    assert reasons(*rows) == {"s@x": "repetition"}
    assert reasons(*rows, max_repetition=0.6) == {"s@x": ""}


def test_a_wrong_policy_is_refused_with_file_and_key(tmp_path):
    text = DEFAULT_POLICY.read_text(encoding="utf-8")
    path = tmp_path / "policy.yaml"
    for old, new, message in [
        ("max_repetition: 0.4", "max_repetition: 4", "max_repetition"),
        ("max_repetition", "max_rep", "max_rep"),
    ]:
        path.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(PolicyError, match=rf"policy\.yaml: .*{message}"):
            read_policy(path)
    with pytest.raises(PolicyError, match="nowhere"):
        read_policy(tmp_path / "nowhere.yaml")
