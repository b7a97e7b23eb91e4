"""Real processes: killed at random moments, and several at once. They are forked from a server that has imported everything, so that one starts
in a moment; the launcher's own test is slow."""

import json
import multiprocessing
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluation import benchmarks
from evaluation.evaluate import main

ASKED = (
    "--benchmark",
    "xflickrco",
    "marvl",
    "--languages",
    "de",
    "zh",
    "--protocol",
    "polyalign",
    "--limit",
    "4",
    "--batch-size",
    "1",
)


@pytest.fixture(scope="module")
def launched():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["evaluation.evaluate"])
    return context


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    """The untrained model as a Hugging Face folder. Its generation ends after four tokens, since an untrained model would go on."""
    out = tmp_path_factory.mktemp("model")
    model.model.save_pretrained(out)
    model.tokenizer.save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def command(written, folder) -> list[str]:
    return ["--model", str(folder), "--data", str(written[0]), *ASKED]


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory) -> tuple[dict, dict]:
    out = tmp_path_factory.mktemp("undisturbed")
    main([*command, "--out", str(out)])
    return answers(out), scores(out)


def answers(out: Path) -> dict[str, dict]:
    rows = [json.loads(line) for path in out.glob("*.predictions.*.jsonl") for line in path.read_text().splitlines()]
    by_id = {(row["id"], row["prompt"]): row for row in rows}
    assert len(by_id) == len(rows), "something was asked twice"
    return by_id


def scores(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())["benchmarks"]


def as_rank(rank: int, world: int, port: int, argv: list[str]) -> None:
    """What a launcher does: says to the process who it is."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}  # fmt: skip
    main(argv)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_process_killed_at_random_moments_ends_with_the_answers_of_one_that_was_not(
    launched, command, undisturbed, tmp_path
):
    moments = random.Random(8)
    kills, started = 0, time.monotonic()
    while True:
        process = launched.Process(target=main, args=([*command, "--out", str(tmp_path)],))
        process.start()
        begun = sum(path.stat().st_size for path in tmp_path.glob("*.predictions.*.jsonl"))
        patience = moments.choice((0.0, 0.05, 0.2, 0.5))
        while process.is_alive() and kills < 4:  # let it answer something first, then kill it a moment later
            if sum(path.stat().st_size for path in tmp_path.glob("*.predictions.*.jsonl")) > begun:
                process.join(patience)
                if process.is_alive():
                    process.kill()
                    process.join()
                    kills += process.exitcode == -9
                break
            time.sleep(0.005)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -9 and time.monotonic() - started < 120
    assert kills >= 3, "it was done before it could be killed"
    assert answers(tmp_path) == undisturbed[0]
    assert scores(tmp_path) == undisturbed[1]


def test_two_processes_answer_disjoint_halves_and_report_as_one_does(launched, command, undisturbed, tmp_path):
    port = free_port()
    both = [
        launched.Process(target=as_rank, args=(rank, 2, port, [*command, "--out", str(tmp_path)])) for rank in (0, 1)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    for name, items in (("xflickrco", 8), ("marvl", 4)):  # MaRVL has no German
        halves = [len((tmp_path / f"{name}.predictions.{rank}.jsonl").read_text().splitlines()) for rank in (0, 1)]
        assert abs(halves[0] - halves[1]) <= 1 and sum(halves) == items
    assert answers(tmp_path) == undisturbed[0]
    assert scores(tmp_path) == undisturbed[1]


@pytest.mark.slow
def test_the_launcher_ends_all_when_one_dies_and_the_same_command_goes_on(command, undisturbed, written, tmp_path):
    """accelerate launch with two CPU processes: one finds an image damaged and fails, so the launcher fails and there is no report."""
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(free_port()),
              "-m", "evaluation.evaluate", *command, "--out", str(tmp_path)]  # fmt: skip
    image = benchmarks.read("marvl", written[0], ["zh"])[0].images[0]
    content = image.read_bytes()
    image.unlink()
    image.write_bytes(content[:100])
    try:
        failed = subprocess.run(launch, capture_output=True, text=True, timeout=300, check=False)
    finally:
        image.unlink()
        image.write_bytes(content)
    assert failed.returncode != 0 and str(image) in failed.stderr and not (tmp_path / "report.json").exists()
    done = subprocess.run(launch, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "xFlickrCO" in done.stdout and done.stdout.count("report:") == 1
    assert answers(tmp_path) == undisturbed[0] and scores(tmp_path) == undisturbed[1]
