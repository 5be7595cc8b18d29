"""One job: train on fold 0, then score its held-out cases on the prepared grid."""

from __future__ import annotations

import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.ablation.jobs import SAMPLE_CASES, SAMPLE_SEED, SAMPLES, Job
from benchmarks.fold import prepare_fold
from benchmarks.jobs import code_digest
from segpipe.backend import select
from segpipe.config import Config
from segpipe.files import write_text
from segpipe.observer import Silent
from segpipe.pipeline.fold import patch_sampler, seeded_network, validation_of
from segpipe.samples import make_samples
from segpipe.train.fit import fit
from segpipe.train.validation import SCORES

FIGURES = (*SCORES, "false_positive_regions")


def make_data(work: Path) -> None:
    """Make the samples that the ablation trains on, unless they are there."""
    folder = work / SAMPLES
    if folder.exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        make_samples(Path(temporary) / SAMPLES, SAMPLE_CASES, SAMPLE_SEED)
        (Path(temporary) / SAMPLES).rename(folder)


def run_job(job: Job, work: Path) -> dict[str, Any]:
    """Train and score one job; writes and returns its result."""
    started = time.perf_counter()
    config = job.config(work)
    cases, device = _train_and_score(config, work)
    result = {
        "dataset": job.dataset,
        "seed": job.seed,
        "arm": job.arm,
        "code": code_digest("fold.py", "ablation/jobs.py", "ablation/train.py"),
        "device": device,
        "overrides": job.overrides(),
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
