"""What all folds of a training are good for together: cross-validation and an ensemble."""

from __future__ import annotations

import shutil

from rich.console import Console

from segpipe.config import Config
from segpipe.observer import Observer
from segpipe.pipeline.ensemble import run_ensemble
from segpipe.pipeline.evaluate import run_evaluate
from segpipe.pipeline.runs import RunFolder


def conclude_folds(config: Config, folds: int, run: RunFolder, observer: Observer) -> bool:
    """Cross-validate all folds of a run and put them into one bundle, ``RUN/ensemble``.

    Every case is predicted once more, by the fold that held it out; the operating point that all
    cases speak for goes into the folds' bundles and into the ensemble. A run that was concluded
    stays as it is.

    Parameters
    ----------
    config : Config
    folds : int
        How many there are; all of them are trained.
    run : RunFolder
    observer : Observer

    Returns
    -------
    bool
        Whether a case failed; the ensemble then has the configured operating point.
    """
    record = run.record()
    if record.get("ensemble") == "finished":
        return bool(record.get("ensemble_failed"))
    observer.message("all folds: cross-validation")
    failed = run_evaluate(config, [], None, "validation", Console(quiet=True), observer, run=run)
    shutil.rmtree(run.ensemble, ignore_errors=True)  # half of one, if a run was killed here
    members = [str(run.bundle(k)) for k in range(folds)]
    run_ensemble(members, run.ensemble, config.output, observer)
    if config.tracking.enabled and config.tracking.register_model:
        from segpipe.tracking import Store, register_ensemble

        version = register_ensemble(Store(config.output), config.name, run.ensemble, run.id)
        observer.message(f"registered models:/{config.name}/{version}, @ensemble")
    run.write_record({**run.record(), "ensemble": "finished", "ensemble_failed": failed})
    return failed
