"""Patient reports that are hard to show well, of synthetic scans: failed, no lesion, many, thick.

Each function writes a predictions folder as ``segpipe predict`` would; the probabilities are made
from what the samples hold, so no network is needed and no patient is involved.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
from scipy import ndimage

from segpipe.config import OperatingPoint
from segpipe.data.layouts import Case, ChannelFile
from segpipe.data.nifti import read_image, write_volume
from segpipe.errors import DataError
from segpipe.pipeline.outputs import midline_x_mm, segment, write_case
from segpipe.pipeline.report import make_reports
from segpipe.samples import Sample, make_sample
from segpipe.volume import Volume

LESIONS = 150
POINT = OperatingPoint(threshold=0.5, min_size_mm3=10.0)
WEIGHTS = "5a" * 32  # of no network: the digest that bundle and predictions share
REGIONS = [
    {"name": "white_matter", "source": "mask", "weight": 0.5},
    {"name": "elsewhere", "source": "complement", "weight": 2.0},
]
WHEN = "2026-01-31T08:00:00+00:00"


def failed_case(folder: Path) -> Path:
    """A scan whose file ends early."""
    path = folder / "failed_0000.nii.gz"
    write_volume(path, Volume(np.zeros((20, 20, 20), np.float32), np.eye(4)))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-4000]))
    try:
        read_image(path)
    except DataError as error:
        return _write(folder, [{"case": "failed", "status": "failed", "error": str(error)}])
    raise AssertionError("a truncated scan was read")


def lesion_free_case(folder: Path) -> Path:
    """A brain without lesions, and with things that look like some."""
    sample = make_sample(5, load=0.0)
    return _write(folder, [_predicted(folder, "lesion-free", sample, 0.25 * sample.distractors)])


def many_lesions_case(folder: Path) -> Path:
    """A brain with 150 lesions of 2 to 5 mm."""
    sample = make_sample(7, load=0.0)
    rng = np.random.default_rng(LESIONS)
    white = np.argwhere(ndimage.binary_erosion(sample.regions["wm"], iterations=2))
    free, lesion = np.ones(len(white), bool), np.zeros(len(white), bool)
    for _ in range(LESIONS):
        centre = rng.choice(white[free]) + rng.uniform(-0.5, 0.5, 3)
        radius = rng.uniform(1.3, 3.2)
        distance = np.linalg.norm(white - centre, axis=1)
        lesion |= distance <= radius
        free &= distance > radius + 5.5
    spots = np.zeros(sample.flair.shape, bool)
    spots[tuple(white[lesion].T)] = True
    shining = ndimage.gaussian_filter(spots.astype(float), 0.6)
    sample.flair[...] = np.clip(sample.flair * (1 + 0.7 * shining), 0, 255).astype(np.uint8)
    return _write(folder, [_predicted(folder, "many-lesions", sample, spots)])


def thick_slices_case(folder: Path) -> Path:
    """A brain in slices of 6 mm, with a region outside the white matter."""
    sample = make_sample(3, load=0.6)
    blocks = sample.flair.shape[2] // 4

    def thicken(array: np.ndarray) -> np.ndarray:
        short = array[..., : 4 * blocks].astype(float)
        return short.reshape(*short.shape[:2], blocks, 4).mean(axis=-1)

    affine = sample.affine @ np.diag([1.0, 1.0, 4.0, 1.0])
    affine[:3, 3] += sample.affine[:3, 2] * 1.5
    thick = Sample(
        sample.id,
        thicken(sample.flair).astype(np.uint8),
        thicken(sample.t1).astype(np.uint8),
        sample.reference,
        sample.distractors,
        {"wm": (thicken(sample.regions["wm"]) > 0.5).astype(np.uint8)},
        affine,
        sample.kinds,
    )
    found = thicken(sample.reference) + 0.8 * thicken(_largest(sample.distractors))
    return _write(folder, [_predicted(folder, "thick-slices", thick, found)])


CASES: dict[str, Callable[[Path], Path]] = {
    "failed": failed_case,
    "lesion-free": lesion_free_case,
    "many-lesions": many_lesions_case,
    "thick-slices": thick_slices_case,
}


def report_page(name: str, folder: Path, *, with_pdf: bool = False) -> Path:
    """The HTML report of one of :data:`CASES`, made in a folder of its own below ``folder``."""
    predictions = folder / name
    predictions.mkdir(parents=True, exist_ok=True)
    now = datetime.fromisoformat(WHEN)
    reports = make_reports(CASES[name](predictions), now=now, with_pdf=with_pdf)
    return reports.written[0].html


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    return np.asarray(labels == np.bincount(labels.ravel())[1:].argmax() + 1)


def _predicted(folder: Path, name: str, sample: Sample, found: np.ndarray) -> dict:
    """Write scan, masks and components of a case; its record for ``predict.json``."""
    flair, t1 = (Volume(array, sample.affine) for array in (sample.flair, sample.t1))
    channels = []
    for index, volume in enumerate((flair, t1)):
        path = folder / f"{name}_{index:04d}.nii.gz"
        write_volume(path, volume)
        channels.append(ChannelFile(path))
    soft = np.clip(1.6 * ndimage.gaussian_filter(found.astype(np.float32), 0.5), 0, 0.97)
    probabilities = flair.with_array(soft[..., None])
    white = sample.regions["wm"].astype(np.float32)
    maps = {"white_matter": white, "elsewhere": 1 - white}
    segmented = segment(
        probabilities,
        {"lesion": 1},
        POINT,
        connectivity=26,
        regions=maps,
        midline_x_mm=midline_x_mm(flair),
    )
    return write_case(
        folder,
        Case(id=name, patient=name, channels=tuple(channels)),
        probabilities,
        segmented,
        with_probabilities=False,
        region_names=tuple(maps),
        flags=(),
        registration=None,
        seconds=0.0,
    )


def _write(folder: Path, cases: list[dict]) -> Path:
    """``predict.json`` and what a report reads of the bundle: no network lies behind them."""
    bundle = {
        "weights_sha256": WEIGHTS,
        "operating_point": POINT.model_dump(),
        "config": {"anatomy": {"regions": REGIONS}},
        "validation": None,
    }
    document = {
        "schema": 1,
        "segpipe": "synthetic example",
        "created": WHEN,
        "bundle": {
            "name": "no network",
            "path": str(folder),
            "weights_sha256": WEIGHTS,
            "channels": ["FLAIR", "T1"],
            "labels": {"lesion": 1},
        },
        "settings": {**POINT.model_dump(), "connectivity": 26},
        "cases": cases,
    }
    (folder / "bundle.json").write_text(json.dumps(bundle), encoding="utf-8")
    (folder / "predict.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def main() -> None:
    """Write all four into the folder that is named."""
    for name in CASES:
        print(report_page(name, Path(sys.argv[1]), with_pdf=True))


if __name__ == "__main__":
    main()
