"""`make study`: train what is missing, then write the tables; stop it and go on at any time."""

from __future__ import annotations

import argparse
import os
from itertools import groupby
from pathlib import Path

from benchmarks.jobs import work_off
from benchmarks.study import jobs
from benchmarks.study.jobs import DATASETS, SEEDS, all_jobs, without_their_base
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
    parser.add_argument(
        "--tables",
        type=Path,
        nargs="?",
        const=jobs.RESULTS,
        metavar="FOLDER",
        help="train nothing; of these results",
    )
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    datasets = (options.dataset,) if options.dataset else tuple(DATASETS)
    if options.tables is not None:
        jobs.RESULTS = options.tables
    else:
        from benchmarks.study.train import BASES, run_job

        listed = list(all_jobs(datasets, options.seeds))
        for job in without_their_base(listed, options.work / BASES):
            print(f"again, as its base is gone: {job}")
            job.result.unlink()
        rows = [list(arms) for _, arms in groupby(listed, lambda job: job.block)]
        work_off(rows, run_job, options.work, options.minutes, options.at_once)
    from benchmarks.study import analyse, shifted

    analyse.report()
    shifted.report()


if __name__ == "__main__":
    main()
