"""One synthetic head: a grid, a smooth deformation of the template, and its tissues."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from segpipe.samples.atlas import CSF_T1, Atlas

BOX_MM = np.array([[-78.0, 78.0], [-112.0, 80.0], [-74.0, 88.0]])


@dataclass(frozen=True)
class Brain:
    """A deformed template on the case's own grid.

    Parameters
    ----------
    affine : (4, 4) float ndarray
        Voxel to world in mm; axes are R, A, S.
    inside : (X, Y, Z) bool ndarray
        The brain, skull stripped.
    white, grey, csf : (X, Y, Z) float32 ndarray
        Tissue fractions, with sum 1.
    zones : dict of str to (X, Y, Z) float32 ndarray
        Soft masks and distances in mm, see :mod:`segpipe.samples.atlas`.
    """

    affine: np.ndarray
    inside: np.ndarray
    white: np.ndarray
    grey: np.ndarray
    csf: np.ndarray
    zones: dict[str, np.ndarray]

    @property
    def spacing_mm(self) -> float:
        """Edge length of the cubic voxels."""
        return float(self.affine[0, 0])


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], scale: float, order: int = 3
) -> np.ndarray:
    """Noise of mean 0 and about unit variance whose features span ``scale`` voxels."""
    coarse = tuple(int(np.ceil((n - 1) / scale)) + 3 for n in shape)
    values = rng.standard_normal(coarse).astype(np.float32)
    axes = [np.arange(n, dtype=np.float32) / scale + rng.uniform(0, 1) for n in shape]
    for axis, positions in enumerate(axes):  # separable: one axis after the other
        values = _resample_axis(values, positions, axis, order)
    return values / max(float(values.std()), 1e-6)


def _resample_axis(values, positions, axis, order):
    n = values.shape[axis]
    basis = ndimage.map_coordinates(
        np.eye(n, dtype=np.float32),
        np.stack(np.meshgrid(positions, np.arange(n), indexing="ij")),
        order=order,
        mode="nearest",
    )
    return np.moveaxis(np.tensordot(basis, values, axes=(1, axis)), 0, axis)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def make_brain(atlas: Atlas, rng: np.random.Generator, spacing_mm: float) -> Brain:
    """Deform the template by chance: size, pose, shape, folds, ventricles, atrophy.

    Parameters
    ----------
    atlas : Atlas
    rng : numpy Generator
    spacing_mm : float
        Edge length of the cubic voxels.
    """
    scale = rng.uniform(0.965, 1.035, 3)
    shift = rng.uniform(-1.5, 1.5, 3)
    extent = (BOX_MM[:, 1] - BOX_MM[:, 0]) * scale
    shape = tuple(int(n) for n in np.ceil(extent / spacing_mm))
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = np.round(BOX_MM[:, 0] * scale + shift, 3)
    points = _deformation(atlas, rng, shape, affine, scale, shift)
    brain = _tissues(atlas, rng, points, affine)
    return _crop(brain)


def _deformation(atlas, rng, shape, affine, scale, shift) -> np.ndarray:
    spacing = affine[0, 0]
    axes = [affine[i, 3] + spacing * np.arange(shape[i], dtype=np.float32) for i in range(3)]
    world = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    angle = np.deg2rad(rng.uniform(-2, 2, 3))
    skew = np.array([[0, -angle[2], angle[1]], [angle[2], 0, -angle[0]], [-angle[1], angle[0], 0]])
    linear = (np.eye(3) + skew) / scale  # a small rotation, after the inverse scaling
    points = np.tensordot(linear, world - shift[:, None, None, None], axes=1).astype(np.float32)
    for size_mm, amplitude_mm in ((45.0, 2.2), (18.0, 0.9)):
        for axis in range(3):
            points[axis] += amplitude_mm * smooth_noise(rng, shape, size_mm / spacing)
    distance = atlas.zones.sample("to_ventricles", points)
    away = np.stack(np.gradient(ndimage.gaussian_filter(distance, 1.5 / spacing), spacing))
    enlarge = rng.uniform(-0.5, 3.5)
    return points - (enlarge * np.exp(-distance / 9)).astype(np.float32) * away


def _tissues(atlas, rng, points, affine) -> Brain:
    shape, spacing = points.shape[1:], affine[0, 0]
    fine, folds = smooth_noise(rng, shape, 4.5 / spacing), smooth_noise(rng, shape, 9.0 / spacing)
    zones = {name: atlas.zones.sample(name, points) for name in atlas.zones.maps}
    surface = np.exp(-zones["depth"] / 12)
    atrophy = rng.uniform(-0.4, 0.9)
    dark = (CSF_T1 - atlas.tissue.sample("sharp", points)) / 0.045
    csf = _sigmoid(dark + surface * (atrophy + 1.1 * folds + 0.8 * fine))
    cortical = np.clip(zones["cortex"] * 1.5, 0, 1)
    ratio = atlas.tissue.sample("ratio", points) * (1 + 0.5 * cortical)
    white = (1 - csf) * _sigmoid(ratio + cortical * (0.8 * folds + 0.6 * fine) + 0.15 * fine)
    edge = 0.35 * smooth_noise(rng, shape, 8.0 / spacing)
    inside = atlas.tissue.sample("brain", points) > np.clip(0.5 + edge, 0.05, 0.95)
    return Brain(affine, _largest(inside), white, 1 - csf - white, csf, zones)


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    return ndimage.binary_fill_holes(labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]))


def _crop(brain: Brain) -> Brain:
    box = tuple(
        slice(max(s.start - 2, 0), s.stop + 2)
        for s in ndimage.find_objects(brain.inside.astype(np.int8))[0]
    )
    affine = brain.affine.copy()
    affine[:3, 3] += [s.start * brain.spacing_mm for s in box]
    return Brain(
        affine,
        brain.inside[box],
        brain.white[box],
        brain.grey[box],
        brain.csf[box],
        {name: zone[box] for name, zone in brain.zones.items()},
    )
