"""Lists of trainings that can stop and go on: what is left is worked off."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from segpipe.backend.switches import prepare_environment
from segpipe.config import flat_values


def thread_variables(number: int) -> dict[str, str]:
    """Variables of the environment that give segpipe's commands so many threads."""
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return dict.fromkeys(names, str(number))


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """Settings, by their dotted names, in which two configurations differ.

    A field that only one of two revisions has does not count.
    """
    first, second = flat_values(one), flat_values(other)
    return {name for name in first.keys() & second.keys() if first[name] != second[name]}


class Job(Protocol):
    """One training; ``str`` names it in the log."""

    @property
    def result(self) -> Path:
        """Where its figures are written; there once it is done."""


def work_off(
    rows: Iterable[Sequence[Job]],
    run_job: Callable[[Any, Path], dict[str, Any]],
    work: Path,
    minutes: float | None = None,
    at_once: int = 1,
) -> None:
    """Run each row of jobs in a process of its own, with one thread.

    The jobs of a row follow each other, so a later one finds what an earlier one left in ``work``.
    What TensorFlow keeps of their networks goes with the process. One thread each, so that bits
    depend neither on the number of cores nor on how many rows run side by side.

    Parameters
    ----------
    rows : iterable of sequence of Job
    run_job : callable
        Job and folder to figures, among them ``seconds``; a function of a module.
    work : Path
        Caches, made if need be. Rows that run side by side share it.
    minutes : float or None
        Begin no job after so long.
    at_once : int
        Rows side by side.

    Raises
    ------
    Exception
        Of the first job that fails; those beside it end first, no other begins.
    """
    wanted = [row for row in map(list, rows) if row]
    left = sum(map(len, wanted))
    work.mkdir(parents=True, exist_ok=True)
    started, ended, lock = time.monotonic(), threading.Event(), threading.Lock()

    def run(row: Sequence[Job]) -> None:
        nonlocal left
        try:
            with ProcessPoolExecutor(1, get_context("spawn"), _one_thread) as process:
                for job in row:
                    if ended.is_set() or (minutes and time.monotonic() - started > 60 * minutes):
                        return
                    seconds = process.submit(run_job, job, work).result()["seconds"]
                    with lock:
                        left -= 1
                        print(f"{left} left: {job}: {seconds} s", flush=True)
        except BaseException:
            ended.set()
            raise

    with ThreadPoolExecutor(at_once) as threads:
        running = [threads.submit(run, row) for row in wanted]
        try:
            for future in as_completed(running):
                future.result()
        finally:
            ended.set()


@cache
def code_digest(*own: str) -> str:
    """Digest of segpipe's code and of these files of the benchmarks, as when it was first asked.

    Of their text, not of a revision: a changed page changes no network, and a change that is not
    committed may.
    """
    root = Path(__file__).parents[1]
    files = [*(root / "segpipe").rglob("*.py"), *(root / "benchmarks" / name for name in own)]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _one_thread() -> None:
    """Before anything is imported that reads these: a job's module imports Keras at once."""
    os.environ.update(thread_variables(1))
    prepare_environment()
