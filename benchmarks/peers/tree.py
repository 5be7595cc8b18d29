"""A command, its time, and the most memory that it and its children held at one time."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

PAUSE_S = 0.05
"""Between two looks at the memory."""


@dataclass(frozen=True)
class Cost:
    """Of one command.

    Parameters
    ----------
    seconds : float
        From its start to its end.
    peak_mb : float
        Proportional set size (memory that several processes share is counted once), all processes
        together; the largest of the looks, so that a peak shorter than the pause can escape. 0
        where the system does not tell it (it is Linux that does).
    """

    seconds: float
    peak_mb: float


def watch(command: Sequence[str], environment: Mapping[str, str]) -> Cost:
    """Run a command to its end.

    Raises
    ------
    RuntimeError
        If it fails; with the end of what it wrote.
    """
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT
        )
        root, peak = psutil.Process(process.pid), 0
        while process.poll() is None:
            peak = max(peak, _held(root))
            time.sleep(PAUSE_S)
        seconds = time.perf_counter() - started
        if process.returncode:
            output.seek(0)
            wrote = output.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {wrote}")
    return Cost(seconds, peak / 1e6)


def _held(root: psutil.Process) -> int:
    total = 0
    try:
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, AttributeError):
            continue
    return total
