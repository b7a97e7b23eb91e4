"""Scoring a language, in a process of its own where there is much to score.

Scoring is Python that holds its lock, so tasks on threads would share one core. When a run has many texts, the tasks of this process hand their
language to a pool of processes and wait. A process takes seconds to start (it opens the run and loads the identifiers), so a small run is scored on
the threads. Where a task runs on another machine (Ray), there is no pool, and it scores by itself. What is written is the same bytes in every case.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from flows import steps
from flows.run import open_run
from pipeline.processes import available_cores, process_pool

PROCESSES_FROM = 100_000
"""Texts from which processes pay: about 20 s of scoring on one core."""

_pool: ProcessPoolExecutor | None = None


@contextmanager
def processes_for(texts: int) -> Iterator[None]:
    """While the block runs, `score_language` in this process uses as many processes as there are cores, if `texts` are enough."""
    global _pool
    cores = available_cores()
    if texts < PROCESSES_FROM or cores < 2:
        yield
        return
    with process_pool(cores) as _pool:
        try:
            yield
        finally:
            _pool = None


def score_language(mix: str, out: str, language: str) -> None:
    """Score one language of a run; what is there already stays."""
    pool = _pool
    if pool is None:
        _score(mix, out, language)
        return
    try:
        pool.submit(_score, mix, out, language).result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"A process that scored {language} ended early, most likely killed for its memory. "
            "Give it more memory or fewer cores, and run the flow again: it goes on from here."
        ) from error


def _score(mix: str, out: str, language: str) -> None:
    steps.score_language(open_run(mix, out), language)
