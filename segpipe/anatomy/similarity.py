"""How well a scan fits a registered template, and whether that is better than chance."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segpipe.volume import Volume

BINS = 32
SHIFT_MM = 20.0
CENTER_MM = np.array([0.0, -18.0, 5.0])  # of the template's brain
_STRAY = 8  # of 100 voxels a template's brain must share with the scan before anything is measured


def shared_information(a: np.ndarray, b: np.ndarray, bins: int = BINS) -> float:
    """Mutual information of two images over the smaller of their entropies, I / min(H_a, H_b).

    Parameters
    ----------
    a, b : (N,) float ndarray
        Values at the same places.
    bins : int
        Of the joint histogram, along each axis.

    Returns
    -------
    float
        0 where one image says nothing about the other, 1 where it says everything; nan for a
        constant image.

    Examples
    --------
    >>> a = np.repeat([0.0, 1.0], 8)
    >>> shared_information(a, 5 - 2 * a), shared_information(a, np.tile([0.0, 1.0], 8))
    (1.0, 0.0)
    """
    if a.size == 0 or a.min() == a.max() or b.min() == b.max():
        return float("nan")
    joint = np.histogram2d(a, b, bins=bins)[0] / a.size
    each = _entropy(joint.sum(axis=1)), _entropy(joint.sum(axis=0))
    return max(0.0, (sum(each) - _entropy(joint.ravel())) / min(each))


def _entropy(shares: np.ndarray) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def fit_at(
    template: Volume, mask: np.ndarray, scan: Volume, affine: np.ndarray
) -> tuple[float, float]:
    """Shared information of template and scan where the mask is, and how much of it the scan sees.

    Parameters
    ----------
    template : Volume
        (X, Y, Z) float32.
    mask : (X, Y, Z) bool ndarray
        Where the two are compared.
    scan : Volume
        (X, Y, Z) float32.
    affine : (4, 4) float ndarray
        World coordinates of the template to those of the scan, in mm.

    Returns
    -------
    similarity : float
        See :func:`shared_information`; nan where the scan sees next to nothing of the mask.
    seen : float
        Share of the mask inside the scan, in [0, 1].
    """
    step = np.linalg.inv(scan.affine) @ affine @ template.affine
    values = ndimage.affine_transform(
        scan.array,
        step[:3, :3],
        offset=step[:3, 3],
        output_shape=template.shape,
        order=1,
        mode="constant",
        cval=np.nan,
    )
    inside = mask & np.isfinite(values)
    seen = np.count_nonzero(inside) / np.count_nonzero(mask)
    if 100 * seen < _STRAY:
        return float("nan"), seen
    return shared_information(template.array[inside], values[inside]), seen


def contrast_at(template: Volume, mask: np.ndarray, scan: Volume, affine: np.ndarray) -> float:
    """How many times better the template fits as registered than at the best of eight decoys.

    A decoy is the same template turned front to back, turned upside down, or moved by 20 mm in
    one of six directions. What fits at the right place alone shares more with the scan there; what
    fits by its outline, or not at all, does not. The scan's contrast, noise and slices are the
    same for all, so that the figure needs no calibration by sequence.

    Parameters
    ----------
    template, mask, scan, affine
        As in :func:`fit_at`.

    Returns
    -------
    float
        nan where nothing can be compared.
    """
    here, _ = fit_at(template, mask, scan, affine)
    others = [fit_at(template, mask, scan, affine @ decoy)[0] for decoy in _decoys()]
    known = [value for value in others if np.isfinite(value)]
    best = max(known, default=float("nan"))
    return here / best if best > 0 else float("nan")


def _decoys() -> list[np.ndarray]:
    decoys = []
    for axis in (1, 2):
        turned = np.eye(4)
        turned[axis, axis], turned[axis, 3] = -1.0, 2 * CENTER_MM[axis]
        decoys.append(turned)
    for axis in range(3):
        for sign in (-1, 1):
            moved = np.eye(4)
            moved[axis, 3] = sign * SHIFT_MM
            decoys.append(moved)
    return decoys
