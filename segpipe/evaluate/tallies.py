"""What each case counts at each threshold and minimum size: the table of components, summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from segpipe.evaluate.table import THRESHOLDS, read_views
from segpipe.lesions.limits import Limits
from segpipe.lesions.view import View
from segpipe.metrics.detection import f1_of, tally_of
from segpipe.metrics.overlap import VoxelCounts, dice


@dataclass(frozen=True, eq=False)
class Tallies:
    """Counts over cases, labels, thresholds and minimum sizes.

    Parameters
    ----------
    cases, labels : tuple of str
    thresholds, min_sizes_mm3 : (T,) and (S,) float ndarray
        Ascending, and as given.
    detected, missed, true_positives, false_positives : (C, L, T, S) int ndarray
        0 where a case has no component.
    f1 : (C, L, T, S) float ndarray
        nan for a case without a required lesion.
    dice : (C, L, T, S) float ndarray
        Of the voxels; nan where reference and prediction are empty.
    """

    cases: tuple[str, ...]
    labels: tuple[str, ...]
    thresholds: np.ndarray
    min_sizes_mm3: np.ndarray
    detected: np.ndarray
    missed: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    f1: np.ndarray
    dice: np.ndarray

    @property
    def lesions(self) -> np.ndarray:
        """(C, L, T, S) int: required lesions; the same at every threshold and size."""
        return self.detected + self.missed

    def of(self, cases: Sequence[str]) -> Tallies:
        """The tallies of some of the cases, in the order given."""
        rows = [self.cases.index(case) for case in cases]
        return self._part(tuple(cases), self.labels, np.ix_(rows, range(len(self.labels))))

    def label(self, name: str) -> Tallies:
        """The tallies of one label."""
        column = self.labels.index(name)
        return self._part(self.cases, (name,), np.ix_(range(len(self.cases)), [column]))

    def _part(self, cases: tuple[str, ...], labels: tuple[str, ...], index) -> Tallies:
        return Tallies(
            cases=cases,
            labels=labels,
            thresholds=self.thresholds,
            min_sizes_mm3=self.min_sizes_mm3,
            detected=self.detected[index],
            missed=self.missed[index],
            true_positives=self.true_positives[index],
            false_positives=self.false_positives[index],
            f1=self.f1[index],
            dice=self.dice[index],
        )


def count_table(
    table: pd.DataFrame,
    limits: Limits,
    cases: Sequence[str],
    min_sizes_mm3: Sequence[float],
) -> Tallies:
    """Count every case of a table at all of its thresholds.

    Parameters
    ----------
    table : DataFrame
        Of :func:`segpipe.evaluate.table.component_table`; rows of other cases are left aside.
    limits : Limits
        Rule and smallest lesion that counts; the removal size is replaced by each of
        ``min_sizes_mm3``.
    cases : sequence of str
        All cases, those without any component included.
    min_sizes_mm3 : sequence of float

    Returns
    -------
    Tallies
        Labels are those of the table, whichever case they come from; thresholds those that it was
        made at.
    """
    labels = tuple(dict.fromkeys(table["label"]))
    variants = [replace(limits, removal_size_mm3=float(s)) for s in min_sizes_mm3]
    return count_variants(table, variants, cases, labels, _made_at(table))


def _made_at(table: pd.DataFrame) -> np.ndarray:
    """Thresholds of a table, also those above which there is neither a component nor a lesion."""
    found = np.unique(table["threshold"].to_numpy(float))
    usual = np.array(THRESHOLDS)
    if np.isnan(found).any() or not np.isin(usual[usual <= max(found, default=0)], found).all():
        return found  # of masks, or made at others
    return np.union1d(found, usual)


def count_variants(
    table: pd.DataFrame,
    variants: Sequence[Limits],
    cases: Sequence[str],
    labels: Sequence[str],
    thresholds: Sequence[float] | np.ndarray,
) -> Tallies:
    """Count every case of a table at some of its thresholds, under several limits.

    Parameters
    ----------
    table : DataFrame
    variants : sequence of Limits
        They take the place of the minimum sizes, the last axis of the tallies.
    cases, labels : sequence of str
        All of them, those without any component included.
    thresholds : sequence of float
        Ascending; all that the table has components at. At another one there is none.

    Returns
    -------
    Tallies
    """
    thresholds = np.asarray(thresholds, float)
    shape = (len(cases), len(labels), len(thresholds), len(variants))
    counts = np.zeros((4, *shape), np.int64)
    f1, overlap = np.full(shape, np.nan), np.full(shape, np.nan)
    place = {case: row for row, case in enumerate(cases)}
    column = {label: number for number, label in enumerate(labels)}
    for view in read_views(table[table["case"].isin(list(place))]):
        t = int(np.searchsorted(thresholds, view.threshold))
        at = place[view.case], column[view.label], t
        for v, limits in enumerate(variants):
            counted = view.count(limits)
            tally = tally_of(counted)
            counts[:, *at, v] = (
                tally.detected,
                tally.missed,
                tally.true_positives,
                tally.false_positives,
            )
            f1[*at, v] = f1_of(counted)
            overlap[*at, v] = dice(voxels_of(view, limits))
    detected, missed, true_positives, false_positives = counts
    return Tallies(
        cases=tuple(cases),
        labels=tuple(labels),
        thresholds=thresholds,
        min_sizes_mm3=np.array([limits.removal_size_mm3 for limits in variants], float),
        detected=detected,
        missed=missed,
        true_positives=true_positives,
        false_positives=false_positives,
        f1=f1,
        dice=overlap,
    )


def voxels_of(view: View, limits: Limits) -> VoxelCounts:
    """Voxels of the reference, of the components that are not removed, and of both."""
    present = view.present(limits)
    shared = view.overlaps.voxels[present[view.overlaps.prediction - 1]]
    return VoxelCounts(
        int(view.reference.voxels.sum()),
        int(view.prediction.voxels[present].sum()),
        int(shared.sum()),
    )
