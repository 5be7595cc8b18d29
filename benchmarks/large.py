"""A large CT through `segpipe predict`: how much memory it takes.

Synthetic: balls of another density in noise. The network is what `segpipe plan` chooses, briefly
trained, so that it finds most of them. Scan and prepared grid differ, so both ways are resampled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SHAPE, SMALL, STEPS = (512, 512, 600), (96, 96, 80), 60
_SMOKE = ((70, 64, 60), (40, 40, 40), 2)
_SPACING_MM, _PREPARED_MM = (0.7, 0.7, 1.0), (0.8, 0.8, 0.8)
_HU = (120, 240, 360)  # of each class, above the rest


def run(repeat: int, smoke: bool) -> list[dict[str, Any]]:
    """A row for two and for three foreground classes: with the background, three and four."""
    return [_measure(classes, *(_SMOKE if smoke else (SHAPE, SMALL, STEPS))) for classes in (2, 3)]


def _measure(classes: int, shape, small, steps: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rng = np.random.default_rng([0, classes])
        for number in range(4):
            _write(root, "Tr", f"c{number}", *_scan(rng, small, classes))
        _write(root, "Ts", "large", *_scan(rng, shape, classes))
        labels = {"background": 0, **{f"l{k + 1}": k + 1 for k in range(classes)}}
        manifest = {"channel_names": {"0": "CT"}, "labels": labels}
        manifest |= {"numTraining": 4, "file_ending": ".nii.gz"}
        (root / "dataset.json").write_text(json.dumps(manifest))
        asked = [f"prepare.spacing_mm={list(_PREPARED_MM)}", f"train.steps={steps}"]
        asked += [f"train.steps_per_epoch={steps}", "train.validate_every=0", f"output={root}/runs"]
        asked += ["tracking.enabled=false", "predict.overlap=0.25", "train.learning_rate=0.003"]
        _segpipe("plan", root, *asked, "-o", root / "plan.yaml")
        _segpipe("train", root / "plan.yaml")
        (bundle,) = root.glob("runs/*/*/fold-0/bundle")
        started = time.perf_counter()
        peak = _segpipe("predict", "--bundle", bundle, root / "imagesTs", "-o", root / "out")
        seconds = time.perf_counter() - started
        (case,) = json.loads((root / "out/predict.json").read_text())["cases"]
        config = json.loads((bundle / "bundle.json").read_text())["config"]
    return {
        "voxels": " × ".join(map(str, shape)),
        "foreground classes": classes,
        "network": "-".join(map(str, config["model"]["features"])),
        "components": sum(one["components"] for one in case["counts"].values()),
        "peak GB": peak / 1e9,
        "s": seconds,
    }


def _scan(rng, shape, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Image in HU and labels: a ball for every 100,000 voxels, at least one of each class."""
    image = rng.normal(0, 30, shape).astype(np.int16)
    labels = np.zeros(shape, np.uint8)
    axes = [np.arange(n) for n in shape]
    for ball in range(max(2 * classes, int(np.prod(shape) / 1e5))):
        label, radius = ball % classes, rng.uniform(4, 9)
        centre = [rng.uniform(0, n) for n in shape]
        box = tuple(slice(max(0, int(c - radius)), int(c + radius) + 2) for c in centre)
        away = [(axis[part] - c) ** 2 for axis, part, c in zip(axes, box, centre, strict=True)]
        inside = sum(np.ix_(*away)) < radius**2
        image[box][inside] += _HU[label]
        labels[box][inside] = label + 1
    return image, labels


def _write(root: Path, part: str, case: str, image: np.ndarray, labels: np.ndarray) -> None:
    import nibabel as nib

    affine = np.diag([*_SPACING_MM, 1.0])
    for folder, name, array in (("images", f"{case}_0000", image), ("labels", case, labels)):
        path = root / f"{folder}{part}" / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), path)


def _segpipe(*arguments: str | Path) -> int:
    """Run the command line; the most memory that it had, in bytes."""
    command = [sys.executable, "-c", "from segpipe.cli import main; main()", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(map(str, arguments))} ended with {status}")
    return usage.ru_maxrss * 1024
