"""`make oracle`: segpipe's figures beside those of independent judges, on the same masks.

Exit code 1 where a difference has no explanation.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.oracle.compare import COMPARISONS, compare
from benchmarks.oracle.ours import BRATS, score_all
from benchmarks.oracle.volumes import DATA, Pair, program_pairs, random_pairs
from benchmarks.report import RESULTS, machine, table, write
from benchmarks.timing import short

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-oracle" / "bin" / "python"
TOLERANCE_MM = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.oracle", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000, metavar="N", help="random ones (1000)")
    parser.add_argument(
        "--dataset", type=Path, default=DATA / "ms_lesions", help="with predictions/PROGRAM"
    )
    parser.add_argument("--python", type=Path, default=PYTHON, help="that of the judges")
    options = parser.parse_args(arguments)
    if not options.python.exists():
        parser.error(f"expected the judges' Python at {options.python}. Run make oracle.")
    with tempfile.TemporaryDirectory() as folder:
        kinds = {pair.name: brats_of(index) for index, pair in enumerate(_pairs(options))}
        for pair in _pairs(options):
            _save(pair, kinds[pair.name], Path(folder))
        judged = Path(folder) / "judged.json"
        command = [str(options.python), "-W", "ignore", "-m", "benchmarks.oracle.peers"]
        judges = subprocess.Popen([*command, folder, str(judged)], cwd=ROOT)
        ours = {p.name: score_all(p, kinds[p.name], TOLERANCE_MM) for p in _pairs(options)}
        if judges.wait() != 0:
            return judges.returncode
        found = json.loads(judged.read_text())
    rows = [compare(comparison, found["pairs"], ours) for comparison in COMPARISONS]
    _report(rows, found["versions"])
    return 0 if all(row["accepted"] for row in rows) else 1


def brats_of(index: int) -> str:
    """The BraTS presets take turns."""
    return tuple(BRATS)[index % len(BRATS)]


def _pairs(options: argparse.Namespace) -> Iterator[Pair]:
    yield from random_pairs(options.pairs)
    if (options.dataset / "predictions").is_dir():
        yield from program_pairs(options.dataset)


def _save(pair: Pair, brats: str, folder: Path) -> None:
    iterations, limit_mm3 = BRATS[brats]
    np.savez(
        folder / f"{pair.name}.npz",
        reference=pair.reference,
        prediction=pair.prediction,
        spacing_mm=pair.spacing_mm,
        tolerance_mm=TOLERANCE_MM,
        iterations=iterations,
        limit_mm3=limit_mm3,
    )


def _explained(row: dict[str, Any]) -> str:
    heading = f"{row['what']}, {row['judge']} beside {row['beside']}"
    text = f"\n{heading}: {row['different']} of {row['pairs']} pairs differ.\n"
    text += f"  {row['why'] or 'NOT EXPLAINED'}\n  for instance {row['example']}"
    if row["median gap"] is None:
        return text
    within = short(row["95 % of gaps within"])
    return f"{text}\n  gaps: median {short(row['median gap'])}, 95 % within {within}"


def _report(rows: list[dict[str, Any]], versions: dict[str, str]) -> None:
    columns = ("what", "judge", "beside", "pairs", "different", "largest gap")
    print(table([{name: row[name] for name in columns} for row in rows]))
    for row in rows:
        if row["different"]:
            print(_explained(row))
    document = {"schema": 1, "machine": machine(), "judges": versions, "rows": rows}
    write(RESULTS / "oracle.json", document)


if __name__ == "__main__":
    sys.exit(main())
