"""`python -m benchmarks.oracle.speed`: scoring a brain against panoptica and MONAI.

Everything that segpipe says of a pair, in one thread, beside the detection figures of panoptica and
the surface figures of MONAI, in turns; masks are in memory, imports and first calls are over.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.oracle.__main__ import PYTHON, ROOT
from benchmarks.oracle.volumes import DATA, Pair
from benchmarks.oracle.worker import WORKS
from benchmarks.report import RESULTS, document, table, write
from benchmarks.score import extra_mb, make_pair
from benchmarks.timing import Spread, alternate, fresh, seconds

TOLERANCE_MM = 1.0
RULES = ("any", "panoptic")
_SHAPE = (182, 218, 182)
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.oracle.speed")
    parser.add_argument("--repeat", type=int, default=7, metavar="N", help="rounds (7)")
    parser.add_argument("--data", type=Path, default=DATA, help="with ms_lesion_masks_mni")
    options = parser.parse_args(arguments)
    os.environ.update(_ONE_THREAD)
    rows = [fresh(measure, pair, options.repeat) for pair in brain_pairs(options.data)]
    print(table([{k: v for k, v in row.items() if k not in WORKS} for row in rows]))
    print()
    print(table([{k: row[k] for k in ("pair", *RULES, *WORKS)} for row in rows]))
    write(RESULTS / "score_peers.json", document("score_peers", rows))


def brain_pairs(data: Path) -> Iterator[Pair]:
    """A synthetic pair, and two of real masks where the data are there: a near copy, a stranger."""
    reference, prediction = make_pair(_SHAPE, 60)
    yield Pair("balls", reference > 0, prediction > 0, np.eye(4))
    masks = data / "ms_lesion_masks_mni"
    if masks.is_dir():
        from segpipe.data.nifti import read_labels

        first, second = (read_labels(masks / f"{case}.nii.gz") for case in ("lit19", "lit07"))
        yield Pair("lit19, redrawn", first.array > 0, redrawn(first.array > 0), first.affine)
        yield Pair("lit19, lit07", first.array > 0, second.array > 0, first.affine)


def redrawn(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """A mask as another hand might draw it: moved borders, lesions missed, balls invented."""
    rng = np.random.default_rng([seed, 733])
    field = ndimage.gaussian_filter(rng.normal(size=mask.shape), 2)
    depth = ndimage.gaussian_filter(mask.astype(float), 1)
    drawn = (depth > 0.1) & (depth + field / field.std() * 0.15 > 0.5)
    labels, count = ndimage.label(drawn, np.ones((3, 3, 3)))
    drawn &= (rng.random(count + 1) > 0.15)[labels]
    invented = np.zeros_like(mask)
    inside = np.argwhere(ndimage.binary_dilation(mask, iterations=12))
    invented[tuple(rng.choice(inside, 15).T)] = True
    return drawn | ndimage.binary_dilation(invented, iterations=2)


def measure(pair: Pair, repeat: int) -> dict[str, Any]:
    """Seconds of segpipe and its peers in turns, and the memory of both."""
    from segpipe.evaluate.score import ScoreSettings, score_labels
    from segpipe.volume import Volume

    masks = [mask.astype(np.uint8) for mask in (pair.reference, pair.prediction)]
    reference, prediction = (Volume(mask, pair.affine) for mask in masks)

    def score(rule: str) -> None:
        settings = ScoreSettings(rule=rule, tolerance_mm=TOLERANCE_MM)
        score_labels(pair.name, reference, prediction, {"lesion": 1}, settings)

    own = {rule: partial(seconds, partial(score, rule)) for rule in RULES}
    with tempfile.TemporaryDirectory() as folder, _worker(pair, Path(folder)) as process:
        questions, answers = process.stdin, process.stdout
        assert questions is not None  # both are pipes
        assert answers is not None

        def ask(name: str) -> float:
            questions.write(f"{name}\n")
            questions.flush()
            return float(answers.readline())

        works = {**own, **{name: partial(ask, name) for name in WORKS}}
        alternate(works, 1)  # imports and first touches
        taken = alternate(works, repeat)
        theirs_mb = ask("memory")
        questions.close()
    own_mb = max(extra_mb(partial(score, rule)) or 0 for rule in RULES)
    return {"pair": pair.name, **taken, **_ratios(taken), "MB": own_mb, "MB, peers": theirs_mb}


def _ratios(taken: dict[str, Spread]) -> dict[str, Spread]:
    slower = max((taken[rule] for rule in RULES), key=lambda spread: spread.median)
    iou, isles, surfaces = (taken[name] for name in WORKS)
    return {
        "times as fast": _sum(iou, surfaces).over(slower),
        "with ISLES figures": _sum(isles, surfaces).over(slower),
    }


def _sum(first: Spread, second: Spread) -> Spread:
    return Spread(tuple(a + b for a, b in zip(first.samples, second.samples, strict=True)))


def _worker(pair: Pair, folder: Path) -> subprocess.Popen[str]:
    path = folder / "pair.npz"
    np.savez(
        path,
        reference=pair.reference.astype(np.uint8),
        prediction=pair.prediction.astype(np.uint8),
        spacing_mm=pair.spacing_mm,
        tolerance_mm=TOLERANCE_MM,
    )
    command = [str(PYTHON), "-m", "benchmarks.oracle.worker", str(path)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **_ONE_THREAD},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


if __name__ == "__main__":
    main()
