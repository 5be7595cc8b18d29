"""Repeated measurements in alternation, and their spread."""

from __future__ import annotations

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Samples of one quantity in the order they were taken."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def per(self, amount: float) -> Spread:
        """``amount`` divided by every sample: seconds to a rate."""
        return Spread(tuple(amount / s for s in self.samples))

    def over(self, other: Spread) -> Spread:
        """Sample by sample, as taken side by side."""
        pairs = zip(self.samples, other.samples, strict=True)
        return Spread(tuple(a / b for a, b in pairs))

    def __str__(self) -> str:
        return f"{short(self.median)} ({short(min(self.samples))}–{short(max(self.samples))})"

    def to_json(self) -> dict[str, Any]:
        low, high = min(self.samples), max(self.samples)
        return {"median": self.median, "min": low, "max": high, "samples": list(self.samples)}


def short(number: float) -> str:
    """Three significant digits, without an exponent where that is readable."""
    if math.isnan(number) or (number and not 1e-4 <= abs(number) < 1e9):
        return f"{number:.3g}"
    digits = 0 if number == 0 else 2 - math.floor(math.log10(abs(number)))
    return f"{round(number, digits):,.{max(0, digits)}f}"


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(works: Mapping[str, Callable[[], Any]], repeat: int) -> dict[str, list[Any]]:
    """Call each in turn, ``repeat`` rounds; what every call returned."""
    found: dict[str, list[Any]] = {name: [] for name in works}
    for _ in range(repeat):
        for name, work in works.items():
            found[name].append(work())
    return found


def alternate(works: Mapping[str, Callable[[], float]], repeat: int) -> dict[str, Spread]:
    """Call each in turn, ``repeat`` rounds; each call returns what it measured."""
    return {name: Spread(tuple(values)) for name, values in in_turns(works, repeat).items()}


def fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call in a new process, which nothing has configured yet."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()
