"""Lists of trainings that can stop and go on: what is left is worked off, job by job."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
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
    minutes: float | None,
) -> None:
    """Run what has no result yet, each job in a process of its own.

    What TensorFlow keeps of a network goes with the process.

    Parameters
    ----------
    jobs : sequence of Job
    run_job : callable
        Job and folder to figures, among them ``seconds``; a function of a module.
    work : Path
        Caches, made if need be.
    minutes : float or None
        Begin no job after so long.
    """
    missing = [job for job in jobs if not job.result.exists()]
    work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    for left, job in zip(range(len(missing), 0, -1), missing, strict=True):
        if minutes and time.monotonic() - started > 60 * minutes:
            break
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            result = process.submit(run_job, job, work).result()
        print(f"{left} left: {job}: {result['seconds']} s", flush=True)
