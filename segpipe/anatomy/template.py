"""Tissue maps in MNI152 space, and whether a scan lies in that space."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage

from segpipe.volume import Volume

MNI152_MAPS = ("t1", "gm", "wm", "csf", "brain")
MNI152_DICE = 0.90
LATTICE_MM = 3.0
_MARGIN_MM = 36.0  # a neck or a table beyond the template counts against the overlap


@lru_cache(maxsize=len(MNI152_MAPS))
def mni152_map(name: str) -> Volume:
    """A map of the MNI152 template that nilearn ships (symmetric 2009a, 1 mm); no download.

    Parameters
    ----------
    name : str
        ``t1`` (skull stripped), ``gm``, ``wm``, ``brain`` (0 or 1), or ``csf``: the brain without
        grey and white matter, since the template comes without a map of it.

    Returns
    -------
    Volume
        (X, Y, Z) float32 in [0, 1]. Shared: not to be written to.

    Raises
    ------
    ValueError
        If there is no such map.
    """
    if name not in MNI152_MAPS:
        raise ValueError(f"MNI152 map: expected one of {', '.join(MNI152_MAPS)}; received {name!r}")
    if name == "brain":
        t1 = mni152_map("t1")
        return t1.with_array(ndimage.binary_fill_holes(t1.array > 0).astype(np.float32))
    if name == "csf":
        brain, grey, white = (mni152_map(k) for k in ("brain", "gm", "wm"))
        return brain.with_array(np.clip(brain.array - grey.array - white.array, 0, 1))
    from nilearn import datasets  # imports scikit-learn: seconds, so only where needed

    load = {
        "t1": datasets.load_mni152_template,
        "gm": datasets.load_mni152_gm_template,
        "wm": datasets.load_mni152_wm_template,
    }
    image = load[name](resolution=1)
    return Volume(np.clip(image.get_fdata(dtype=np.float32), 0, 1), image.affine)


def sample_at(template: Volume, like: Volume, outside: float = 0.0) -> np.ndarray:
    """A map linearly interpolated at the voxel centres of another grid.

    Parameters
    ----------
    template : Volume
        (X, Y, Z) float32, in the same world space as ``like``.
    like : Volume
        The grid wanted.
    outside : float
        Value beyond the map.

    Returns
    -------
    (X, Y, Z) float32 ndarray
    """
    step = np.linalg.inv(template.affine) @ like.affine
    return ndimage.affine_transform(
        template.array,
        step[:3, :3],
        offset=step[:3, 3],
        output_shape=like.shape,
        output=np.float32,
        order=1,
        mode="grid-constant",
        cval=outside,
    )


def template_lattice(step_mm: float, margin_mm: float = 0.0) -> Volume:
    """A grid of cubic voxels over MNI152 space, along R, A, S.

    Parameters
    ----------
    step_mm : float
        Voxel edge length.
    margin_mm : float
        How far it reaches beyond the template.

    Returns
    -------
    Volume
        The grid. Its array takes no memory and holds no values.
    """
    template = mni152_map("brain")
    size = np.array(template.shape) * np.array(template.spacing_mm)
    shape = np.ceil((size + 2 * margin_mm) / step_mm).astype(int)
    affine = np.diag([step_mm] * 3 + [1.0])
    affine[:3, 3] = template.affine[:3, 3] - margin_mm
    return Volume(np.broadcast_to(np.uint8(0), tuple(int(n) for n in shape)), affine)


def brain_seen(grid: Volume) -> float:
    """Share of the template's brain that lies inside a grid in world coordinates.

    Parameters
    ----------
    grid : Volume
        Its voxels do not matter.

    Returns
    -------
    float
        In [0, 1].
    """
    lattice = template_lattice(LATTICE_MM)
    brain = sample_at(mni152_map("brain"), lattice) > 0.5
    step = np.linalg.inv(grid.affine) @ lattice.affine
    voxels = np.argwhere(brain) @ step[:3, :3].T + step[:3, 3]
    inside = (voxels >= -0.5) & (voxels <= np.array(grid.shape) - 0.5)
    return float(inside.all(axis=1).mean())


def mni152_dice(scan: Volume) -> float:
    """Overlap of a scan's foreground with the template's brain in world coordinates.

    Both are looked up on one 3 mm lattice that reaches 36 mm beyond the template. Foreground of
    the scan is what exceeds a tenth of the 99th percentile of its positive voxels: closed, the
    largest component, its holes (dark fluid) filled. A skull-stripped brain in MNI152 space
    reaches about 0.95; a head with its skull, or a brain elsewhere, stays below 0.90.

    Parameters
    ----------
    scan : Volume
        (X, Y, Z) or (X, Y, Z, C), of which the first channel is used.

    Returns
    -------
    float
        Dice in [0, 1]; 0 when nothing is foreground.
    """
    lattice = template_lattice(LATTICE_MM, _MARGIN_MM)
    brain = sample_at(mni152_map("brain"), lattice) > 0.5
    values = scan.array if scan.array.ndim == 3 else scan.array[..., 0]
    positive = values[values > 0]
    if not positive.size:
        return 0.0
    bright = (values > 0.1 * np.percentile(positive, 99)).astype(np.float32)
    filled = _solid(sample_at(scan.with_array(bright), lattice) > 0.5)
    total = np.count_nonzero(filled) + np.count_nonzero(brain)
    return float(2 * np.count_nonzero(filled & brain) / total)


def _solid(mask: np.ndarray) -> np.ndarray:
    closed = ndimage.binary_closing(mask, iterations=2)
    labels, count = ndimage.label(closed)
    if count > 1:
        closed = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return ndimage.binary_fill_holes(closed)
