"""Independent cases side by side: local processes, or an existing Dask cluster."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import joblib

from segpipe.errors import ConfigError, DataError, SegpipeError, without_frames


@dataclass(frozen=True)
class Outcome:
    """What became of one case: a value, or the error that it ended with."""

    item: Any
    value: Any = None
    error: SegpipeError | None = None


def _attempt(function: Callable[[Any], Any], item: Any) -> Outcome:
    try:
        return Outcome(item, value=function(item))
    except SegpipeError as error:
        return Outcome(item, error=without_frames(error))


def _end_with(parent: int) -> None:
    """Let this worker end when its parent does: of a kill it hears nothing, and waits for work."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def map_cases(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    workers: int = 1,
    scheduler: str | None = None,
) -> Iterator[Outcome]:
    """Apply ``function`` to every item; outcomes come in the order of the items.

    Parameters
    ----------
    function : callable
        Must be picklable when ``workers`` > 1 or a scheduler is given.
    items : sequence
    workers : int
        Local processes. 1 runs in this process.
    scheduler : str, optional
        Address of a running Dask scheduler, such as ``tcp://10.0.0.1:8786``; the work goes there.

    Yields
    ------
    Outcome
        A :class:`~segpipe.errors.SegpipeError` becomes an outcome and the others go on;
        any other exception is a bug and ends the iteration.

    Raises
    ------
    ConfigError
        If a scheduler is given and ``distributed`` is not installed.
    """
    if scheduler is not None:
        yield from _map_on_dask(function, items, scheduler)
        return
    if workers <= 1 or len(items) <= 1:
        for item in items:
            yield _attempt(function, item)
        return
    with joblib.parallel_config("loky", initializer=_end_with, initargs=(os.getpid(),)):
        jobs = joblib.Parallel(n_jobs=min(workers, len(items)), return_as="generator")
    try:
        yield from jobs(joblib.delayed(_attempt)(function, item) for item in items)
    except BrokenProcessPool as error:
        raise DataError(
            "worker process",
            "died, perhaps for lack of memory",
            received=" ".join(str(error).split())[:200],
            fix="Set prepare.workers=1, or free memory.",
        ) from error


def _map_on_dask(function, items, scheduler) -> Iterator[Outcome]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            f"scheduler {scheduler}: expected the package 'distributed' to be installed. "
            "Install it with: pip install distributed"
        ) from error
    with Client(scheduler) as client:
        for future in client.map(_attempt, [function] * len(items), list(items)):
            yield future.result()
