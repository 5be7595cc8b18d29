"""One job: train on fold 0, then score its held-out cases on the prepared grid."""

from __future__ import annotations

import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.ablation.jobs import Job
from benchmarks.fold import prepare_fold
from segpipe.backend import select
from segpipe.config import Config, load
from segpipe.files import write_text
from segpipe.observer import Silent
from segpipe.pipeline.fold import patch_sampler, seeded_network, validation_of
from segpipe.train.fit import fit
from segpipe.train.validation import SCORES

FIGURES = (*SCORES, "false_positive_regions")


def run_job(job: Job, work: Path, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """Train and score one job; writes and returns its result."""
    started = time.perf_counter()
    config = load(job.config, [*job.overrides(), *extra, f"output={work}"])
    cases, device = _train_and_score(config, work)
    result = {
        "dataset": job.dataset,
        "seed": job.seed,
        "arm": job.arm,
        "device": device,
        "steps": config.train.total_steps,
        "seconds": round(time.perf_counter() - started, 1),
        "cases": cases,
    }
    write_text(job.result, json.dumps(result, allow_nan=False))
    return result


def _train_and_score(config: Config, work: Path) -> tuple[dict[str, dict[str, float | None]], str]:
    """Figures of every held-out case, None where one is undefined; and the device."""
    settings = config.train
    device = select(config.backend, settings.device, settings.precision, True, settings.seed)
    fold = prepare_fold(config, 0)
    network = seeded_network(config, fold.plan)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        fit(
            network,
            patch_sampler(fold.training, config, fold.plan),
            config=config,
            classes=len(fold.plan.labels),
            device=device,
            folder=Path(folder),
            validate=None,
            observer=Silent(),
        )
    validation = validation_of(fold.held_out, config, fold.plan, Silent())
    figures = {case.id: validation.figures(network, [case]) for case in fold.held_out}
    cases = {
        case: {name: None if math.isnan(own[name]) else own[name] for name in FIGURES}
        for case, own in figures.items()
    }
    return cases, device.describe()
