"""`make bench-accuracy`: run the jobs that have no result yet, then print the tables.

Stop it and go on at any time. Jobs run one after another, on the same two cores.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from benchmarks.accuracy.jobs import COMPARISONS, RESULTS, THREADS, all_jobs

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-peers" / "bin" / "python"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--dataset", choices=list(COMPARISONS), help="only this one")
    parser.add_argument("--fold", type=int, help="only this one")
    parser.add_argument("--arm", action="append", help="only this one; repeatable")
    parser.add_argument("--minutes", type=float, help="begin no job after so long")
    parser.add_argument("--work", type=Path, default=Path("runs/accuracy"), help="weights, masks")
    parser.add_argument("--python", type=Path, default=PYTHON, help="that of nnU-Net")
    parser.add_argument("--tables", action="store_true", help="train nothing")
    parser.add_argument(
        "--trial",
        type=int,
        metavar="N",
        help="N iterations instead of the minutes, to see that all runs; results stay in WORK",
    )
    options = parser.parse_args()
    if not options.tables and not options.python.exists():
        parser.error(f"expected nnU-Net's Python at {options.python}. Run make bench-accuracy.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    datasets = (options.dataset,) if options.dataset else tuple(COMPARISONS)
    work = options.work if options.trial is None else options.work / "trial"
    results = RESULTS if options.trial is None else work / "results"
    if not options.tables:
        _run(options, datasets, work.resolve(), results)
    from benchmarks.accuracy.tables import report

    report(datasets, results)


def _run(options: argparse.Namespace, datasets: tuple[str, ...], work: Path, results: Path) -> None:
    from benchmarks.accuracy.peer import Peer
    from benchmarks.accuracy.run import run_job

    if hasattr(os, "sched_setaffinity"):  # children inherit it: both sides have the same cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    data = options.work.resolve() / "nnunet"
    peer = Peer(options.python.absolute(), data, work / "nnunet-results")
    jobs = [job for job in all_jobs(datasets) if not job.result(results).exists()]
    if options.fold is not None:
        jobs = [job for job in jobs if job.fold == options.fold]
    if options.arm:
        jobs = [job for job in jobs if job.arm in options.arm]
    started = time.monotonic()
    for left, job in zip(range(len(jobs), 0, -1), jobs, strict=True):
        if options.minutes and time.monotonic() - started > 60 * options.minutes:
            break
        training = run_job(job, peer, work, results, options.trial)["training"]
        print(
            f"{left} left: {job}: {training['iterations']} iterations in {training['seconds']} s, "
            f"{training['processor_seconds']} s of processor time",
            flush=True,
        )


if __name__ == "__main__":
    main()
