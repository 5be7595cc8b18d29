"""The cases and the folds, written for nnU-Net."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from segpipe.config import Config
from segpipe.data.layouts import Case, Dataset
from segpipe.data.nifti import write_volume
from segpipe.data.read import read_case
from segpipe.data.splits import Fold
from segpipe.files import write_text

SUFFIX = ".nii.gz"


def raw_name(name: str, number: int) -> str:
    """What nnU-Net calls a dataset, such as Dataset004_hippocampus."""
    return f"Dataset{number:03d}_{name}"


def write_raw(dataset: Dataset, config: Config, folder: Path) -> None:
    """Write the training cases in nnU-Net's raw layout.

    Every channel and the reference lie on the first channel's grid: nnU-Net stacks voxels as they
    are stored, whatever the headers say.
    """
    for case in dataset.cases:
        _write_case(case, dataset, config, folder)
    description = {
        "channel_names": {str(i): name for i, name in enumerate(dataset.channels)},
        "labels": {"background": 0, **dataset.labels},
        "numTraining": len(dataset.cases),
        "file_ending": SUFFIX,
    }
    write_text(folder / "dataset.json", json.dumps(description, indent=1))


def write_splits(folds: Iterable[Fold], path: Path) -> None:
    """segpipe's folds as nnU-Net's ``splits_final.json``, in their order."""
    entries = [{"train": list(fold.train), "val": list(fold.validation)} for fold in folds]
    write_text(path, json.dumps(entries, indent=1))


def write_references(dataset: Dataset, cases: Iterable[str], folder: Path) -> Path:
    """A fresh folder with links to the references of some cases, as ``segpipe score`` takes it."""
    wanted, labels = set(cases), folder / "labelsTr"
    shutil.rmtree(folder, ignore_errors=True)
    labels.mkdir(parents=True)
    for case in dataset.cases:
        if case.id in wanted and case.reference is not None:
            (labels / f"{case.id}{SUFFIX}").symlink_to(case.reference.absolute())
    description = {"labels": {"background": 0, **dataset.labels}}
    write_text(folder / "dataset.json", json.dumps(description))
    return labels


def _write_case(case: Case, dataset: Dataset, config: Config, folder: Path) -> None:
    target = folder / "labelsTr" / f"{case.id}{SUFFIX}"
    if target.exists():
        return
    loaded = read_case(case, dataset.labels, config.data)
    assert loaded.reference is not None
    for index in range(loaded.image.array.shape[-1]):
        channel = loaded.image.with_array(loaded.image.array[..., index])
        write_volume(folder / "imagesTr" / f"{case.id}_{index:04d}{SUFFIX}", channel)
    write_volume(target, loaded.reference.with_array(loaded.reference.array.astype(np.uint8)))
