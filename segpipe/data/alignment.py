"""Bringing volumes onto one grid without touching a value."""

from __future__ import annotations

import nibabel as nib
import numpy as np

from segpipe.config.schema import GRID_TOLERANCE_MM
from segpipe.errors import GeometryError
from segpipe.volume import Volume, describe_grid, grid_difference_mm


def align(volume: Volume, like: Volume, tolerance_mm: float = GRID_TOLERANCE_MM) -> Volume:
    """The same voxels in the order of another grid, by flips and permutations only.

    Parameters
    ----------
    volume : Volume
        (X, Y, Z) or (X, Y, Z, C).
    like : Volume
        The grid wanted.
    tolerance_mm : float
        How far the corners may lie apart afterwards.

    Returns
    -------
    Volume
        With ``like``'s affine and form codes.

    Raises
    ------
    GeometryError
        If the grids differ by more than flips and permutations.

    Examples
    --------
    >>> stored = Volume(np.arange(2).reshape(2, 1, 1), np.diag([1.0, 1, 1, 1]))
    >>> flipped = np.diag([-1.0, 1, 1, 1])
    >>> flipped[0, 3] = 1
    >>> align(stored, Volume(np.zeros((2, 1, 1)), flipped)).array.ravel().tolist()
    [1, 0]
    """
    relative = np.linalg.inv(like.affine) @ volume.affine
    orientation = nib.io_orientation(relative)
    array = nib.apply_orientation(volume.array, orientation)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(orientation, volume.shape)
    turned = Volume(array, affine, like.form_codes)
    gap = grid_difference_mm(turned, like)
    if not gap <= tolerance_mm:
        distance = "" if np.isinf(gap) else f" (corners up to {gap:.3g} mm apart)"
        raise GeometryError(
            f"not on the same grid{distance}; expected {describe_grid(like)}; "
            f"received {describe_grid(volume)}. Resample it onto the expected grid (masks with "
            "nearest neighbour), or correct the header that is wrong"
        )
    unchanged = np.array_equal(orientation, [[0, 1], [1, 1], [2, 1]])
    return Volume(
        volume.array if unchanged else array.copy(order="K"), like.affine, like.form_codes
    )
