"""Where template space lies in a scan, and maps taken from one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from segpipe.anatomy.template import MNI152_DICE, mni152_dice, sample_at
from segpipe.volume import Volume

FORMAT = 1
"""Part of every cache key: raise it whenever the same scan would be placed otherwise."""

AS_IS = "as is"
CLEAR_CONTRAST = 2.2
"""Of a registration without doubt: those of T1 that were measured have 2.5 to 3.3."""
_ROUNDS = 12  # of the fixed point that inverts a displacement


@dataclass(frozen=True, eq=False)
class Placement:
    """Template space in the world of a scan.

    Parameters
    ----------
    method : str
        ``as is``, ``rigid``, ``affine`` or ``bspline``.
    affine : (4, 4) float ndarray
        World coordinates of the template to those of the scan, in mm.
    channel : str
        What was registered; empty for a scan that lies in the space.
    similarity, contrast, overlap : float or None
        See :func:`~segpipe.anatomy.registration.register`; None where it was not measured. Of a
        scan that lies in the space, ``overlap`` is that of its foreground.
    problem : str
        Why the scan has no place in the space; empty when it has.
    bend : Volume or None
        (X, Y, Z, 3) float32, mm: added to template coordinates before the affine.
    unbend : Volume or None
        (X, Y, Z, 3) float32, mm: added to template coordinates after the inverse affine.
    """

    method: str
    affine: np.ndarray
    channel: str = ""
    similarity: float | None = None
    contrast: float | None = None
    overlap: float | None = None
    problem: str = ""
    bend: Volume | None = None
    unbend: Volume | None = None

    @property
    def doubt(self) -> str:
        """Why a registration that passed may be wrong all the same, in words; empty: no reason."""
        if self.problem or self.contrast is None or self.contrast >= CLEAR_CONTRAST:
            return ""
        return (
            f"the registration of {self.channel} to the template is doubtful (contrast "
            f"{self.contrast:.2f}, without doubt from {CLEAR_CONTRAST}): regions may be misplaced"
        )

    def describe(self) -> dict[str, Any]:
        """As JSON types, for ``predict.json`` and prepared cases."""
        return {
            "method": self.method,
            "channel": self.channel or None,
            "similarity": _rounded(self.similarity),
            "contrast": _rounded(self.contrast),
            "overlap": _rounded(self.overlap),
            "problem": self.problem or None,
        }

    def words(self) -> str:
        """In one line, for people."""
        return placement_words(self.describe())


def placement_words(facts: Mapping[str, Any]) -> str:
    """What :meth:`Placement.describe` tells, in one line.

    Examples
    --------
    >>> placement_words({"method": "affine", "channel": "T1", "similarity": 0.21, "contrast": 3.2,
    ...                  "overlap": 0.95, "problem": None})
    'T1 registered to the template (affine): similarity 0.21, contrast 3.2, overlap 0.95'
    """
    if facts["method"] == AS_IS:
        return facts["problem"] or f"lies in MNI152 space (overlap {facts['overlap']:.2f})"
    if facts["problem"]:
        return f"{facts['channel']} could not be registered to the template: {facts['problem']}"
    return (
        f"{facts['channel']} registered to the template ({facts['method']}): similarity "
        f"{facts['similarity']:.2f}, contrast {facts['contrast']:.1f}, overlap "
        f"{facts['overlap']:.2f}"
    )


def as_it_lies(scan: Volume) -> Placement:
    """The identity, with a problem unless the scan's foreground is the template's brain.

    Parameters
    ----------
    scan : Volume
        (X, Y, Z) or (X, Y, Z, C), of which the first channel is looked at.
    """
    overlap = mni152_dice(scan)
    problem = ""
    if overlap < MNI152_DICE:
        problem = (
            f"the scan is not in MNI152 space (Dice {overlap:.2f} of its foreground with the "
            f"template's brain; {MNI152_DICE:.2f} needed)"
        )
    return Placement(AS_IS, np.eye(4), overlap=overlap, problem=problem)


def map_on_scan(template: Volume, placement: Placement, like: Volume) -> np.ndarray:
    """A map of template space at the voxel centres of a scan, linear; 0 outside.

    Parameters
    ----------
    template : Volume
        (X, Y, Z) float32.
    placement : Placement
        Without a problem.
    like : Volume
        The scan's grid.

    Returns
    -------
    (X, Y, Z) float32 ndarray
    """
    if placement.unbend is None:
        return sample_at(Volume(template.array, placement.affine @ template.affine), like)
    points = world_points(like, np.linalg.inv(placement.affine))
    points += field_at(placement.unbend, points)
    return values_at(template, points)


def map_on_template(scan_map: Volume, placement: Placement, lattice: Volume) -> np.ndarray:
    """A map of a scan at the voxel centres of a lattice in template space, linear; 0 outside.

    Parameters
    ----------
    scan_map : Volume
        (X, Y, Z) float32 on the scan's grid.
    placement : Placement
        Without a problem.
    lattice : Volume

    Returns
    -------
    (X, Y, Z) float32 ndarray
    """
    if placement.bend is None:
        seen = Volume(scan_map.array, np.linalg.inv(placement.affine) @ scan_map.affine)
        return sample_at(seen, lattice)
    points = world_points(lattice, np.eye(4))
    points += field_at(placement.bend, points)
    turn, shift = placement.affine[:3, :3], placement.affine[:3, 3]
    return values_at(scan_map, np.tensordot(turn, points, 1) + shift.reshape(3, 1, 1, 1))


def world_points(grid: Volume, then: np.ndarray) -> np.ndarray:
    """(3, X, Y, Z) float64 ndarray: world coordinates of voxel centres, taken through an affine."""
    step = then @ grid.affine
    index = np.indices(grid.shape, dtype=np.float64)
    return np.tensordot(step[:3, :3], index, 1) + step[:3, 3].reshape(3, 1, 1, 1)


def values_at(volume: Volume, points: np.ndarray) -> np.ndarray:
    """(X, Y, Z) float32 ndarray: a map at (3, X, Y, Z) world points, linear; 0 outside."""
    inverse = np.linalg.inv(volume.affine)
    where = np.tensordot(inverse[:3, :3], points, 1) + inverse[:3, 3].reshape(3, 1, 1, 1)
    return ndimage.map_coordinates(
        volume.array, where, output=np.float32, order=1, mode="grid-constant", cval=0.0
    )


def field_at(field: Volume, points: np.ndarray) -> np.ndarray:
    """(3, X, Y, Z) float32 ndarray: a displacement in mm at world points; 0 outside."""
    parts = [field.with_array(field.array[..., axis]) for axis in range(3)]
    return np.stack([values_at(part, points) for part in parts])


def invert_field(bend: Volume) -> Volume:
    """The displacement that undoes another: ``u`` with ``x + bend(x) = y`` at ``x = y + u(y)``.

    Found by the fixed point ``u = -bend(y + u)``, which converges where the displacement changes
    by less than 1 mm per mm.

    Parameters
    ----------
    bend : Volume
        (X, Y, Z, 3) float32, mm.
    """
    grid = bend.with_array(bend.array[..., 0])
    start = world_points(grid, np.eye(4))
    undo = np.zeros_like(start, dtype=np.float32)
    for _ in range(_ROUNDS):
        undo = -field_at(bend, start + undo)
    return bend.with_array(np.ascontiguousarray(np.moveaxis(undo, 0, -1)))


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 3)
