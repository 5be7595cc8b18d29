"""One job: go on from the shared base, predict the held-out patients, count."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.blob_loss import BlobLoss
from benchmarks.fold import prepare_fold
from benchmarks.study.jobs import PUBLISHED, SHIFTED, Job, Setting, code, find_base
from benchmarks.study.shifted import shift_case
from segpipe.backend import Device, select
from segpipe.backend.callbacks import choose_labelling
from segpipe.config import Config, OperatingPoint
from segpipe.config.rules import RULES
from segpipe.data.read import read_case
from segpipe.evaluate.score import tabulate
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.table import THRESHOLDS as USUAL
from segpipe.files import write_text
from segpipe.geometry import inverse
from segpipe.lesions.limits import Limits
from segpipe.lesions.view import View
from segpipe.model.bundle import slice_axis
from segpipe.observer import Silent
from segpipe.pipeline.fold import patch_sampler, seeded_network
from segpipe.pipeline.models import inference_network
from segpipe.predict.engines import choose_engine, make_engine
from segpipe.predict.window import normalising, predict_volume
from segpipe.train.fit import fit

BASES = "bases"
_NINES = tuple(round(1 - part * 10.0**-n, n + 1) for n in range(2, 7) for part in (5, 2, 1))
THRESHOLDS = (*USUAL, *(t for t in _NINES if t > USUAL[-1]))
"""Thresholds swept: those of an evaluation, and on to 0.999999, as without a penalty most false
positives lie above 0.95. Lower ones were swept once: there one region can cover half a brain and
find all at once."""

SIZES_MM3 = (0.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
"""Minimum sizes swept, of the control as of every arm. Up to 100 mm³ the control's best lay at the
largest more often than that of the others."""

MASKS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.8)
"""Thresholds whose components are swept by their highest probability as well (hysteresis)."""

SETTINGS: tuple[Setting, ...] = tuple(
    (size, t, core)
    for size in SIZES_MM3
    for t, core in (
        *((t, None) for t in THRESHOLDS),
        *((t, core) for t in MASKS for core in THRESHOLDS if core > t),
    )
)
"""Ways to a mask that are counted, of every arm and case."""


class _BaseReachedError(Exception):
    """The epochs that all arms share are done."""


class _StopAt(Silent):
    """Ends training once the epochs that all arms share are saved."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def progress(self, done: int, total: int, text: str = "") -> None:
        if done > self.steps:
            raise _BaseReachedError


def run_job(job: Job, work: Path) -> dict[str, Any]:
    """Train and count one job; writes and returns its result."""
    started = time.perf_counter()
    config = job.config(f"output={work}")
    views, device, base = _train_and_predict(job, config, work)
    result = {
        "dataset": job.dataset,
        "fold": job.fold,
        "seed": job.seed,
        "arm": job.arm,
        "seconds": round(time.perf_counter() - started, 1),
        "base": base,
        "code": code(),
        "device": device,
        "config": job.config().model_dump(mode="json"),
        "settings": SETTINGS,
        "cases": {case: _counts(mine) for case, mine in views.items()},
    }
    write_text(job.result, json.dumps(result, separators=(",", ":")))
    return result


def _train_and_predict(
    job: Job, config: Config, work: Path
) -> tuple[dict[str, list[View]], str, str]:
    """Components of every held-out case, on its own grid, at every threshold; device and base."""
    settings = config.train
    device = select(config.backend, "cpu", settings.precision, True, settings.seed)
    fold = prepare_fold(config, job.fold)
    plan = fold.plan
    training = list(fold.training)
    if job.arm == SHIFTED:
        training = [shift_case(case) for case in training]
    sampler = patch_sampler(training, config, plan)
    fixed: dict[str, Any] = {"config": config, "classes": len(plan.labels), "device": device}
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        own = Path(temporary)
        base = _base(job, config, plan, sampler, fixed, work)
        shutil.copytree(base / "checkpoints", own / "checkpoints")
        network = seeded_network(config, plan)
        fit(
            network,
            sampler,
            folder=own,
            validate=None,
            observer=Silent(),
            resume=True,
            objective=objective_of(job, config, device),
            **fixed,
        )
    engine_name = choose_engine("auto", device.kind, device.backend)
    engine = make_engine(engine_name, inference_network(network), config.predict.batch)
    views = {}
    stored = {case.id: case for case in fold.validation}
    for ready in fold.held_out:
        case = stored[ready.id]
        probabilities = predict_volume(
            np.asarray(ready.image),
            normalising(engine, ready.shift, ready.scale),
            patch=settings.patch,
            overlap=config.predict.overlap,
            batch=config.predict.batch,
            slice_axis=slice_axis(config, plan),
        )
        reference = read_case(case, plan.labels, config.data).reference
        assert reference is not None  # what is held out is annotated
        own_grid = np.clip(inverse(probabilities, ready.transform, order=1), 0, 1)
        views[case.id] = tabulate(
            case.id,
            reference,
            reference.with_array(own_grid),
            plan.labels,
            ScoreSettings.from_config(config.evaluate, OperatingPoint()),
            THRESHOLDS,
        )
    return views, device.describe(), base.name


def objective_of(job: Job, config: Config, device: Device) -> BlobLoss | None:
    """What the job minimises after the fork; None: the loss of its configuration."""
    if job.arm != PUBLISHED:
        return None
    return BlobLoss(labelling=choose_labelling(config.loss.labelling, device))


def _base(job: Job, config: Config, plan, sampler, fixed, work: Path) -> Path:
    """Folder with checkpoints of the epochs in which every penalty is 0, once for all arms.

    The control's configuration trains them; with a weight of 0 or a ramp of 0 the steps are equal.
    """
    base = find_base(job, work / BASES)
    if base is None:
        base = work / BASES / f"{job.base()}-{secrets.token_hex(4)}"
        base.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base.parent) as temporary:
            folder = Path(temporary) / "base"
            network = seeded_network(config, plan)
            steps = round(config.loss.ramp_start * config.train.epochs)
            steps *= config.train.steps_per_epoch
            try:
                fit(
                    network, sampler, folder=folder, validate=None, observer=_StopAt(steps), **fixed
                )
            except _BaseReachedError:
                folder.rename(base)
    return base


def _counts(views: Sequence[View]) -> dict[str, Any]:
    """Lesions, and per setting what was found of them: components and voxels, as integers."""
    at = dict(zip(THRESHOLDS, views, strict=True))
    rows = [_count(at[threshold], size, core) for size, threshold, core in SETTINGS]
    names = ("detected", "false_positives", "predicted_voxels", "shared_voxels")
    columns = {
        name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    reference = views[0].reference.voxels
    return {"lesions": len(reference), "reference_voxels": int(reference.sum()), **columns}


def _count(view: View, size: float, core: float | None) -> tuple[int, int, int, int]:
    counts = view.count(Limits(RULES["any"], removal_size_mm3=size, core_threshold=core))
    kept = view.overlaps.where(counts.kept[view.overlaps.prediction - 1])
    return (
        len(counts.matching.detected),
        len(counts.matching.false_positives),
        int(view.prediction.voxels[counts.kept].sum()),
        int(kept.voxels.sum()),
    )
