"""When a training ends and how its learning rate falls to zero by then; without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Seconds or iterations, one of them.

    Raises
    ------
    ValueError
        If both are given, or none.
    """

    seconds: float | None = None
    iterations: int | None = None

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.iterations is None):
            raise ValueError(
                f"budget: expected seconds or iterations; received {self.seconds} and "
                f"{self.iterations}"
            )

    def progress(self, done: int, seconds: float) -> float:
        """Share of the budget that is used, in [0, 1]; 1 ends the training.

        Parameters
        ----------
        done : int
            Iterations done.
        seconds : float
            Time they took. A further iteration begins while at least half of it fits, so that
            the budget is met on average and by half an iteration at worst.
        """
        if self.iterations is not None:
            return min(1.0, done / self.iterations)
        assert self.seconds is not None
        half = seconds / done / 2 if done else 0.0
        return 1.0 if seconds + half >= self.seconds else seconds / self.seconds


def poly(initial: float, progress: float, exponent: float = 0.9) -> float:
    """nnU-Net's polynomial decay, at a share of the training.

    Examples
    --------
    >>> poly(0.01, 0.0), round(poly(0.01, 0.5), 6), poly(0.01, 1.0)
    (0.01, 0.005359, 0.0)
    """
    return initial * (1 - progress) ** exponent
