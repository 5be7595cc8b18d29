"""Registration of real scans to the template, and of what must be told from them.

A stripped scan is compared with its own foreground, a whole head with the brain mask that came with
it. Neither is used to register. What is no brain, or lies wrong in its header, must be reported.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

DATA = Path(__file__).parents[2] / "shared" / "data"
_SCANS, _HIPPOCAMPUS = DATA / "ms_lesions", DATA / "hippocampus" / "imagesTr"
_PIECES = 5
_TURNS = {
    "upside down": np.diag([1.0, 1, -1, 1]),
    "front to back": np.diag([1.0, -1, 1, 1]),
    "axes swapped": np.eye(4)[[0, 2, 1, 3]],
}


def run(repeat: int, smoke: bool) -> list[dict[str, Any]]:
    """A row per scan and channel, then per impostor; none without the data."""
    scans = list(_scans())
    if not scans:
        print(f"registration: left out, no scans in {_SCANS}")
        return []
    if smoke:
        return [_row(*scans[0])]
    warm_up()
    rows = [_row(*scan) for scan in scans]
    _add_distances(rows)
    rows += [_row(*impostor) for impostor in _impostors(scans)]
    return [{k: v for k, v in row.items() if k != "affine"} for row in rows]


def warm_up() -> None:
    """Load the template, so that the first scan is not charged with it."""
    from segpipe.anatomy import mni152_map

    for name in ("t1", "brain"):
        mni152_map(name)


def _row(name: str, channel: str, scan, truth: np.ndarray | None) -> dict[str, Any]:
    from segpipe.anatomy import mni152_map
    from segpipe.anatomy.placement import map_on_scan
    from segpipe.anatomy.registration import register
    from segpipe.anatomy.scan_brain import dice

    started = time.process_time()
    found = register(scan, mni152_map("t1"), "affine", channel)
    row: dict[str, Any] = {
        "scan": name,
        "channel": channel,
        "registered": "no" if found.problem else "yes",
        "similarity": found.similarity,
        "contrast": found.contrast,
        "own brain": found.overlap,
        "Dice": None,
        "inside": None,
        "T1 to FLAIR, mm": None,
        "CPU s": time.process_time() - started,
        "why not": found.problem or "",
        "affine": found.affine,
    }
    if truth is not None:
        brain = map_on_scan(mni152_map("brain"), found, scan) > 0.5
        inside = np.count_nonzero(brain & truth) / np.count_nonzero(truth)
        row |= {"Dice": dice(brain, truth), "inside": inside}
    return row


def _scans() -> Iterator[tuple]:
    from segpipe.config import DataConfig
    from segpipe.data.layouts import open_dataset
    from segpipe.data.nifti import align, read_labels
    from segpipe.data.read import read_case

    if not _SCANS.is_dir():
        return
    config = DataConfig(root=_SCANS)
    dataset = open_dataset(config)
    for case in dataset.cases:
        image = read_case(case, dataset.labels, config).image
        mask = _SCANS / "anatomy" / f"{case.id}_brain.nii.gz"
        if mask.is_file():
            truth = align(read_labels(mask), image).array > 0
        else:
            truth = ndimage.binary_fill_holes(image.array[..., 0] != 0)
        for index, channel in enumerate(dataset.channels):
            yield case.id, channel, image.with_array(image.array[..., index].copy()), truth


def _add_distances(rows: list[dict[str, Any]]) -> None:
    """How far apart the two channels of a scan put the brain: both see the same head."""
    from segpipe.anatomy import mni152_map

    brain = mni152_map("brain")
    world = np.argwhere(brain.array > 0.5)[::499] @ brain.affine[:3, :3].T + brain.affine[:3, 3]
    points = np.c_[world, np.ones(len(world))]
    by_scan: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_scan.setdefault(row["scan"], []).append(row)
    for first, second in by_scan.values():
        apart = (points @ (first["affine"] - second["affine"]).T)[:, :3]
        distance = float(np.linalg.norm(apart, axis=1).mean())
        first["T1 to FLAIR, mm"] = second["T1 to FLAIR, mm"] = distance


def _impostors(scans: list[tuple]) -> Iterator[tuple]:
    from segpipe.data.nifti import read_image
    from segpipe.volume import Volume

    rng = np.random.default_rng([0, 91])
    shape = (150, 180, 150)
    away = np.linalg.norm((np.indices(shape).T - np.array(shape) / 2).T, axis=0)
    noise = rng.random(shape, np.float32)
    yield "empty", "–", Volume(np.zeros(shape, np.float32), np.eye(4)), None
    yield "noise", "–", Volume(noise, np.eye(4)), None
    ball = np.where(away < 65, 100 + 10 * noise, 0).astype(np.float32)
    yield "ball", "–", Volume(ball, np.eye(4)), None
    for path in sorted(_HIPPOCAMPUS.glob("*.nii.gz"))[:_PIECES]:
        yield path.name.partition(".")[0], "T1", read_image(path)[0], None
    for name, channel, scan, _ in scans:
        for turn, matrix in _TURNS.items():
            yield f"{name} {turn}", channel, Volume(scan.array, matrix @ scan.affine), None
