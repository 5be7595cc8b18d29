"""`make study`: train what is missing, then write the tables; stop it and go on at any time."""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.study.jobs import DATASETS, SEEDS, Job, all_jobs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    parser.add_argument("--dataset", choices=list(DATASETS), help="only this one")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds ({SEEDS})")
    parser.add_argument("--minutes", type=float, help="begin no job after so long")
    parser.add_argument("--work", type=Path, default=Path("runs/study"), help="caches and bases")
    parser.add_argument("--tables", action="store_true", help="train nothing")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    datasets = (options.dataset,) if options.dataset else tuple(DATASETS)
    jobs = [job for job in all_jobs(datasets, options.seeds) if not job.result.exists()]
    started = time.monotonic()
    if not options.tables:
        options.work.mkdir(parents=True, exist_ok=True)
        for left, job in zip(range(len(jobs), 0, -1), jobs, strict=True):
            if options.minutes and time.monotonic() - started > 60 * options.minutes:
                break
            result = _apart(job, options.work)
            name = f"{job.dataset}, seed {job.seed}, fold {job.fold}, {job.arm}"
            print(f"{left} left: {name}: {result['seconds']} s", flush=True)
    from benchmarks.study import analyse, shifted

    analyse.report()
    shifted.report()


def _apart(job: Job, work: Path) -> dict[str, Any]:
    """One job in a process of its own: what TensorFlow keeps of a network goes with it."""
    from benchmarks.study.train import run_job

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(run_job, job, work).result()


if __name__ == "__main__":
    main()
