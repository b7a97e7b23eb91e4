"""Several processes do what one does, and stop together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.processes import children_of, is_running
from tests.training.test_realign import losses, options
from training.options import arguments
from training.realign import realign

ROOT = Path(__file__).resolve().parents[2]


def torchrun(argv: list[str], processes: int = 2) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.Popen(
        [*command, str(ROOT / "training" / "realign.py"), *argv],
        env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_processes_have_the_losses_of_one(shards, base, tmp_path):
    argv = ["--max-steps", 6, "--texts-per-image", 3, "--batch-tokens", 200]
    process = torchrun(options(shards, base, tmp_path / "two", *argv))
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    one = realign(arguments(options(shards, base, tmp_path / "one", *argv)))
    for alone, together in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert together == pytest.approx(alone, rel=1e-5)
    two = json.loads((tmp_path / "two" / "result.json").read_text())
    assert two["loss_right_images"] == pytest.approx(one["loss_right_images"], rel=1e-4)
    assert two["samples"] == one["samples"]
    # losses by group are sums over both processes
    last_one, last_two = (
        json.loads((tmp_path / name / "groups.jsonl").read_text().splitlines()[-1]) for name in ("one", "two")
    )
    for name, (nats, *counts) in last_one["language"].items():
        assert last_two["language"][name][1:] == counts
        assert last_two["language"][name][0] == pytest.approx(nats, rel=1e-4)


@pytest.mark.slow
def test_a_killed_process_stops_all_and_they_go_on_also_as_one(shards, base, tmp_path):
    argv = ["--max-steps", 30, "--checkpoint-every", 4, "--lora-dropout", 0.05]
    whole = torchrun(options(shards, base, tmp_path / "whole", *argv))
    assert whole.communicate(timeout=300) and whole.returncode == 0

    process = torchrun(options(shards, base, tmp_path / "killed", *argv))
    log = tmp_path / "killed" / "train_log.jsonl"
    while not log.exists() or log.read_text().count("\n") < 6:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    children = children_of(process.pid)
    os.kill(children[-1], signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "SIGKILL" in told or "Another process of this run is gone" in told
    assert not any(map(is_running, children))

    process = torchrun(options(shards, base, tmp_path / "killed", *argv, "--resume"))
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    a, b = (load_file(tmp_path / x / "adapter" / "aligned_parts.safetensors") for x in ("killed", "whole"))
    assert all(a[name].equal(b[name]) for name in b)


@pytest.mark.slow
def test_another_number_of_processes_goes_on_at_the_same_sample(shards, base, tmp_path):
    argv = ["--max-steps", 6, "--checkpoint-every", 3]
    realign(arguments(options(shards, base, tmp_path / "one", *argv)))
    process = torchrun(options(shards, base, tmp_path / "three", *argv), processes=3)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    # go on as one process from what three left at step 3
    (tmp_path / "three" / "checkpoints" / "step-00000006").rename(tmp_path / "not needed")
    realign(arguments(options(shards, base, tmp_path / "three", *argv, "--resume")))
    for alone, mixed in zip(losses(tmp_path / "one"), losses(tmp_path / "three"), strict=True):
        assert mixed == pytest.approx(alone, rel=1e-5)
