"""A volume: voxels and the affine that says where they lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np

from segpipe.config.schema import GRID_TOLERANCE_MM
from segpipe.errors import GeometryError


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with their place in the world.

    Parameters
    ----------
    array : (X, Y, Z) or (X, Y, Z, C) ndarray
        Voxels in stored order; a fourth axis holds channels or classes.
    affine : (4, 4) float ndarray
        Voxel index to world coordinates in mm (RAS+, as in NIfTI).
    form_codes : (int, int)
        NIfTI qform and sform codes of the file, kept for masks written on its grid.

    Raises
    ------
    GeometryError
        If the array is not 3-D (or 4-D with channels last) or the affine is not a finite,
        invertible 4×4 matrix.
    """

    array: np.ndarray
    affine: np.ndarray
    form_codes: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        object.__setattr__(self, "affine", affine)
        if self.array.ndim not in (3, 4):
            raise GeometryError(
                f"a volume needs 3 axes, or 4 with channels last; received shape {self.array.shape}"
            )
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError(f"affine: expected a finite 4×4 matrix; received {affine.tolist()}")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise GeometryError(
                f"affine: expected an invertible matrix; received {affine.tolist()}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the three spatial axes."""
        x, y, z = self.array.shape[:3]
        return x, y, z

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel edge lengths in mm, from the columns of the affine."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm³: the determinant, so that sheared grids count right."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def axcodes(self) -> str:
        """Direction of each axis, such as ``RAS``."""
        return "".join(nib.aff2axcodes(self.affine))

    def with_array(self, array: np.ndarray) -> Volume:
        """The same grid with other voxels."""
        if array.shape[:3] != self.shape:
            raise GeometryError(f"expected an array of shape {self.shape}; received {array.shape}")
        return replace(self, array=array)


def grid_difference_mm(a: Volume, b: Volume) -> float:
    """Largest distance in mm between the same corner of two grids; inf if the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> a = Volume(np.zeros((2, 2, 2)), np.eye(4))
    >>> b = Volume(np.zeros((2, 2, 2)), np.diag([1, 1, 3.0, 1]))
    >>> grid_difference_mm(a, b)
    2.0
    """
    if a.shape != b.shape:
        return float("inf")
    last = np.array(a.shape) - 1
    corners = np.array(np.meshgrid(*[(0, n) for n in last], indexing="ij")).reshape(3, -1)
    homogeneous = np.vstack([corners, np.ones(corners.shape[1])])
    gap = (a.affine - b.affine) @ homogeneous
    return float(np.linalg.norm(gap[:3], axis=0).max())


def same_grid(a: Volume, b: Volume, tolerance_mm: float = GRID_TOLERANCE_MM) -> bool:
    """Whether two volumes have one shape and their corners agree within ``tolerance_mm``."""
    return grid_difference_mm(a, b) <= tolerance_mm


def describe_grid(volume: Volume) -> str:
    """Shape, spacing, orientation and origin in one line, for messages."""
    spacing = "×".join(f"{s:.4g}" for s in volume.spacing_mm)
    origin = ", ".join(f"{o:.2f}" for o in volume.affine[:3, 3])
    shape = "×".join(str(n) for n in volume.shape)
    return f"shape {shape}, spacing {spacing} mm, {volume.axcodes}, origin ({origin})"
