"""Cases with references that were predicted, kept on disk until they are scored."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segpipe.config import Config, OperatingPoint
from segpipe.data.layouts import Case, Dataset
from segpipe.data.read import read_case
from segpipe.errors import DataError, SegpipeError, StorageError, without_frames
from segpipe.evaluate.score import tabulate
from segpipe.evaluate.table import THRESHOLDS, component_table
from segpipe.files import replacing
from segpipe.lesions.view import View
from segpipe.observer import Observer
from segpipe.pipeline.evaluation_document import score_settings
from segpipe.pipeline.memory import within_memory
from segpipe.pipeline.models import Loaded
from segpipe.pipeline.outputs import midline_x_mm
from segpipe.pipeline.regions import dataset_regions
from segpipe.pipeline.unusual import unusual
from segpipe.predict.case import predict_scan
from segpipe.predict.uncertainty import Spread
from segpipe.prepare import naming_case, prepare_volume
from segpipe.volume import Volume


@dataclass(frozen=True, eq=False)
class Prediction:
    """Probabilities of a case beside what they are scored with, all on the scan's grid.

    Parameters
    ----------
    probabilities : (X, Y, Z, K) Volume
    reference : (X, Y, Z) Volume
    regions : dict of str to (X, Y, Z) float32 ndarray
    flags : tuple of str
        What is unusual about the scan, its regions and their placement.
    midline_x_mm : float or None
        Where left meets right; see :func:`~segpipe.pipeline.outputs.midline_x_mm`.
    registration : dict or None
        See :class:`~segpipe.pipeline.regions.CaseRegions`.
    seconds : float
        From reading to probabilities.
    """

    probabilities: Volume
    reference: Volume
    regions: dict[str, np.ndarray]
    flags: tuple[str, ...]
    midline_x_mm: float | None
    registration: dict[str, Any] | None
    seconds: float

    def save(self, path: Path) -> None:
        """Write it as one file.

        Raises
        ------
        OSError
            With the path as its file name, if it cannot be written.
        """
        grid = self.probabilities
        facts = {
            "form_codes": grid.form_codes,
            "regions": list(self.regions),
            "flags": self.flags,
            "midline_x_mm": self.midline_x_mm,
            "registration": self.registration,
            "seconds": self.seconds,
        }
        maps = list(self.regions.values())
        with replacing(path) as stream:
            np.savez(
                stream,
                affine=grid.affine,
                probabilities=grid.array,
                reference=self.reference.array,
                regions=np.stack(maps) if maps else np.zeros((0, *grid.shape), np.float32),
                facts=np.array(json.dumps(facts)),
            )

    @classmethod
    def load(cls, path: Path) -> Prediction:
        """Read what :meth:`save` wrote."""
        with np.load(path) as stored:
            facts = json.loads(str(stored["facts"]))
            grid = Volume(stored["probabilities"], stored["affine"], tuple(facts["form_codes"]))
            return cls(
                grid,
                grid.with_array(stored["reference"]),
                dict(zip(facts["regions"], stored["regions"], strict=True)),
                tuple(facts["flags"]),
                facts["midline_x_mm"],
                facts["registration"],
                facts["seconds"],
            )


@dataclass(frozen=True, eq=False)
class Predicted:
    """Cases with their predictions on disk and their components in a table.

    Parameters
    ----------
    store : Path
        Folder of the predictions.
    table : DataFrame
        Of components, at every threshold.
    cases : tuple of Case
        All of them, failed ones included.
    failed : dict of str to SegpipeError
    """

    store: Path
    table: pd.DataFrame
    cases: tuple[Case, ...]
    failed: dict[str, SegpipeError]

    @property
    def patients(self) -> dict[str, str]:
        """The cases that did not fail, to their patients."""
        return {case.id: case.patient for case in self.cases if case.id not in self.failed}

    def prediction(self, case: Case) -> Prediction:
        """What was predicted for a case that did not fail."""
        return Prediction.load(_stored(self.store, case))


def predict_cases(
    cases: Sequence[Case],
    dataset: Dataset,
    config: Config,
    loaded: Loaded,
    store: Path,
    observer: Observer,
    *,
    point: OperatingPoint,
) -> Predicted:
    """Predict and tabulate; ``point`` is a threshold that the table shall have in any case.

    Raises
    ------
    SegpipeError
        The first failure, with ``predict.strict``.
    StorageError
        If the cache cannot be written.
    OSError
        If a prediction cannot be kept.
    """
    failed: dict[str, SegpipeError] = {}
    views: list[View] = []
    thresholds = sorted({*THRESHOLDS, point.threshold})
    for done, case in enumerate(cases, start=1):
        try:
            with within_memory(case):
                prediction = _predict(case, dataset, config, loaded)
                prediction.save(_stored(store, case))
                views += _tabulate(case, prediction, dataset.labels, config, thresholds)
        except SegpipeError as error:
            if config.predict.strict or isinstance(error, StorageError):
                raise
            failed[case.id] = without_frames(error)
        observer.progress(done, len(cases), f"predicting {case.id}")
    return Predicted(store, component_table(views), tuple(cases), failed)


def predict_image(
    case: Case, image: Volume, loaded: Loaded, max_voxels: int, spread: Spread | None = None
) -> tuple[Volume, tuple[str, ...]]:
    """Probabilities of a case's scan, as :func:`~segpipe.predict.case.predict_scan` has them.

    Returns
    -------
    probabilities : (X, Y, Z, K) Volume
    flags : tuple of str
        What is unusual about the scan; see :func:`~segpipe.pipeline.unusual.unusual`.

    Raises
    ------
    DataError
        If the scan cannot be prepared; the case is named.
    """
    with naming_case(case):
        prepared = prepare_volume(image, loaded.bundle.plan, max_voxels=max_voxels)
        probabilities = predict_scan(image, loaded.models, spread, prepared, max_voxels=max_voxels)
    return probabilities, unusual(prepared, loaded.bundles)


def _stored(store: Path, case: Case) -> Path:
    return store / f"{case.id}.npz"


def _predict(case: Case, dataset: Dataset, config: Config, loaded: Loaded) -> Prediction:
    started = time.perf_counter()
    scan = read_case(case, dataset.labels, config.data)
    if scan.reference is None:
        raise DataError(case.id, "no reference", fix="Add the expert's mask, or leave it out.")
    probabilities, odd = predict_image(case, scan.image, loaded, config.data.max_voxels)
    found = dataset_regions(case, scan.image, dataset, config, loaded.priors)
    return Prediction(
        probabilities,
        scan.reference,
        found.arrays,
        (*scan.flags, *odd, *found.flags),
        midline_x_mm(scan.image),
        found.registration,
        time.perf_counter() - started,
    )


def _tabulate(
    case: Case,
    prediction: Prediction,
    labels: Mapping[str, int],
    config: Config,
    thresholds: Sequence[float],
) -> list[View]:
    return tabulate(
        case.id,
        prediction.reference,
        prediction.probabilities,
        labels,
        score_settings(config, OperatingPoint()),
        thresholds,
        regions=prediction.regions,
    )
