"""Processes for work that holds Python's lock, such as scoring: threads would share one core.

They are spawned, so they work the same on Linux, macOS and Windows, and none outlives its parent, however that ends.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


def available_cores() -> int:
    """The cores that this process may use; all of the machine's where the system does not say (macOS, Windows)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone. Without it, a worker of a killed parent waits for work forever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches parent and children; the parent ends them
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextmanager
def process_pool(most: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of up to `most` processes; each is started when there is work for it. If the block raises, the processes are ended at once."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(most, mp_context=multiprocessing.get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        raise
