"""`make ablation`: train what is missing, then write the tables; stop it and go on at any time."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from benchmarks.ablation.analyse import report
from benchmarks.ablation.jobs import ARMS, DATASETS, SEEDS, all_jobs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--dataset", choices=list(DATASETS), help="only this one")
    parser.add_argument("--arm", choices=list(ARMS), action="append", help="only these")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds ({SEEDS})")
    parser.add_argument("--minutes", type=float, help="begin no job after so long")
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"), help="cache")
    parser.add_argument("--tables", action="store_true", help="train nothing")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    datasets = (options.dataset,) if options.dataset else tuple(DATASETS)
    wanted = [job for job in all_jobs(datasets, options.seeds) if job.arm in (options.arm or ARMS)]
    jobs = [] if options.tables else [job for job in wanted if not job.result.exists()]
    started = time.monotonic()
    options.work.mkdir(parents=True, exist_ok=True)
    for left, job in zip(range(len(jobs), 0, -1), jobs, strict=True):
        if options.minutes and time.monotonic() - started > 60 * options.minutes:
            break
        from benchmarks.ablation.train import run_job

        result = run_job(job, options.work)
        name = f"{job.dataset}, seed {job.seed}, {job.arm}"
        print(f"{left} left: {name}: {result['seconds']} s", flush=True)
    report()


if __name__ == "__main__":
    main()
