"""Other processes, seen from outside, on any system."""

import time
from collections.abc import Iterable

import psutil
import pytest


def is_running(pid: int) -> bool:
    """False for a process that ended, though its parent may not have asked for it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def children_of(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


def wait_until_gone(pids: Iterable[int]) -> None:
    """Fail when one of `pids` still runs after half a minute."""
    for _ in range(300):
        left = [pid for pid in pids if is_running(pid)]
        if not left:
            return
        time.sleep(0.1)
    pytest.fail(f"still running: {left}")
