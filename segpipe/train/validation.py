"""Validation while training: whole prepared volumes, counted lesion by lesion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.classes import IGNORE
from segpipe.config import Config
from segpipe.lesions.classes import class_map
from segpipe.lesions.components import label_components
from segpipe.lesions.limits import Limits
from segpipe.lesions.paint import paint
from segpipe.lesions.reference import find_lesions
from segpipe.lesions.view import make_view
from segpipe.metrics.detection import f1_of, lesion_sensitivity, tally_of
from segpipe.metrics.overlap import count_voxels, dice
from segpipe.predict.engines import Engine
from segpipe.predict.window import normalising, predict_volume
from segpipe.prepare import PreparedCase
from segpipe.train.overlays import overlay

SCORES = ("dice", "lesion_sensitivity", "lesion_f1")
COUNTS = ("false_positive_regions", "false_positive_voxels")

Figures = dict[str, float]


class Validation:
    """From a network to its mean figures on prepared cases.

    The figures guide training: they are taken on the prepared grid, at the configured operating
    point. What is reported is measured afterwards on each scan's own grid.

    Parameters
    ----------
    cases : sequence of PreparedCase
        With references; at least one.
    config : Config
    classes : int
        Foreground classes.
    slice_axis : int or None
        2-D networks: the axis across the slices.
    make_engine : callable
        Network to engine; called once for a network that is validated again and again.
    show : callable, optional
        Gets a name, a picture and the epoch, for the first ``tracking.overlays`` cases.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        config: Config,
        classes: int,
        slice_axis: int | None,
        make_engine: Callable[[Any], Engine],
        show: Callable[[str, np.ndarray, int], None] | None = None,
    ) -> None:
        self.cases = cases
        self.config = config
        self.classes = classes
        self.slice_axis = slice_axis
        self.make_engine = make_engine
        self.show = show
        self._known: list[tuple[Any, Engine]] = []

    def __call__(self, network: Any, epoch: int = 0) -> Figures:
        """Mean figures over all cases, and pictures of the first ones.

        Returns
        -------
        dict of str to float
            ``dice``, ``lesion_sensitivity``, ``lesion_f1``: means over cases and classes where
            defined, else nan. ``false_positive_regions`` and ``false_positive_voxels``: means per
            case. Both of every anatomical region, as ``false_positive_regions/NAME``: means over
            the cases that have the region, else nan.
        """
        return self.figures(network, self.cases, epoch)

    def figures(
        self, network: Any, cases: Sequence[PreparedCase], epoch: int | None = None
    ) -> Figures:
        """The same over the given cases; pictures only with an epoch."""
        scores: list[Figures] = []
        counts: list[Figures] = []
        for number, case in enumerate(cases):
            of_classes, of_case, painted = _figures(
                case, self._predict(network, case), self.config, self.classes
            )
            scores += of_classes
            counts.append(of_case)
            if epoch is not None and number < self.config.tracking.overlays:
                self._picture(number, case, painted, epoch)
        places = [region.name for region in self.config.anatomy.regions]
        by_place = [f"{count}/{place}" for place in places for count in COUNTS]
        return _means(SCORES, scores) | _means([*COUNTS, *by_place], counts)

    def sample(self, network: Any) -> float:
        """Validate on the case of median size; returns its share of all voxels."""
        voxels = [math.prod(case.shape) for case in self.cases]
        middle = int(np.argsort(voxels)[len(voxels) // 2])
        self.figures(network, [self.cases[middle]])
        return voxels[middle] / sum(voxels)

    def _picture(self, number: int, case: PreparedCase, painted: np.ndarray, epoch: int) -> None:
        if self.show is None:
            return
        reference = _is_lesion(np.asarray(case.reference))
        image = np.asarray(case.image[..., 0])
        pixels = overlay(image, reference, painted, np.array(case.spacing_mm))
        self.show(f"validation case {number + 1}", pixels, epoch)

    def _predict(self, network: Any, case: PreparedCase) -> np.ndarray:
        if not self._known or self._known[0][0] is not network:
            self._known[:] = [(network, self.make_engine(network))]
        return predict_volume(
            np.asarray(case.image),
            normalising(self._known[0][1], case.shift, case.scale),
            patch=self.config.train.patch,
            overlap=self.config.predict.overlap,
            batch=self.config.predict.batch,
            slice_axis=self.slice_axis,
        )


def _is_lesion(reference: np.ndarray) -> np.ndarray:
    return (reference > 0) & (reference != IGNORE)


def _figures(
    case: PreparedCase, probabilities: np.ndarray, config: Config, classes: int
) -> tuple[list[Figures], Figures, np.ndarray]:
    """Scores of every class of a case, what was found wrongly in all of them, and a painted map."""
    point = config.predict.operating_point
    limits = Limits.of(config.evaluate, point)
    reference = np.asarray(case.reference)
    found = np.where(reference == IGNORE, 0, class_map(probabilities, point.threshold))
    maps = np.asarray(case.regions)
    regions = {name: maps[..., i] for i, name in enumerate(case.region_names)}
    scores: list[Figures] = []
    total: dict[str, float] = {}
    painted = np.zeros(reference.shape, np.uint8)
    for k in range(1, classes + 1):
        truth = reference == k
        lesions = find_lesions(truth, limits)
        labels = label_components(found == k, limits.connectivity)[0]
        view = make_view(
            case.id,
            str(k),
            lesions.labels,
            labels,
            float(np.prod(case.spacing_mm)),
            reach=lesions.reach,
            probability=probabilities[..., k - 1],
            regions=regions,
        )
        counts = view.count(limits)
        mask = np.r_[False, view.present(limits)][labels]
        scores.append(
            {
                "dice": dice(count_voxels(truth, mask)),
                "lesion_sensitivity": lesion_sensitivity(tally_of(counts)),
                "lesion_f1": f1_of(counts),
            }
        )
        painted = np.maximum(painted, paint(lesions.labels, labels, counts.matching))
        homes = [view.prediction.region[i - 1] for i in counts.matching.false_positives]
        wrong = _wrong(homes, mask & ~truth, regions)
        total = {name: total.get(name, 0.0) + value for name, value in wrong.items()}
    return scores, total, painted


def _wrong(homes: Sequence[str], voxels: np.ndarray, regions: Mapping[str, np.ndarray]) -> Figures:
    """Counts of all false-positive components and voxels, and of those in each region.

    Parameters
    ----------
    homes : sequence of str
        Region of every false-positive component.
    voxels : (X, Y, Z) bool ndarray
        Predicted, and not of this class.
    regions : mapping of str to (X, Y, Z) uint8 ndarray
        255 inside; a voxel of a soft border counts by its share.
    """
    figures = {
        "false_positive_regions": float(len(homes)),
        "false_positive_voxels": float(voxels.sum()),
    }
    for name, region in regions.items():
        figures[f"false_positive_regions/{name}"] = float(homes.count(name))
        figures[f"false_positive_voxels/{name}"] = float(region[voxels].sum(dtype=np.int64) / 255)
    return figures


def _means(names: Iterable[str], rows: Sequence[Mapping[str, float]]) -> Figures:
    """Mean of each figure over the rows that have it defined; nan where none has."""
    means = {}
    for name in names:
        values = np.array([row.get(name, np.nan) for row in rows])
        defined = values[~np.isnan(values)]
        means[name] = float(defined.mean()) if len(defined) else float("nan")
    return means
