"""Scoring one case: seconds, and the memory that it takes beyond its two masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import Spread, fresh, seconds

_CASES = {
    "brain 1 mm": ((182, 218, 182), (1.0, 1.0, 1.0), 60),
    "abdomen CT": ((512, 512, 140), (0.8, 0.8, 2.5), 60),
}
_SMOKE = {"smoke": ((24, 24, 20), (1.0, 1.0, 1.0), 3)}


def run(repeat: int, smoke: bool) -> list[dict[str, Any]]:
    """A row per pair, each in a process of its own."""
    return [fresh(measure, name, *c, repeat) for name, c in (_SMOKE if smoke else _CASES).items()]


def measure(name: str, shape, spacing_mm, lesions: int, repeat: int) -> dict[str, Any]:
    """Time of ``score_case`` with every metric, and the peak of its memory."""
    from segpipe.evaluate.score import score_case
    from segpipe.evaluate.settings import ScoreSettings
    from segpipe.volume import Volume

    affine = np.diag([*spacing_mm, 1.0])
    reference, prediction = (Volume(m, affine) for m in make_pair(shape, lesions))
    rows: list[dict] = []

    def work() -> None:
        rows[:] = score_case("case", reference, prediction, {"lesion": 1}, ScoreSettings())

    work()  # imports and first touches
    taken = Spread(tuple(seconds(work) for _ in range(repeat)))
    return {
        "pair": name,
        "voxels": "×".join(map(str, shape)),
        "s/case": taken,
        "extra MB": extra_mb(work),
        "masks MB": (reference.array.nbytes + prediction.array.nbytes) / 1e6,
        "Dice": rows[0]["dice"],
    }


def make_pair(shape, lesions: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Balls of 2 to 8 voxels' radius; the prediction shifts them, misses some, adds others.

    Returns
    -------
    reference, prediction : (X, Y, Z) uint8 ndarray
    """
    rng = np.random.default_rng([seed, 73])
    reference, prediction = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for i in range(lesions):
        radius = int(rng.integers(2, 9))
        centre = rng.integers(radius + 1, np.array(shape) - radius - 1)
        kind = i % 6  # 0 is missed, 1 is a false positive
        if kind != 1:
            _paint(reference, centre, radius)
        if kind != 0:
            _paint(prediction, centre + 1, radius)
    return reference, prediction


def _paint(mask: np.ndarray, centre: np.ndarray, radius: int) -> None:
    axis = np.arange(-radius, radius + 1) ** 2
    ball = axis[:, None, None] + axis[:, None] + axis <= radius**2
    box = tuple(slice(c - radius, c + radius + 1) for c in centre)
    mask[box] |= ball[tuple(slice(0, n) for n in mask[box].shape)]


def extra_mb(work) -> float | None:
    """Peak of the resident memory during a call above what it was before; None but on Linux."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        reset.write_text("5")  # forgets the highest mark so far
        before = _kilobytes(status, "VmRSS")
        work()
        return (_kilobytes(status, "VmHWM") - before) * 1024 / 1e6
    except OSError:
        return None


def _kilobytes(status: Path, field: str) -> int:
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
