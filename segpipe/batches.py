"""Patches for training, the same for a given epoch and index however they are loaded."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import keras
import numpy as np
from scipy import ndimage

from segpipe.anatomy import false_positive_weight
from segpipe.augment import Augmenter
from segpipe.classes import BAND
from segpipe.config import Config
from segpipe.prepare import PreparedCase

_AHEAD = 8  # batches that are loaded before they are asked for
_BACK = 2  # batches that are kept: the first ones are looked at before the epoch begins
_ORDER, _SAMPLE = 11, 12  # purposes of random streams


@dataclass(frozen=True)
class PatchSampler:
    """Draws patches from prepared cases.

    Parameters
    ----------
    cases : sequence of PreparedCase
        Training cases.
    config : Config
    augmenter : Augmenter
    spacing_mm : (3,) float
        Of the prepared grid.
    slice_axis : int or None
        2-D networks: the axis across the slices.
    """

    cases: Sequence[PreparedCase]
    config: Config
    augmenter: Augmenter
    spacing_mm: tuple[float, float, float]
    slice_axis: int | None = None

    def case_index(self, number: int) -> int:
        """Case of the ``number``-th patch since the start: all cases once per round, shuffled."""
        rounds, position = divmod(number, len(self.cases))
        rng = np.random.default_rng([self.config.train.seed, _ORDER, rounds])
        return int(rng.permutation(len(self.cases))[position])

    def draw(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``number``-th patch since the start of training.

        Returns
        -------
        image : (\\*patch, C) float32 ndarray
            Augmented and normalised.
        target : (\\*patch, 2) float32 ndarray
            Class index (254 background in the band around the reference, within the patch or
            beyond it, 255 ignore) and region weight of every voxel.
        """
        rng = np.random.default_rng([self.config.train.seed, _SAMPLE, number])
        case = self.cases[self.case_index(number)]
        size, band = self.config.train.patch, self._band()
        patch = self._solid(size)
        labelled = [n + 2 * b for n, b in zip(size, band, strict=True)]
        wanted = self._solid(self.augmenter.margin(labelled))
        start = self._start(case, patch, rng) - (wanted - patch) // 2
        image, labels, regions = read_patch(case, start, wanted)
        if self.slice_axis is not None:
            image, labels, regions = (
                np.take(a, 0, axis=self.slice_axis) for a in (image, labels, regions)
            )
        image, labels, regions = self.augmenter(image, labels, regions, rng, size, band)
        for c in range(image.shape[-1]):  # broadcasting over so short an axis is slow
            image[..., c] = (image[..., c] - case.shift[c]) / case.scale[c]
        core = tuple(slice(b, b + n) for b, n in zip(band, size, strict=True))
        near, labels = dilate(labels > 0, band)[core], labels[core]
        target = np.empty((*size, 2), np.float32)
        target[..., 0] = np.where((labels == 0) & near, BAND, labels)
        target[..., 1] = false_positive_weight(
            regions, case.region_names, self.config.anatomy.regions
        )
        return image, target

    def _solid(self, patch: Sequence[int]) -> np.ndarray:
        """The patch in three axes: a slice is one voxel thick."""
        size = np.array(patch)
        return size if self.slice_axis is None else np.insert(size, self.slice_axis, 1)

    def _start(self, case: PreparedCase, size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """First voxel of a patch: around a foreground voxel, or anywhere in the case."""
        shape = np.array(case.shape)
        present = [c for c in sorted(case.foreground) if len(case.foreground[c])]
        if present and rng.random() < self.config.train.foreground:
            voxels = case.foreground[present[rng.integers(len(present))]]
            center = voxels[rng.integers(len(voxels))]
            reach = size // 4
            return center - size // 2 + rng.integers(-reach, reach + 1)
        low = np.minimum(0, (shape - size) // 2)
        high = np.maximum(shape - size, low)
        return rng.integers(low, high + 1)

    def _band(self) -> list[int]:
        """Voxels along each axis of a patch by which lesions beyond its faces reach into it."""
        spacing = np.array(self.spacing_mm)
        if self.slice_axis is not None:
            spacing = np.delete(spacing, self.slice_axis)
        border = self.config.loss.voxel_count.border_mm
        return [math.floor(border / s + 0.5) for s in spacing]


def dilate(mask: np.ndarray, voxels: Sequence[int]) -> np.ndarray:
    """Grow a mask by a box of ``voxels`` in each direction along each axis.

    Examples
    --------
    >>> dilate(np.array([[0, 0, 1, 0, 0]], bool), [0, 1]).astype(int)
    array([[0, 1, 1, 1, 0]])
    """
    if not mask.any():
        return mask
    return ndimage.maximum_filter(mask, size=[2 * v + 1 for v in voxels], mode="constant")


def read_patch(
    case: PreparedCase, start: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a box that may reach beyond the case; what lies outside is 0.

    Parameters
    ----------
    case : PreparedCase
    start, size : (3,) int ndarray
        First voxel (may be negative) and extent.

    Returns
    -------
    image : (\\*size, C) float32 ndarray
        In [0, 1], before normalisation.
    labels : size uint8 ndarray
    regions : (\\*size, R) uint8 ndarray
    """
    low = np.clip(start, 0, case.shape)
    high = np.clip(start + size, 0, case.shape)
    inside = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    pad = [(int(a), int(b)) for a, b in zip(low - start, start + size - high, strict=True)]

    def read(source, channels: bool, dtype) -> np.ndarray:
        block = np.asarray(source[inside], dtype=dtype)
        return np.pad(block, [*pad, (0, 0)] if channels else pad)

    image = read(case.image, True, np.float32)
    labels = read(case.reference, False, np.uint8)
    if case.region_names:
        regions = read(case.regions, True, np.uint8)
    else:
        regions = np.zeros((*size, 0), np.uint8)
    return image, labels, regions


def keep_in_memory(cases: Sequence[PreparedCase], limit_mb: float) -> list[PreparedCase]:
    """Cases with their voxels read once and kept, in order, where ``limit_mb`` still has room.

    The others go on reading their patches from disk; values are the same.
    """
    left = limit_mb * 1e6
    kept = []
    for case in cases:
        image, reference, regions = case.image, case.reference, case.regions
        needed = sum(
            math.prod(part.shape) * part.dtype.itemsize
            for part in (image, reference, regions)
            if part is not None
        )
        if needed <= left:
            left -= needed
            case = replace(
                case,
                image=np.asarray(image),
                reference=None if reference is None else np.asarray(reference),
                regions=np.asarray(regions),
            )
        kept.append(case)
    return kept


class PatchBatches(keras.utils.PyDataset):
    """Some batches in a row; the loading threads change nothing but the speed.

    The threads are its own, not those of Keras, which outlive an epoch that is stopped early.

    Parameters
    ----------
    draw : callable
        Number of the patch since the start of training to (image, target).
    start, steps, batch : int
        Steps before these, these steps, patches per step.
    workers : int
        Loading threads; 0: whoever asks for a batch loads it.

    Attributes
    ----------
    handed : dict of int to float
        When the batch at an index was last handed over, by ``time.perf_counter``.
    """

    def __init__(
        self,
        draw: Callable[[int], tuple[np.ndarray, np.ndarray]],
        *,
        start: int,
        steps: int,
        batch: int,
        workers: int,
    ) -> None:
        super().__init__()
        self.draw = draw
        self.first = start * batch
        self.steps = steps
        self.batch = batch
        self._threads = ThreadPoolExecutor(workers, "patches") if workers else None
        self._ahead: dict[int, Future] = {}
        self._lock = threading.Lock()
        self.handed: dict[int, float] = {}

    def __len__(self) -> int:
        return self.steps

    def numbers(self, index: int) -> range:
        """Patch numbers of the batch at ``index``."""
        start = self.first + index * self.batch
        return range(start, start + self.batch)

    def close(self) -> None:
        """Stop the loading threads; what is asked for later is loaded without them."""
        with self._lock:
            threads, self._threads = self._threads, None
            self._ahead.clear()
        if threads is not None:
            threads.shutdown(wait=True, cancel_futures=True)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:  # whoever fills a queue may still ask while the epoch is left
            asked = self._ask(index)
        try:
            batch = self._load(index) if asked is None else asked.result()
        except CancelledError:
            batch = self._load(index)
        self.handed[index] = time.perf_counter()
        return batch

    def _ask(self, index: int) -> Future | None:
        """The batch that a thread loads, and those after it; None where there is no thread."""
        if self._threads is None:
            return None
        for later in range(index, min(index + _AHEAD + 1, self.steps)):
            if later not in self._ahead:
                self._ahead[later] = self._threads.submit(self._load, later)
        for past in [i for i in self._ahead if i < index - _BACK]:
            del self._ahead[past]
        return self._ahead[index]

    def _load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        patches = [self.draw(number) for number in self.numbers(index)]
        return np.stack([p[0] for p in patches]), np.stack([p[1] for p in patches])
