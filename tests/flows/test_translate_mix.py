"""The flow from outside: files on disk, killed processes, exit codes.

The small mix runs once undisturbed (`finished`); the other tests compare with it or go on from a copy of it. A Prefect server is started once for all
processes, so that a killed run does not leave a server of its own behind.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
import yaml

from flows import steps
from pipeline import files
from pipeline.corpus import LEDGER, PLAN, SAMPLES
from pipeline.memory import engines, is_into_english
from pipeline.quality import readmit
from pipeline.verify import verify
from tests.processes import children_of, wait_until_gone

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Environment of the processes, with a Prefect server to talk to."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    variables |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with open(home / "server.log", "wb") as log:
        server = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}/api"
        for _ in range(240):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                break
            assert server.poll() is None, (home / "server.log").read_text()
            time.sleep(0.5)
        else:
            pytest.fail((home / "server.log").read_text())
        yield {**variables, "PREFECT_API_URL": url}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture
def flow(environment):
    """Run the flow to its end; returns the finished process."""

    def run(mix: Path, out: Path, *options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flows.translate_mix", str(mix), "--out", str(out), *options]
        process = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        assert process.returncode == code, process.stdout + process.stderr
        return process

    return run


def dataset(out: Path) -> dict[str, bytes]:
    """What a user gets: shards and card, without the stages' own bookkeeping."""
    paths = [p for folder in ("shards", "card") for p in sorted((out / folder).rglob("*")) if p.is_file()]
    return {str(p.relative_to(out)): p.read_bytes() for p in paths}


@pytest.fixture(scope="module")
def finished(environment, tmp_path_factory):
    """(mix file, run folder) of an undisturbed run; not to be changed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    mix = folder / "mix.yaml"
    sample = ROOT / "demo" / "sample"
    names = {"photos": 20, "emoji": 30, "easy_vqa": 15}
    sources = [{"name": n, "path": str(sample / f"{n}.jsonl"), "limit": limit} for n, limit in names.items()]
    content = {
        "name": "small",
        "sources": sources,
        "languages": {
            "include": ["de", "ar", "hi", "zh", "sw", "xh", "ru", "th"],
            "per_example": 3,
            "floor": 25,
            "english": 0.3,
        },
        "translation": {
            "model": str(ROOT / "demo/translation_model/ct2-int8"),
            "licence": "Apache-2.0",
            "block_sentences": 8,
        },
        "shards": {"count": 3},
        "memory": "memory",
    }
    mix.write_text(yaml.safe_dump(content), encoding="utf-8")
    command = [sys.executable, "-m", "flows.translate_mix", str(mix), "--out", str(folder / "run")]
    process = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return mix, folder / "run"


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run that may be changed."""
    shutil.copytree(finished[0].parent, tmp_path / "copy")
    return tmp_path / "copy" / "mix.yaml", tmp_path / "copy" / "run"


def test_examples_in_are_samples_out_plus_ledger_rows_in_every_language(finished):
    """Promise 4: nothing is dropped in silence."""
    _, out = finished
    plan, samples, ledger = (
        Counter(files.read_table(out / name)["language"].to_pylist())
        for name in ("plan/plan.parquet", "render/samples.parquet", "accept/ledger.parquet")
    )
    assert len(plan) == 9 and plan == samples + ledger
    assert sum(files.read_json(out / "shards" / "manifest.json")["by_language"].values()) == samples.total()
    assert list(verify(out / "shards")) == []


def test_every_ledger_row_has_its_text_scores_and_a_reason(finished):
    rows = files.read_table(finished[1] / "accept" / "ledger.parquet").to_pylist()
    assert rows
    assert all(r["reason"] and r["scores"] and r["fields"][0]["source"] for r in rows)


def test_what_was_rejected_is_published_beside_the_data(finished):
    published = files.read_table(finished[1] / "shards" / "_rejected" / "rejected.parquet")
    ledgers = [files.read_table(finished[1] / stage / "ledger.parquet") for stage in ("accept", "examples")]
    assert published.to_pylist() == [row for ledger in ledgers for row in ledger.to_pylist()]


def test_a_readmitted_sample_is_in_the_next_shards_and_nothing_is_translated(copied, flow):
    mix, out = copied
    (mix.parent / "ids.txt").write_text(
        files.read_table(out / "accept" / "ledger.parquet")["id"][0].as_py() + "\n", encoding="utf-8"
    )
    assert readmit.main([str(out), str(mix.parent / "ids.txt")]) == 0
    shutil.rmtree(mix.parent / "memory")
    flow(mix, out)
    (name,) = readmit.read_readmitted(out)
    assert name in files.read_table(out / "shards" / "index.parquet")["id"].to_pylist()
    assert name not in files.read_table(out / "accept" / "ledger.parquet")["id"].to_pylist()
    assert not list((mix.parent / "memory").rglob("*.parquet"))


def test_a_second_run_does_nothing_and_says_so(finished, flow):
    mix, out = finished
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    process = flow(mix, out)
    assert "Nothing to do" in process.stderr
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_dry_run_prints_the_plan_and_writes_nothing(finished, flow, tmp_path):
    mix = tmp_path / "mix.yaml"
    content = yaml.safe_load(finished[0].read_text(encoding="utf-8"))
    mix.write_text(yaml.safe_dump(content), encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    process = flow(mix, tmp_path / "run", "--dry-run")
    assert "xho_Latn" in process.stdout and "group" in process.stdout
    assert " 0 are in the memory" in process.stdout and "Nothing was written" in process.stdout
    assert re.search(r"About \d+ (s|min) for the translation, by \d+ sentences decoded here", process.stdout)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_is_killed_twenty_times_ends_with_the_same_bytes(finished, environment, tmp_path):
    """Promise 2. SIGKILL at random moments between the first file of a try and the end, then one run to the end."""
    mix = tmp_path / "mix.yaml"
    shutil.copy(finished[0], mix)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "flows.translate_mix", str(mix), "--out", str(out)]
    chance = random.Random(20)
    stages_hit = Counter()
    killed = 0
    for _ in range(10 * KILLS):
        if killed == KILLS:
            break
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stamp = newest(tmp_path)
        while process.poll() is None and newest(tmp_path) == stamp:
            time.sleep(0.005)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=chance.choice([0.1, 1.0, 4.0]) * chance.random())
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            stages_hit[len(list(out.glob("*/manifest.json")))] += 1
        else:  # it got to the end: from the start again, so that all twenty kills hit work
            shutil.rmtree(out)
            shutil.rmtree(tmp_path / "memory", ignore_errors=True)
    assert killed == KILLS
    assert len(stages_hit) >= 3, f"the kills all hit the same stages: {stages_hit}"
    subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, timeout=300)
    assert dataset(out) == dataset(finished[1])


def newest(folder: Path) -> int:
    """A number that changes when a file of the work comes below `folder`; locks, probes and half-written files do not count."""
    total = 0
    for path in folder.rglob("[!.]*"):
        with contextlib.suppress(FileNotFoundError):
            total = max(total, path.stat().st_mtime_ns if path.is_file() else 0)
    return total


def test_the_number_of_workers_changes_no_byte(finished, flow, tmp_path):
    mix = tmp_path / "mix.yaml"
    shutil.copy(finished[0], mix)
    flow(mix, tmp_path / "run", "--workers", "7")
    assert dataset(tmp_path / "run") == dataset(finished[1])


def test_scoring_in_processes_changes_no_byte_and_a_kill_leaves_none_behind(copied, finished, environment):
    """As a large run does it: here by a threshold of one text. Killed while processes score, then run to the end."""
    mix, out = copied
    shutil.rmtree(out)
    code = (
        "import sys; from flows import scoring; scoring.PROCESSES_FROM = 1; scoring.available_cores = lambda: 2\n"
        "from flows.translate_mix import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, str(mix), "--out", str(out), "--workers", "2"]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(out.glob("score/scores-*.parquet")):
        time.sleep(0.01)
    children = children_of(process.pid)
    assert children, "no process scores"
    process.kill()
    process.wait()
    wait_until_gone(children)
    assert not (out / "score" / "manifest.json").exists()
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert dataset(out) == dataset(finished[1])


def test_changing_a_threshold_translates_nothing_again(copied, flow):
    """Promise 3: it works without the model's answers, from the scores that are there."""
    mix, out = copied
    content = yaml.safe_load(mix.read_text(encoding="utf-8"))
    policy = yaml.safe_load((ROOT / "pipeline" / "quality" / "policy.yaml").read_text(encoding="utf-8"))
    policy["checks"]["log_probability"]["below"] = -0.6
    (mix.parent / "policy.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
    content["quality"] = {"policy": "policy.yaml"}
    mix.write_text(yaml.safe_dump(content), encoding="utf-8")
    shutil.rmtree(mix.parent / "memory")
    rejected = files.read_table(out / "accept" / "ledger.parquet").num_rows
    untouched = {p: p.stat().st_mtime_ns for s in ("translate", "score") for p in (out / s).iterdir()}
    flow(mix, out)
    assert untouched == {p: p.stat().st_mtime_ns for s in ("translate", "score") for p in (out / s).iterdir()}
    assert files.read_table(out / "accept" / "ledger.parquet").num_rows > rejected
    assert not list((mix.parent / "memory").rglob("*.parquet"))


def test_a_memory_is_shared_and_a_damaged_part_of_it_is_done_again(copied, flow, tmp_path):
    mix, out = copied
    there, back = sorted(engines(mix.parent / "memory"), key=is_into_english)
    for memory in (there, back):
        part = memory.parts(memory.languages()[1])[0]
        part.write_bytes(part.read_bytes()[:100])
    process = flow(mix, tmp_path / "another", "--dry-run")
    assert "sentences would be translated" in process.stdout and "\n0 sentences" not in process.stdout
    flow(mix, tmp_path / "another")
    assert dataset(tmp_path / "another") == dataset(out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"translation": {"model": "no/such-model"}}, "no folder no/such-model"),
        ({"sources": [{"name": "a", "path": "nowhere.jsonl"}]}, "nowhere.jsonl"),
        ({"quality": {"labels": "lid218e"}}, "label scheme"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_a_mistake_in_the_mix_ends_with_code_2_and_one_clear_message_before_any_work(
    finished, flow, tmp_path, environment, change, message
):
    environment["HF_HUB_OFFLINE"] = "1"
    content = yaml.safe_load(finished[0].read_text(encoding="utf-8")) | change
    mix = tmp_path / "mix.yaml"
    mix.write_text(yaml.safe_dump(content), encoding="utf-8")
    process = flow(mix, tmp_path / "run", code=2)
    assert message in process.stderr and "Traceback" not in process.stderr
    assert not (tmp_path / "run").exists()


def test_a_folder_that_can_not_be_written_is_named_before_any_work(finished, flow, tmp_path):
    (tmp_path / "file").write_text("in the way")
    process = flow(finished[0], tmp_path / "file" / "run", code=2)
    assert f"{tmp_path / 'file' / 'run'} can't be written" in process.stderr and "Traceback" not in process.stderr


def test_the_reader_in_the_readme_reads_the_shards(finished):
    """The snippet as it stands there, pointed at the small run."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r'python -c "\n(.*?)\n"\n', readme, re.DOTALL)
    shards = sorted(str(p) for p in (finished[1] / "shards").glob("*.tar"))
    code = re.sub(r"'runs/demo/[^']*'", repr(shards), code)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    images = files.read_json(finished[1] / "shards" / "manifest.json")["images"]
    assert process.stdout.count(" -> ") == images > 20


def test_two_processes_do_not_work_in_one_run_folder(tmp_path):
    with files.locked(tmp_path):
        code = (
            f"from pathlib import Path; from pipeline.files import locked\nwith locked(Path({str(tmp_path)!r})): pass"
        )
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert files.RunLocked.__name__ in process.stderr and "Another process is working" in process.stderr


def test_a_sum_that_does_not_hold_is_an_error(finished):
    import pyarrow as pa

    plan = pa.Table.from_pylist([{"example": "a", "language": "deu_Latn"}], schema=PLAN)
    with pytest.raises(steps.AccountingError, match="deu_Latn: 1 examples in"):
        steps.check_sum(plan, SAMPLES.empty_table(), LEDGER.empty_table())
