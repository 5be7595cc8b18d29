"""What the interactive viewer needs: a scan and its components, small enough to lie in the page."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import nibabel as nib
import numpy as np
from skimage.measure import block_reduce

from segpipe.report import slices
from segpipe.report.lesion import Lesion
from segpipe.volume import Volume

MOST_VOXELS = 8_000_000
"""Of the inlined scan; even noise then keeps the page below 15 MB."""
MARGIN_MM = 6.0


@dataclass(frozen=True)
class Viewer:
    """A cropped scan of 8 bits and the components on its grid, as NIfTI files in base64.

    Parameters
    ----------
    channel : str
        Name of the scan.
    scan, components : str
        gzipped NIfTI files in base64, axes running closest to right, anterior, superior.
    window : (float, float)
        Values shown black and white.
    offset, step : (int, int, int)
        First voxel of the RAS scan that is shown, and how many of its voxels are averaged into
        one along each axis.
    places : mapping of int to (int, int, int)
        A voxel, of those shown, inside each component, in the slice through most of it.
    """

    channel: str
    scan: str
    components: str
    window: tuple[float, float]
    offset: tuple[int, int, int]
    step: tuple[int, int, int]
    places: Mapping[int, tuple[int, int, int]]

    @property
    def data(self) -> dict[str, Any]:
        """Everything that the script in the page reads, ready for JSON."""
        return {
            "scan": self.scan,
            "components": self.components,
            "window": list(self.window),
            "offset": list(self.offset),
            "step": list(self.step),
            "places": {str(number): list(place) for number, place in self.places.items()},
        }


@cache
def scripts() -> tuple[str, str]:
    """NiiVue as nilearn ships it, with its licence, and the script that drives it."""
    library = resources.files("nilearn") / "_assets" / "js" / "niivue.umd.js"
    ours = resources.files("segpipe.report") / "templates"
    licence = (ours / "niivue-license.txt").read_text(encoding="utf-8")
    return (
        f"/*! NiiVue\n{licence}*/\n{library.read_text(encoding='utf-8')}",
        (ours / "viewer.js").read_text(encoding="utf-8"),
    )


def make_viewer(
    channels: Mapping[str, Volume],
    components: Volume,
    lesions: Sequence[Lesion],
    most_voxels: int = MOST_VOXELS,
) -> Viewer:
    """Crop, shrink where need be, and encode.

    Cut to what is not background and to all components; voxels are averaged in blocks where more
    than :data:`MOST_VOXELS` remain, components then keep the highest number of a block.

    Parameters
    ----------
    channels : mapping of str to Volume
        (X, Y, Z) scans, finite; the first is shown.
    components : Volume
        (X, Y, Z) integer ids on the same grid.
    lesions : sequence of Lesion
        Whose ids are those of ``components``.
    most_voxels : int

    Returns
    -------
    Viewer
    """
    channel, scan = next(iter(channels.items()))
    image, ids = slices.to_ras(scan), slices.to_ras(components)
    axis = slices.viewing_axis(image)
    window = slices.grey_window(image.array, ids.array)
    box = content_box(image, ids.array)
    step = block_size(tuple(part.stop - part.start for part in box), image.spacing_mm, most_voxels)
    affine = image.affine.copy()
    offset = tuple(part.start for part in box)
    affine[:3, 3] += affine[:3, :3] @ (np.array(offset) + (np.array(step) - 1) / 2)
    affine[:3, :3] *= step
    small = _blocks(image.array[box].astype(np.float32), step, np.mean)
    marks = _blocks(ids.array[box], step, np.max)
    return Viewer(
        channel=channel,
        scan=_encoded(*_to_bytes(small, window), affine),
        components=_encoded(
            marks.astype(np.uint8 if marks.max() < 256 else np.uint16), 1, 0, affine
        ),
        window=window,
        offset=(offset[0], offset[1], offset[2]),
        step=step,
        places={
            lesion.id: _shown(place_inside(ids.array, lesion.id, axis), box, step)
            for lesion in lesions
        },
    )


def content_box(image: Volume, components: np.ndarray) -> tuple[slice, slice, slice]:
    """The box of what is brighter than background, and of all components, with a margin."""
    level = np.percentile(image.array, 99) * 0.08
    seen = (image.array > level) | (components > 0)
    box = []
    for axis, size in enumerate(image.shape):
        places = np.flatnonzero(seen.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = round(MARGIN_MM / image.spacing_mm[axis])
        first, last = (int(places[0]), int(places[-1])) if places.size else (0, size - 1)
        box.append(slice(max(0, first - margin), min(size, last + 1 + margin)))
    return box[0], box[1], box[2]


def block_size(
    shape: Sequence[int], spacing_mm: Sequence[float], most: int
) -> tuple[int, int, int]:
    """How many voxels to average along each axis, the finest first, for at most ``most`` voxels.

    Examples
    --------
    >>> block_size((182, 218, 182), (1.0, 1.0, 1.0), 8_000_000)
    (1, 1, 1)
    >>> block_size((512, 512, 300), (0.7, 0.7, 1.0), 8_000_000)
    (3, 2, 2)
    """
    step = np.ones(3, int)
    while np.prod(-(-np.asarray(shape) // step)) > most:
        step[np.argmin(step * spacing_mm)] += 1
    return int(step[0]), int(step[1]), int(step[2])


def place_inside(ids: np.ndarray, number: int, axis: int) -> np.ndarray:
    """The voxel nearest to the middle of a component's best slice.

    Parameters
    ----------
    ids : (X, Y, Z) int ndarray
    number : int
        Of the component.
    axis : int
        Across the slices.

    Returns
    -------
    (3,) int ndarray
    """
    voxels = np.argwhere(ids == number)
    cut = voxels[voxels[:, axis] == slices.best_index(ids, number, axis)]
    return cut[((cut - cut.mean(axis=0)) ** 2).sum(axis=1).argmin()]


def _shown(
    voxel: np.ndarray, box: Sequence[slice], step: tuple[int, int, int]
) -> tuple[int, int, int]:
    """Where a voxel lies after cropping and averaging."""
    x, y, z = (voxel - [part.start for part in box]) // step
    return int(x), int(y), int(z)


def _blocks(array: np.ndarray, step: tuple[int, int, int], how) -> np.ndarray:
    if step == (1, 1, 1):
        return array
    short = [(0, -size % one) for size, one in zip(array.shape, step, strict=True)]
    return np.asarray(block_reduce(np.pad(array, short, mode="edge"), step, how))


def _to_bytes(array: np.ndarray, window: tuple[float, float]) -> tuple[np.ndarray, float, float]:
    """uint8 values, slope and intercept from the window's black to the brightest 0.05 %."""
    low = window[0]
    high = max(window[1], float(np.percentile(array, 99.95)))
    slope = (high - low) / 255
    return np.clip(np.rint((array - low) / slope), 0, 255).astype(np.uint8), slope, low


def _encoded(array: np.ndarray, slope: float, intercept: float, affine: np.ndarray) -> str:
    header = nib.Nifti1Header()
    header.set_data_dtype(array.dtype)
    image = nib.Nifti1Image(array, affine, header)
    image.header.set_slope_inter(slope, intercept)
    content = gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)
    return base64.b64encode(content).decode()
