"""`make bench-peers`: speed and memory beside nnU-Net, in turns on the same cores."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks.accuracy.__main__ import PYTHON
from benchmarks.accuracy.jobs import THREADS
from benchmarks.accuracy.peer import Peer
from benchmarks.report import RESULTS, document, table, write

NAMES = ("augment", "prepare", "train", "predict")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="rounds (3)")
    parser.add_argument("--work", type=Path, default=Path("runs/peers"), help="files of both")
    parser.add_argument("--python", type=Path, default=PYTHON, help="that of nnU-Net")
    parser.add_argument(
        "--smoke", action="store_true", help="tiny sizes, to see that it runs; keeps no results"
    )
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"expected names among {', '.join(NAMES)}; received {', '.join(unknown)}")
    if not options.python.exists():
        parser.error(f"expected nnU-Net's Python at {options.python}. Run make bench-peers.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if hasattr(os, "sched_setaffinity"):  # children inherit it: both sides have the same cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    from benchmarks.peers import measure

    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    peer = Peer(
        options.python.absolute(),
        work / "nnunet",
        work / "nnunet-results",
        module="benchmarks.peers.nnunet",
    )
    bench = measure.Bench(1 if options.smoke else options.repeat, peer, work, options.smoke)
    for name in options.names or NAMES:
        rows = getattr(measure, name)(bench)
        print(f"\n{name}\n{table(rows)}", flush=True)
        if not options.smoke:
            write(RESULTS / f"peers-{name}.json", document(f"peers-{name}", rows))


if __name__ == "__main__":
    main()
