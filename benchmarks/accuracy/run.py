"""One job from training to figures; a killed one goes on where its last step ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.accuracy.jobs import OUR_ENVIRONMENT, THREADS, Job
from benchmarks.accuracy.judge import score, sweep
from benchmarks.accuracy.layout import write_references
from benchmarks.accuracy.peer import ROOT, Peer
from benchmarks.report import machine
from segpipe.config import Config, load
from segpipe.data.layouts import Dataset, open_dataset
from segpipe.files import write_text
from segpipe.pipeline.prepare import chosen_fold

MIRRORED, PLAIN = "mirrored", "not mirrored"


def run_job(job: Job, peer: Peer, work: Path, results: Path, trial: int | None) -> dict[str, Any]:
    """Train, predict and score one job; writes and returns its result.

    Parameters
    ----------
    job : Job
    peer : Peer
    work : Path
        For weights, predictions and links.
    results : Path
        Where results lie.
    trial : int or None
        Iterations instead of minutes; then one held-out case is predicted, without mirroring.
    """
    config = load(job.comparison.config, job.comparison.overrides)
    dataset = open_dataset(config.data)
    folder = work / f"{job.dataset}-fold{job.fold}-{job.arm}"
    folder.mkdir(parents=True, exist_ok=True)
    held_out = list(chosen_fold(dataset, config, job.fold).validation)[
        : None if trial is None else 1
    ]
    references = write_references(dataset, held_out, folder / "references")
    if job.peer:
        peer.prepare(job.dataset, job.comparison, dataset, config)
        names = (PLAIN, MIRRORED) if trial is None else (PLAIN,)
        found = _run_peer(job, peer, folder, held_out, _length(job, None, trial), names)
    else:
        model = job.model
        done = None if model is None else json.loads(model.result(results).read_text())
        found = _run_ours(job, folder, held_out, _length(job, done, trial), done)
    predictions = {
        name: {"cost": cost, **_judge(job, references, masks, dataset, config)}
        for name, (cost, masks) in found["predictions"].items()
    }
    result = {
        "schema": 1,
        "dataset": job.dataset,
        "fold": job.fold,
        "arm": job.arm,
        "length": found["length"],
        "threads": THREADS,
        "training": found["training"],
        "predictions": predictions,
        "versions": found["versions"],
        "machine": machine(),
    }
    write_text(job.result(results), json.dumps(result))
    for report in folder.glob("*.json"):  # whoever removes the result wants all of it done anew
        report.unlink()
    return result


def _length(job: Job, model: dict[str, Any] | None, trial: int | None) -> list[str]:
    """How long to train, as both commands take it."""
    if model is not None:
        return ["--iterations", str(model["training"]["iterations"])]
    if trial is not None:
        return ["--iterations", str(trial)]
    return ["--seconds", f"{60 * job.comparison.minutes:g}"]


def _run_peer(
    job: Job,
    peer: Peer,
    folder: Path,
    held_out: list[str],
    length: list[str],
    names: tuple[str, ...],
) -> dict[str, Any]:
    training = peer.train(job, length, folder / "train.json")
    predictions = {}
    for name in names:
        masks = folder / name.replace(" ", "-")
        report = masks.with_suffix(".json")
        cost = peer.predict(job, held_out, masks, report, mirroring=name == MIRRORED)
        cost.pop("versions")
        predictions[name] = cost, masks
    versions = training.pop("versions")
    return {
        "length": length,
        "training": training,
        "predictions": predictions,
        "versions": versions,
    }


def _run_ours(
    job: Job, folder: Path, held_out: list[str], length: list[str], model: dict[str, Any] | None
) -> dict[str, Any]:
    report, masks = folder / "ours.json", folder / "masks"
    if not report.exists():
        own = [
            *job.comparison.overrides,
            f"output={folder.parent / 'segpipe'}",
            "tracking.enabled=false",
        ]
        own += ["evaluate.choose=fixed", "train.validate_every=0"]
        if model is not None:
            own.append(f"train.batch={model['training']['batch']}")
        target = ["--predictions", str(masks), "--report", str(report)]
        command = [sys.executable, "-m", "benchmarks.accuracy.ours", str(job.comparison.config)]
        command += [*own, "--fold", str(job.fold), *length, "--cases", *held_out, *target]
        command += ["--probabilities"] * job.comparison.sweep
        subprocess.run(command, cwd=ROOT, env=os.environ | OUR_ENVIRONMENT, check=True)
    found = json.loads(report.read_text())
    return {
        "length": length,
        "training": found["training"],
        "predictions": {PLAIN: (found["prediction"], masks)},
        "versions": found["versions"],
    }


def _judge(
    job: Job, references: Path, masks: Path, dataset: Dataset, config: Config
) -> dict[str, Any]:
    rows = score(references, masks, config)
    if not job.comparison.sweep:
        return {"rows": rows}
    swept = sweep(references, masks / "probabilities", dataset, config)
    return {"rows": rows, "sweep": swept}
