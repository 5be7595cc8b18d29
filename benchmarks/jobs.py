"""Lists of trainings that can stop and go on: what is left is worked off, job by job."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol


class Job(Protocol):
    """One training; ``str`` names it in the log."""

    @property
    def result(self) -> Path:
        """Where its figures are written; there once it is done."""


def work_off(
    jobs: Sequence[Job],
    run_job: Callable[[Any, Path], dict[str, Any]],
    work: Path,
    minutes: float | None = None,
    at_once: int = 1,
) -> None:
    """Run what has no result yet, each job in a process of its own, with one thread.

    What TensorFlow keeps of a network goes with the process. One thread each, so that bits depend
    neither on the number of cores nor on how many jobs run side by side.

    Parameters
    ----------
    jobs : sequence of Job
    run_job : callable
        Job and folder to figures, among them ``seconds``; a function of a module.
    work : Path
        Caches, made if need be. Jobs that run side by side share it.
    minutes : float or None
        Begin no job after so long.
    at_once : int
        Jobs side by side.

    Raises
    ------
    Exception
        Of the first job that fails; those beside it end first, no other begins.
    """
    missing = [job for job in jobs if not job.result.exists()]
    work.mkdir(parents=True, exist_ok=True)
    started, left = time.monotonic(), len(missing)

    ended = threading.Event()

    def run(job: Job) -> dict[str, Any] | None:
        if ended.is_set() or (minutes and time.monotonic() - started > 60 * minutes):
            return None
        try:
            with ProcessPoolExecutor(1, get_context("spawn"), _one_thread) as process:
                return process.submit(run_job, job, work).result()
        except BaseException:
            ended.set()
            raise

    with ThreadPoolExecutor(at_once) as threads:
        running = {threads.submit(run, job): job for job in missing}
        try:
            for future in as_completed(running):
                result = future.result()
                if result is not None:
                    left -= 1
                    print(f"{left} left: {running[future]}: {result['seconds']} s", flush=True)
        finally:
            ended.set()


def _one_thread() -> None:
    """Before anything is imported that reads these."""
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[name] = "1"
