"""`make ablation`: train what is missing, then write the tables; stop it and go on at any time."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.ablation.analyse import report
from benchmarks.ablation.jobs import ARMS, DATASETS, SAMPLES, SEEDS, all_jobs
from benchmarks.jobs import work_off
from segpipe.backend.processor import cores


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--dataset", choices=list(DATASETS), help="only this one")
    parser.add_argument("--arm", choices=list(ARMS), action="append", help="only these")
    parser.add_argument(
        "--seeds", type=int, choices=range(1, SEEDS + 1), default=SEEDS, help=f"seeds ({SEEDS})"
    )
    parser.add_argument("--minutes", type=float, help="begin no job after so long")
    parser.add_argument("--at-once", type=int, default=cores(), help="jobs side by side (cores)")
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"), help="cache")
    parser.add_argument("--tables", action="store_true", help="train nothing")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    datasets = (options.dataset,) if options.dataset else tuple(DATASETS)
    if not options.tables:
        from benchmarks.ablation.train import make_data, run_job

        wanted = [
            [job]
            for job in all_jobs(datasets, options.seeds)
            if job.arm in (options.arm or ARMS) and job.read() is None
        ]
        if any(job.dataset == SAMPLES for (job,) in wanted):
            make_data(options.work)
        work_off(wanted, run_job, options.work, options.minutes, options.at_once)
    report()


if __name__ == "__main__":
    main()
