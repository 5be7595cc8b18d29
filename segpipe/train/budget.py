"""A training in a given time: how many steps it holds, and whether they will still fit."""

from __future__ import annotations

import bisect
import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from segpipe.config.durations import write_duration
from segpipe.errors import ModelError

AIM = 0.97
"""Share of the budget that the steps are planned for: noise in their time shortens nothing."""

AIM_AGAIN = 0.98
"""The same, when a training is shortened."""

FIRST_STEPS = 2
"""Steps of a process that compile and fill queues: their time is used, but tells nothing."""

MEASURED = (4, 20)
"""Fewest and most steps that are measured before the training."""

MEASURING = 0.02
"""Share of the budget after which no further step is measured beyond the fewest."""

_LATEST = 10  # looks at the clock whose median is the latest speed: one stall is none


@dataclass(frozen=True)
class Costs:
    """Seconds that a step, a checkpoint and a validation take."""

    step: float
    checkpoint: float = 0.0
    validation: float = 0.0


def shortened_pace(pace: tuple[float, float], done: int, total: int) -> tuple[float, float]:
    """The rest of a schedule in fewer steps: progress goes on from where it is, and ends at 1.

    Parameters
    ----------
    pace : (float, float)
        Origin and length in steps: progress is (step − origin) / length.
    done, total : int
        Steps done, and steps at which progress becomes 1; ``done`` below ``total``.

    Examples
    --------
    >>> shortened_pace((0.0, 100.0), 50, 75)
    (25.0, 50.0)
    """
    left = 1.0 - (done - pace[0]) / pace[1]
    length = (total - done) / left
    return total - length, length


class Budget:
    """The clock of a training, and what it still allows.

    Counted is the time from here to the last checkpoint: compiling, measuring, steps, checkpoints
    and the validations between epochs. The validation after the last step is not.

    Parameters
    ----------
    seconds : float
    steps_per_epoch : int
    validate_every : int
        Epochs between validations; 0: none but the last.
    clock : callable
        Seconds that only grow.

    Attributes
    ----------
    total : int
        Steps planned; 0 before :meth:`plan`.
    pace : (float, float)
        Origin and length of the schedules in steps.
    """

    def __init__(
        self,
        seconds: float,
        steps_per_epoch: int,
        validate_every: int,
        clock: Callable[[], float],
    ) -> None:
        self.seconds = seconds
        self.steps_per_epoch = steps_per_epoch
        self.validate_every = validate_every
        self.total = 0
        self.pace = (0.0, 1.0)
        self.costs = Costs(0.0)
        self.clock = clock
        self._began, self._used = clock(), 0.0
        self._epoch, self._start = 0, 0
        self._last = (0, 0.0)
        self._latest: deque[float] = deque(maxlen=_LATEST)
        self._unsettled = FIRST_STEPS

    @property
    def elapsed(self) -> float:
        """Seconds used, by earlier processes too."""
        return self._used + self.clock() - self._began

    def to_state(self) -> dict[str, Any]:
        """JSON-able: all that another process needs to go on."""
        return {
            "used": self.elapsed,
            "total": self.total,
            "pace": list(self.pace),
            "costs": asdict(self.costs),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of an earlier process."""
        self._used = float(state["used"])
        self.total = int(state["total"])
        self.pace = (state["pace"][0], state["pace"][1])
        self.costs = Costs(**state["costs"])

    def plan(self, costs: Costs) -> None:
        """Fix the number of steps from what one was measured to cost.

        Raises
        ------
        ModelError
            If there is no time for a single step.
        """
        self.costs = costs
        self.total = self._most_steps(0, AIM)
        self.pace = (0.0, float(self.total))
        if self.total < 1:
            raise ModelError(
                f"train.budget: expected time for some steps; received {self.seconds:g} s, of "
                f"which {self.elapsed:.1f} s went into compiling and measuring, and a step takes "
                f"{costs.step:.2f} s. Give more time, a smaller train.patch or train.batch, or "
                "fewer model.features."
            )

    def begin(self, epoch: int, done: int) -> None:
        """An epoch begins, after ``epoch`` others and ``done`` steps."""
        self._epoch, self._start = epoch, done
        self._last = (done, self.clock())

    def tick(self, done: int) -> None:
        """``done`` steps are done by now."""
        (before, then), now = self._last, self.clock()
        if self._unsettled > 0:
            self._unsettled -= done - before
        else:
            self._latest.append((now - then) / (done - before))
        self._last = (done, now)

    def saw(self, *, checkpoint: float | None = None, validation: float | None = None) -> None:
        """What a checkpoint or a validation just cost, in seconds; one slow one counts by half."""
        if checkpoint is not None:
            self.costs = replace(self.costs, checkpoint=(self.costs.checkpoint + checkpoint) / 2)
        if validation is not None:
            self.costs = replace(self.costs, validation=(self.costs.validation + validation) / 2)

    def late(self, done: int) -> bool:
        """Whether the rest would end beyond the budget, even at the speed planned with.

        So only a delay that has happened shortens a training, and a slow moment that the reserve
        makes up for does not.
        """
        return self.elapsed + self._seconds_left(done, self.total) > self.seconds

    def shorten(self, done: int) -> None:
        """Plan the rest at a slower speed; perhaps it is over.

        Early that is near the speed planned with, as a slow moment may pass; towards the end it
        is the latest, as nothing can be made up for.
        """
        if self._latest:
            share = min(1.0, self.elapsed / self.seconds)
            latest = (1 - share) * self.costs.step + share * statistics.median(self._latest)
            self.costs = replace(self.costs, step=latest)
        total = min(self.total, max(done, self._most_steps(done, AIM_AGAIN)))
        if total > done:
            self.pace = shortened_pace(self.pace, done, total)
        self.total = total

    def describe(self) -> str:
        """The plan, for people."""
        return (
            f"budget {write_duration(self.seconds)}: {self.costs.step:.3g} s a step, {self.total} "
            f"steps. The same without a clock: train.budget=null train.steps={self.total}"
        )

    def _most_steps(self, done: int, share: float) -> int:
        """The largest total that ends within a share of the budget; ``done`` - 1 if none does."""
        left = share * self.seconds - self.elapsed
        limit = done + max(0, math.floor(left / max(self.costs.step, 1e-9)))
        totals = range(done, limit + 1)
        fitting = bisect.bisect_right(
            totals, left, key=lambda total: self._seconds_left(done, total)
        )
        return done + fitting - 1

    def _seconds_left(self, done: int, total: int) -> float:
        """From here to the last checkpoint, if ``total`` steps are the last."""
        epochs = math.ceil((total - self._start) / self.steps_per_epoch)
        last = self._epoch + epochs
        every = self.validate_every
        between = max(0, (last - 1) // every - self._epoch // every) if every else 0
        costs = self.costs
        return (total - done) * costs.step + epochs * costs.checkpoint + between * costs.validation
