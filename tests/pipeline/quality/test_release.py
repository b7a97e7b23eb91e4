"""What can be done after a run: sweep a threshold, compare two releases, take samples back."""

import csv

import pyarrow as pa
import pytest

from pipeline import files
from pipeline.corpus import LEDGER, SCORES
from pipeline.quality import diff, readmit, sweep
from pipeline.quality.accept import VERDICTS, accept, read_policy
from pipeline.quality.release import REJECTED, ReleaseError, read_policy_of, read_scores, read_verdicts

from .test_accept import row

LANGUAGES = {"deu_Latn": {"check": "group", "detail": ""}, "xho_Latn": {"check": "unverified", "detail": ""}}


def make_run(folder, rows, policy=None):
    policy = policy or read_policy()
    scores = pa.Table.from_pylist(rows, schema=SCORES)
    for language in ("deu_Latn", "xho_Latn"):
        mine = [r for r in rows if r["language"] == language]
        files.write_table(folder / "score" / f"scores-{language}.parquet", pa.Table.from_pylist(mine, schema=SCORES))
    files.write_json(folder / "run.json", {"languages": LANGUAGES, "policy": policy.model_dump(mode="json")})
    _, contracts = read_policy_of(folder)
    verdicts = accept(scores, contracts, policy, readmit.read_readmitted(folder))
    files.write_table(folder / "accept" / "verdicts.parquet", verdicts)
    ledger = [
        {
            "id": v["id"],
            "language": v["id"].split("@")[1],
            "stage": "accept",
            "reason": v["reason"],
            "detail": v["detail"],
        }
        for v in verdicts.to_pylist()
        if v["reason"]
    ]
    files.write_table(folder / "accept" / "ledger.parquet", pa.Table.from_pylist(ledger, schema=LEDGER))
    return folder


ROWS = [
    row("a@deu_Latn", repetition=0.9),
    row("b@deu_Latn", repetition=0.35),
    row("c@deu_Latn"),
    row("d@xho_Latn", language="xho_Latn", repetition=0.5),
    row("e@deu_Latn", characters=0),
]


def test_a_sweep_shows_what_each_threshold_keeps_per_language(tmp_path, capsys):
    run = make_run(tmp_path / "run", ROWS)
    out = tmp_path / "sweep.csv"
    assert sweep.main([str(run), "--check", "repetition", "--limits", "0.3", "0.6", "--out", str(out)]) == 0
    with open(out, encoding="utf-8") as file:
        kept = {(r["language"], r["limit"]): int(r["kept"]) for r in csv.DictReader(file)}
    assert [kept["deu_Latn", x] for x in ("0.3", "0.6", "off")] == [1, 2, 3]
    assert [kept["xho_Latn", x] for x in ("0.3", "0.6", "off")] == [0, 1, 1]
    assert kept["all", "off"] == 4
    assert "deu_Latn             4" in capsys.readouterr().out
    assert sweep.main([str(run), "--check", "beauty", "--limits", "1"]) == 2
    assert "no check 'beauty'" in capsys.readouterr().err


def test_a_difference_names_each_sample_that_changed_and_why(tmp_path, capsys):
    first = make_run(tmp_path / "first", ROWS)
    second = make_run(
        tmp_path / "second", [*ROWS[1:], row("f@deu_Latn")], sweep.with_limit(read_policy(), "repetition", 0.6)
    )
    out = tmp_path / "changes.csv"
    assert diff.main([str(first), str(second), "--out", str(out)]) == 0
    with open(out, encoding="utf-8") as file:
        found = {r["id"]: (r["before"], r["after"]) for r in csv.DictReader(file)}
    assert found == {
        "a@deu_Latn": ("repetition", "absent"),
        "b@deu_Latn": ("repetition", "accepted"),
        "d@xho_Latn": ("repetition", "accepted"),
        "f@deu_Latn": ("absent", "accepted"),
    }
    assert "repetition → accepted" in capsys.readouterr().out
    assert diff.main([str(first), str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err


def test_a_published_dataset_is_compared_by_its_index_and_its_rejected(tmp_path):
    run = make_run(tmp_path / "run", ROWS)
    shards = tmp_path / "data"
    verdicts = read_verdicts(run).to_pylist()
    kept = [v["id"] for v in verdicts if not v["reason"]]
    files.write_table(shards / "index.parquet", pa.table({"id": pa.array(kept, pa.string())}))
    files.write_table(shards / REJECTED, files.read_table(run / "accept" / "ledger.parquet"))
    assert diff.changes(read_verdicts(run), read_verdicts(shards)) == []


def test_ids_from_a_file_are_readmitted_once_and_only_if_they_were_rejected(tmp_path, capsys):
    run = make_run(tmp_path / "run", ROWS)
    ids = tmp_path / "ids.txt"
    ids.write_text(
        "# appeals of the German reader\na@deu_Latn\tfine, it is a song\n\nb@deu_Latn # good\na@deu_Latn\n",
        encoding="utf-8",
    )
    assert readmit.main([str(run), str(ids)]) == 0
    assert "2 readmitted" in capsys.readouterr().out
    assert (run / "readmitted.txt").read_text(encoding="utf-8") == "a@deu_Latn\nb@deu_Latn\n"
    assert readmit.readmit(run, ["a@deu_Latn"]) == []
    make_run(run, ROWS)
    assert {v["id"]: v["reason"] for v in read_verdicts(run).to_pylist()}["a@deu_Latn"] == ""
    assert readmit.readmit(run, ["a@deu_Latn"]) == []  # no longer in the ledger, but known
    for wrong, message in [("z@deu_Latn", "no rejected sample 'z@deu_Latn'"), ("e@deu_Latn", "rejected as empty")]:
        with pytest.raises(ValueError, match=message):
            readmit.readmit(run, [wrong])


def test_a_folder_without_scores_is_refused(tmp_path):
    with pytest.raises(ReleaseError, match="no run folder"):
        read_scores(tmp_path)
    assert VERDICTS.names == ["id", "reason", "detail"]
