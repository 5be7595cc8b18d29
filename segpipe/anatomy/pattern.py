"""The template as registration compares it: an image and where it counts, at several steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from segpipe.anatomy.template import mni152_map, sample_at, template_lattice
from segpipe.volume import Volume

_MARGIN_MM = 28.0
_FLUID_MM, _SKULL_MM, _SCALP_MM, _AROUND_MM = 3.0, 10.0, 17.0, 24.0
_FLUID, _SKULL, _SCALP = 0.25, 0.12, 0.95  # typical of T1, where white matter is about 0.85


@dataclass(frozen=True, eq=False)
class Pattern:
    """A template on one lattice.

    Parameters
    ----------
    image : Volume
        (X, Y, Z) float32.
    mask : (X, Y, Z) bool ndarray
        Where it is compared.
    step_mm : float
        Voxel edge length of the lattice.
    """

    image: Volume
    mask: np.ndarray
    step_mm: float


@lru_cache(maxsize=12)
def brain_pattern(template: Volume, step_mm: float, reach_mm: float) -> Pattern:
    """The brain and what lies at most ``reach_mm`` around it.

    Parameters
    ----------
    template : Volume
        (X, Y, Z) float32 in MNI152 space; kept by identity.
    step_mm : float
        Of the lattice; the image is smoothed to match.
    reach_mm : float
    """
    lattice = template_lattice(step_mm, _MARGIN_MM)
    image = sample_at(_smooth(template, step_mm / 2), lattice)
    brain = sample_at(mni152_map("brain"), lattice) > 0.5
    return Pattern(lattice.with_array(image), _within(brain, step_mm, reach_mm), step_mm)


@lru_cache(maxsize=2)
def head_pattern(template: Volume, step_mm: float) -> Pattern:
    """The brain in a made-up head: fluid, dark skull, bright scalp, and air around it.

    The template has no skull; compared with a whole head it would grow until its border meets the
    scalp. The shells are as thick as is typical; the face and what lies below the brain, where
    heads differ, are left out.
    """
    lattice = template_lattice(2.0, _MARGIN_MM)
    brain = sample_at(mni152_map("brain"), lattice) > 0.5
    outside = ndimage.distance_transform_edt(~brain, sampling=2.0)
    shells = np.select(
        [outside <= _FLUID_MM, outside <= _SKULL_MM, outside <= _SCALP_MM],
        [_FLUID, _SKULL, _SCALP],
        0.0,
    )
    white = np.percentile(template.array[template.array > 0], 90) / 0.85
    inner = sample_at(template, lattice) / white
    head = lattice.with_array(np.where(brain, inner, shells).astype(np.float32))
    counts = (outside <= _AROUND_MM) & (brain | ~_face(lattice))
    coarse = template_lattice(step_mm, _MARGIN_MM)
    image = sample_at(_smooth(head, step_mm / 2), coarse)
    mask = sample_at(lattice.with_array(counts.astype(np.float32)), coarse) > 0.5
    return Pattern(coarse.with_array(image), mask, step_mm)


def _face(lattice: Volume) -> np.ndarray:
    """In front of and below a plane from the eyebrows down and back, and all below -45 mm."""
    y, z = (
        lattice.affine[i, 3] + lattice.affine[i, i] * np.arange(lattice.shape[i]) for i in (1, 2)
    )
    front = (z[None, :] < -10) & (y[:, None] > 15 + 0.5 * z[None, :])
    return np.broadcast_to((front | (z[None, :] < -45))[None], lattice.shape)


def _smooth(volume: Volume, sigma_mm: float) -> Volume:
    sigma = [sigma_mm / s for s in volume.spacing_mm]
    return volume.with_array(ndimage.gaussian_filter(volume.array, sigma, truncate=3.0))


def _within(mask: np.ndarray, step_mm: float, reach_mm: float) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask, sampling=step_mm) <= reach_mm
