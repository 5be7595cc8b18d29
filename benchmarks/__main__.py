"""`python -m benchmarks [NAME...]`: measure, print a table, write JSON."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import RESULTS, document, table, write

NAMES = (
    *("steps", "losses", "loading", "predict", "score", "switches", "gpu", "large"),
    *("readers", "ranking", "registration"),
)
_UNASKED = NAMES[
    :6
]  # gpu takes hours on a processor, large many minutes; the last three need scans


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures in one file too")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="rounds (3)")
    parser.add_argument(
        "--smoke", action="store_true", help="tiny sizes, to see that it runs; keeps no results"
    )
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"expected names among {', '.join(NAMES)}; received {', '.join(unknown)}")
    if options.repeat < 1:
        parser.error(f"--repeat: expected at least 1; received {options.repeat}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    documents = []
    for name in options.names or _UNASKED:
        rows = importlib.import_module(f"benchmarks.{name}").run(options.repeat, options.smoke)
        print(f"\n{name}\n{table(rows)}", flush=True)
        documents.append(document(name, rows))
        if not options.smoke:
            write(RESULTS / f"{name}.json", documents[-1])
    if options.json is not None:
        write(options.json, documents)


if __name__ == "__main__":
    main()
