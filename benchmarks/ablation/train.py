"""One job: train on fold 0, then score its held-out cases on the prepared grid."""

from __future__ import annotations

import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import keras

from benchmarks.ablation.jobs import Job
from segpipe.augment import build
from segpipe.backend import select
from segpipe.batches import PatchSampler, keep_in_memory
from segpipe.config import Config, load
from segpipe.data.layouts import open_dataset
from segpipe.files import write_text
from segpipe.model.bundle import build_network, slice_axis
from segpipe.observer import Silent
from segpipe.pipeline.models import inference_network
from segpipe.pipeline.prepare import chosen_fold, plan_for, prepare_cases
from segpipe.pipeline.priors import fold_priors
from segpipe.predict.engines import make_engine
from segpipe.train.fit import fit
from segpipe.train.validation import SCORES, Validation

FIGURES = (*SCORES, "false_positive_regions")


def run_job(job: Job, work: Path, extra: tuple[str, ...] = ()) -> dict[str, Any]:
    """Train and score one job; writes and returns its result."""
    started = time.perf_counter()
    config = load(job.config, [*job.overrides(), *extra, f"output={work}"])
    cases = _train_and_score(config, work)
    result = {
        "dataset": job.dataset,
        "seed": job.seed,
        "arm": job.arm,
        "steps": config.train.total_steps,
        "seconds": round(time.perf_counter() - started, 1),
        "cases": cases,
    }
    write_text(job.result, json.dumps(result, allow_nan=False))
    return result


def _train_and_score(config: Config, work: Path) -> dict[str, dict[str, float | None]]:
    """Figures of every held-out case; None where one is undefined."""
    settings = config.train
    device = select(config.backend, settings.device, settings.precision, True, settings.seed)
    dataset = open_dataset(config.data)
    fold = chosen_fold(dataset, config, 0)
    plan = plan_for(dataset, fold, config)
    priors = fold_priors(dataset, fold, config, Silent())
    prepared = prepare_cases(dataset.cases, dataset, plan, config, Silent(), priors)
    if prepared.failed:
        raise next(iter(prepared.failed.values()))
    across = slice_axis(config, plan)
    sampler = PatchSampler(
        keep_in_memory([prepared.cases[case] for case in fold.train], settings.memory_mb),
        config,
        {region.name: region.weight for region in config.anatomy.regions},
        build(config.augment, config.model.dimensions, plan.spacing_mm),
        plan.spacing_mm,
        across,
    )
    keras.utils.set_random_seed(settings.seed)
    network = build_network(config, plan)
    held_out = [prepared.cases[case] for case in fold.validation]
    validation = Validation(
        held_out,
        config,
        len(plan.labels),
        across,
        lambda net: make_engine("keras", inference_network(net), config.predict.batch),
    )
    with tempfile.TemporaryDirectory(dir=work) as folder:
        fit(
            network,
            sampler,
            config=config,
            classes=len(plan.labels),
            device=device,
            folder=Path(folder),
            validate=None,
            observer=Silent(),
        )
    figures = {case.id: validation.figures(network, [case]) for case in held_out}
    return {
        case: {name: None if math.isnan(own[name]) else own[name] for name in FIGURES}
        for case, own in figures.items()
    }
