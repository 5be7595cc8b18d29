"""Registration of real scans to the template, and of what must be told from them.

A stripped scan is compared with its own foreground, a whole head with the brain mask that came with
it. Neither is used to register. What is no brain must be reported.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from segpipe.anatomy import Placement
    from segpipe.volume import Volume

DATA = Path(__file__).parents[2] / "shared" / "data"
_SCANS, _HIPPOCAMPUS = DATA / "ms_lesions", DATA / "hippocampus" / "imagesTr"
_PIECES = 5


@dataclass(frozen=True)
class Scan:
    """One channel of a scan, and where its brain is."""

    name: str
    channel: str
    image: Volume
    brain: np.ndarray | None = None
    whole_head: bool = False


def run(repeat: int, smoke: bool) -> list[dict[str, Any]]:
    """A row per scan, channel and transform, then per impostor; none without the data.

    The affine is measured on the T1 of all scans and on the FLAIR of whole heads, the B-spline on
    the T1 of whole heads.
    """
    if not _SCANS.is_dir():
        print(f"registration: left out, no scans in {_SCANS}")
        return []
    warm_up()
    rows = []
    for scan in [*_scans(), *_impostors()]:
        if scan.channel == "FLAIR" and not scan.whole_head:
            continue
        rows += _rows(scan)
        print(rows[-1], flush=True)
        if smoke:
            break
    return rows


def warm_up() -> None:
    """Load the template, so that the first scan is not charged with it."""
    from segpipe.anatomy import mni152_map

    for name in ("t1", "brain", "gm", "wm"):
        mni152_map(name)


def _rows(scan: Scan) -> list[dict[str, Any]]:
    from segpipe.anatomy import mni152_dice, mni152_map
    from segpipe.anatomy.registration import register

    bent = scan.whole_head and scan.channel == "T1"
    started = time.process_time()
    found = register(scan.image, mni152_map("t1"), "bspline" if bent else "affine", scan.channel)
    seconds = time.process_time() - started
    kept = [found]
    if found.method == "bspline" and bent:
        kept.insert(0, replace(found, method="affine", bend=None, unbend=None, similarity=None))
    common = {"scan": scan.name, "channel": scan.channel, "as it lies": mni152_dice(scan.image)}
    return [common | _figures(scan, one) | {"CPU s": seconds} for one in kept]


def _figures(scan: Scan, found: Placement) -> dict[str, Any]:
    row: dict[str, Any] = {
        "transform": found.method,
        "similarity": found.similarity,
        "contrast": found.contrast,
        "own brain": found.overlap,
        "Dice": None,
        "tissue": None,
        "inside": None,
        "ml": None,
        "mask ml": None,
        "why not": found.problem or "",
    }
    if scan.brain is None:
        return row
    from segpipe.anatomy import mni152_map
    from segpipe.anatomy.placement import map_on_scan
    from segpipe.anatomy.scan_brain import dice

    brain = map_on_scan(mni152_map("brain"), found, scan.image) > 0.5
    parts = [map_on_scan(mni152_map(name), found, scan.image) for name in ("gm", "wm")]
    ml = scan.image.voxel_volume_mm3 / 1000
    return row | {
        "Dice": dice(brain, scan.brain),
        "tissue": dice(parts[0] + parts[1] > 0.5, scan.brain),
        "inside": np.count_nonzero(brain & scan.brain) / np.count_nonzero(scan.brain),
        "ml": np.count_nonzero(brain) * ml,
        "mask ml": np.count_nonzero(scan.brain) * ml,
    }


def _scans() -> Iterator[Scan]:
    from segpipe.config import DataConfig
    from segpipe.data.layouts import open_dataset
    from segpipe.data.nifti import align, read_labels
    from segpipe.data.read import read_case

    config = DataConfig(root=_SCANS)
    dataset = open_dataset(config)
    for case in dataset.cases:
        image = read_case(case, dataset.labels, config).image
        mask = _SCANS / "anatomy" / f"{case.id}_brain.nii.gz"
        whole = mask.is_file()
        if whole:
            brain = align(read_labels(mask), image).array > 0
        else:
            brain = ndimage.binary_fill_holes(image.array[..., 0] != 0)
        for index, channel in enumerate(dataset.channels):
            one = image.with_array(image.array[..., index].copy())
            yield Scan(case.id, channel, one, brain, whole)


def _impostors() -> Iterator[Scan]:
    from segpipe.data.nifti import read_image
    from segpipe.volume import Volume

    rng = np.random.default_rng([0, 91])
    shape = (150, 180, 150)
    noise = rng.random(shape, np.float32)
    away = np.linalg.norm((np.indices(shape).T - np.array(shape) / 2).T, axis=0)
    ball = np.where(away < 65, 100 + 10 * noise, 0).astype(np.float32)
    yield Scan("empty", "–", Volume(np.zeros(shape, np.float32), np.eye(4)))
    for path in sorted(_HIPPOCAMPUS.glob("*.nii.gz"))[:_PIECES]:
        yield Scan(path.name.partition(".")[0], "T1", read_image(path)[0])
    yield Scan("noise", "–", Volume(noise, np.eye(4)))
    yield Scan("ball", "–", Volume(ball, np.eye(4)))
