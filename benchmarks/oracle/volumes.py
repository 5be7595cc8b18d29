"""Pairs of masks to be judged: random ones, the same for the same seed, and those of programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

DATA = Path(__file__).parents[3] / "shared" / "data"
PROGRAMS = ("lga", "lpa", "bianca", "network")
_PURPOSE = 9101


@dataclass(frozen=True, eq=False)
class Pair:
    """Two masks on one grid.

    Parameters
    ----------
    name : str
    reference, prediction : (X, Y, Z) bool ndarray
    affine : (4, 4) float ndarray
    """

    name: str
    reference: np.ndarray
    prediction: np.ndarray
    affine: np.ndarray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def random_pair(index: int, low: int = 8, high: int = 40) -> Pair:
    """One random pair: noise or smooth blobs, density 0.01 to 0.6, an oblique anisotropic grid.

    Every 25th has an empty side (every 100th: two), every 40th is a single slice, every 50th
    prediction is the reference itself.
    """
    rng = np.random.default_rng([index, _PURPOSE])
    shape = rng.integers(low, high + 1, size=3)
    if index % 40 == 7:
        shape[rng.integers(3)] = 1
    density = float(np.exp(rng.uniform(np.log(0.01), np.log(0.6))))
    first, second = rng.normal(size=(2, *shape))
    blobs = index % 2 == 1
    if blobs:
        width = rng.uniform(0.8, 3.0)
        first, second = (ndimage.gaussian_filter(field, width) for field in (first, second))
    likeness = rng.uniform(0.3, 1.0)
    second = likeness * first + np.sqrt(1 - likeness**2) * second
    reference = first > np.quantile(first, 1 - density)
    prediction = second > np.quantile(second, 1 - density * rng.uniform(0.6, 1.2))
    if index % 50 == 3:
        prediction = reference.copy()
    if index % 25 == 9:
        emptied = (reference,) if index % 50 == 9 else (prediction,)
        for mask in (reference, prediction) if index % 100 == 9 else emptied:
            mask[:] = False
    kind = "blobs" if blobs else "noise"
    return Pair(f"{kind}{index:04d}", reference, prediction, _oblique(rng))


def random_pairs(count: int) -> Iterator[Pair]:
    """The first ``count`` random pairs."""
    return (random_pair(index) for index in range(count))


def _oblique(rng: np.random.Generator) -> np.ndarray:
    """A rotated and flipped grid of unequal spacing, without shear."""
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.4, 3.0, size=3)
    affine[:3, 3] = rng.uniform(-100, 100, size=3)
    return affine


def program_pairs(dataset: Path) -> Iterator[Pair]:
    """Masks that other programs made of scans, against those of the expert."""
    from segpipe.data.nifti import read_labels

    for reference_path in sorted((dataset / "labelsTr").glob("simvent*.nii.gz")):
        case = reference_path.name.removesuffix(".nii.gz")
        reference = read_labels(reference_path)
        for program in PROGRAMS:
            prediction = read_labels(dataset / "predictions" / program / reference_path.name)
            lesions, found = reference.array > 0, prediction.array > 0
            yield Pair(f"{program}-{case}", lesions, found, reference.affine)
