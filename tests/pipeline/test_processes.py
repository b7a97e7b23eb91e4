"""Processes that work and go: seen from outside."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.processes import process_pool
from tests.processes import is_running, wait_until_gone

ROOT = Path(__file__).resolve().parents[2]


def test_work_is_done_in_other_processes():
    with process_pool(2) as pool:
        found = [f.result() for f in [pool.submit(pow, 2, n) for n in range(5)]]
        pid = pool.submit(os.getpid).result()
    assert found == [1, 2, 4, 8, 16] and pid != os.getpid()
    wait_until_gone([pid])


def test_an_error_in_the_block_ends_the_processes_at_once():
    with pytest.raises(RuntimeError, match="over"), process_pool(1) as pool:
        pid = pool.submit(os.getpid).result()
        pool.submit(time.sleep, 600)
        raise RuntimeError("over")
    wait_until_gone([pid])


def test_no_process_outlives_a_parent_that_was_killed():
    code = (
        "import os, time; from pipeline.processes import process_pool\n"
        "with process_pool(2) as pool:\n"
        "    jobs = [pool.submit(time.sleep, 1) for _ in range(2)]\n"
        "    pids = {pool.submit(os.getpid).result() for _ in range(9)}\n"
        "    pool.submit(time.sleep, 600)\n"  # one works, one waits for work
        "    print(*pids, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        pids = [int(x) for x in parent.stdout.readline().split()]
        assert pids and all(map(is_running, pids))
        parent.kill()
    wait_until_gone(pids)
