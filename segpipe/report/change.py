"""Change against a prior scan: which lesion is new, grown, stable, shrunk or gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segpipe.errors import GeometryError
from segpipe.volume import Volume, describe_grid, same_grid

STABLE = 0.25
STATES = ("new", "grown", "stable", "shrunk", "gone")


@dataclass(frozen=True)
class LesionChange:
    """What became of one lesion, or of a group that merged or split.

    Parameters
    ----------
    state : str
        One of :data:`STATES`.
    relative : float or None
        Change of the group's volume over its prior volume; None for new and gone.
    prior_ids, ids : tuple of int
        Components of the prior scan and of this one that overlap, directly or in a chain.
    """

    state: str
    relative: float | None
    prior_ids: tuple[int, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Change:
    """All changes between two scans on one grid.

    Parameters
    ----------
    groups : tuple of LesionChange
    volume_ml, prior_volume_ml : float
        Of all components together.
    prior_case, prior_analysed : str
        Case id and date of analysis of the prior scan.
    gone_volume_ml : mapping
        Prior id to volume, for lesions that are gone.
    cautions : tuple of str
        Why the comparison has to be read with care.
    """

    groups: tuple[LesionChange, ...]
    volume_ml: float
    prior_volume_ml: float
    prior_case: str = ""
    prior_analysed: str = ""
    gone_volume_ml: Mapping[int, float] | None = None
    cautions: tuple[str, ...] = ()

    def of(self, lesion_id: int) -> LesionChange:
        """What became of one lesion of this scan."""
        return next(group for group in self.groups if lesion_id in group.ids)

    def lesions(self, state: str) -> int:
        """How many lesions are in a state: of this scan, or of the prior one for 'gone'."""
        groups = [group for group in self.groups if group.state == state]
        return sum(len(g.prior_ids if state == "gone" else g.ids) for g in groups)


def compare_components(
    current: Volume,
    prior: Volume,
    *,
    labels: Mapping[int, str] | None = None,
    prior_labels: Mapping[int, str] | None = None,
    prior_case: str = "",
    prior_analysed: str = "",
    cautions: tuple[str, ...] = (),
) -> Change:
    """Compare two component maps by overlap within a label.

    Components of a label that overlap, directly or through a third one, form a group and share
    one state, so that a lesion that split or lesions that merged are not counted as new or gone. A
    group is stable while its volume changes by at most :data:`STABLE` of the prior volume.

    Parameters
    ----------
    current, prior : Volume
        (X, Y, Z) integer component ids, 0 is background.
    labels, prior_labels : mapping of int to str, optional
        Label of each component; without them all are of one label.
    prior_case, prior_analysed, cautions
        Passed on.

    Returns
    -------
    Change

    Raises
    ------
    GeometryError
        If the maps do not lie on one grid; both grids are printed.
    """
    if not same_grid(current, prior):
        raise GeometryError(
            "the prior scan lies on another grid: this scan has "
            f"{describe_grid(current)}; the prior has {describe_grid(prior)}. "
            "Register the prior scan to this one and predict it again"
        )
    ids, prior_ids, group_of, prior_group_of = _groups(
        current.array, prior.array, labels or {}, prior_labels or {}
    )
    voxel_ml = current.voxel_volume_mm3 / 1000
    sizes = np.bincount(current.array.ravel())
    prior_sizes = np.bincount(prior.array.ravel())
    groups, gone = [], {}
    for index in range(len(set(group_of) | set(prior_group_of))):
        now = tuple(int(i) for i in ids[group_of == index])
        before = tuple(int(i) for i in prior_ids[prior_group_of == index])
        state, relative = _state(int(sizes[list(now)].sum()), int(prior_sizes[list(before)].sum()))
        groups.append(LesionChange(state, relative, before, now))
        if state == "gone":
            gone.update({i: float(prior_sizes[i]) * voxel_ml for i in before})
    return Change(
        groups=tuple(groups),
        volume_ml=float(sizes[1:].sum()) * voxel_ml,
        prior_volume_ml=float(prior_sizes[1:].sum()) * voxel_ml,
        prior_case=prior_case,
        prior_analysed=prior_analysed,
        gone_volume_ml=gone,
        cautions=cautions,
    )


def _groups(current: np.ndarray, prior: np.ndarray, labels, prior_labels):
    """Ids of both maps and the number of the overlap group that each belongs to."""
    ids, prior_ids = np.unique(current[current > 0]), np.unique(prior[prior > 0])
    both = (current > 0) & (prior > 0)
    pairs = np.unique(np.stack([current[both], prior[both]]), axis=1)
    alike = [labels.get(int(now)) == prior_labels.get(int(then)) for now, then in pairs.T]
    now, then = pairs[:, np.array(alike, bool)]
    rows = np.searchsorted(ids, now)
    columns = len(ids) + np.searchsorted(prior_ids, then)
    nodes = len(ids) + len(prior_ids)
    graph = coo_array((np.ones(len(rows), dtype=np.uint8), (rows, columns)), shape=(nodes, nodes))
    group = connected_components(graph, directed=False)[1] if nodes else np.empty(0, dtype=int)
    return ids, prior_ids, group[: len(ids)], group[len(ids) :]


def _state(size: int, prior_size: int) -> tuple[str, float | None]:
    if prior_size == 0:
        return "new", None
    if size == 0:
        return "gone", None
    relative = size / prior_size - 1
    if relative > STABLE:
        return "grown", relative
    return ("shrunk" if relative < -STABLE else "stable"), relative
