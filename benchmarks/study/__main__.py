"""`make study`: train what is missing, then write the tables; stop it and go on at any time."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.jobs import work_off
from benchmarks.study.jobs import DATASETS, SEEDS, all_jobs, what_is_left
from segpipe.backend.processor import cores


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    parser.add_argument("--dataset", choices=list(DATASETS), help="only this one")
    parser.add_argument(
        "--seeds", type=int, choices=range(1, SEEDS + 1), default=SEEDS, help=f"seeds ({SEEDS})"
    )
    parser.add_argument("--minutes", type=float, help="begin no job after so long")
    parser.add_argument("--at-once", type=int, default=cores(), help="folds side by side (cores)")
    parser.add_argument("--work", type=Path, default=Path("runs/study"), help="caches and bases")
    parser.add_argument("--tables", action="store_true", help="train nothing")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    datasets = (options.dataset,) if options.dataset else tuple(DATASETS)
    if not options.tables:
        from benchmarks.study.train import BASES, run_job

        rows = what_is_left(list(all_jobs(datasets, options.seeds)), options.work / BASES)
        work_off(rows, run_job, options.work, options.minutes, options.at_once)
    from benchmarks.study.page import report

    report()


if __name__ == "__main__":
    main()
