"""What a stretch of work costs: time, processor time, and what else the machine did meanwhile.

Needs psutil alone, as both environments run it.
"""

from __future__ import annotations

import os
import time
from typing import Any

import psutil


class Meter:
    """Counts from its making on; the process's children are counted with it."""

    def __init__(self) -> None:
        self._load = os.getloadavg()[0]
        self._own, self._all = _processor_seconds(), _busy_seconds()
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time so far."""
        return time.perf_counter() - self._started

    def read(self) -> dict[str, Any]:
        """Seconds, processor seconds of this process tree and of all others, load averages."""
        seconds = self.seconds
        own = _processor_seconds() - self._own
        others = max(0.0, _busy_seconds() - self._all - own)
        return {
            "seconds": round(seconds, 1),
            "processor_seconds": round(own, 1),
            "processor_seconds_of_others": round(others, 1),
            "load_before": round(self._load, 2),
            "load_after": round(os.getloadavg()[0], 2),
        }


def _processor_seconds() -> float:
    """User and system time of this process, of its children, and of those that have ended."""
    total = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system
