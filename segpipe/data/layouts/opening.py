"""Recognising a layout and opening it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from segpipe.config import DataConfig
from segpipe.data.layouts.bids import is_bids, open_bids
from segpipe.data.layouts.case import Case, Dataset, check_unique
from segpipe.data.layouts.decathlon import is_decathlon, open_decathlon
from segpipe.data.layouts.manifest import open_manifest
from segpipe.data.layouts.nnunet import is_nnunet, open_nnunet
from segpipe.errors import ConfigError, DataError

MANIFEST_NAME = "manifest.csv"


def open_dataset(config: DataConfig, *, scans_only: bool = False) -> Dataset:
    """List a dataset's cases; no image is read.

    ``scans_only``: nobody is trained or judged, so it does not matter whose the scans are.

    Raises
    ------
    DataError
        If the folder is missing, its layout is unknown, or the layout's own files are wrong.
    ConfigError
        If ``data.patient_pattern`` is no regular expression with a group.
    """
    root = config.root
    layout = config.layout if config.layout != "auto" else recognise_layout(root)
    wants_file = layout == "csv"
    if wants_file and (root / MANIFEST_NAME).is_file():
        root = root / MANIFEST_NAME
    if not (root.is_file() if wants_file else root.is_dir()):
        raise _no_dataset(root, "a CSV file" if wants_file else "a folder")
    openers: dict[str, Callable[[Path, DataConfig], Dataset]] = {
        "nnunet": open_nnunet,
        "decathlon": open_decathlon,
        "bids": open_bids,
        "csv": partial(open_manifest, scans_only=scans_only),
    }
    dataset = openers[layout](root, config)
    if config.patient_pattern is not None:
        pattern = _compiled(config.patient_pattern)
        dataset = replace(
            dataset,
            cases=tuple(_with_patient(case, pattern, root) for case in dataset.cases),
            test_cases=tuple(_with_patient(case, pattern, root) for case in dataset.test_cases),
        )
    if not dataset.cases and not dataset.test_cases:
        for finding in dataset.findings:
            raise finding.to_error()
        raise _no_dataset(root, "at least one case")
    check_unique((case.id for case in (*dataset.cases, *dataset.test_cases)), root)
    return dataset


def recognise_layout(root: Path) -> str:
    """Name of the layout of a folder or manifest.

    Raises
    ------
    DataError
        If it is none of the known ones.
    """
    if root.is_file() and root.suffix == ".csv":
        return "csv"
    if root.is_dir():
        for layout, recognised in (
            ("nnunet", is_nnunet),
            ("decathlon", is_decathlon),
            ("bids", is_bids),
            ("csv", lambda folder: (folder / MANIFEST_NAME).is_file()),
        ):
            if recognised(root):
                return layout
    raise _no_dataset(root, "a dataset")


def _no_dataset(root: Path, expected: str) -> DataError:
    kind = "nothing is there" if not root.exists() else "none was recognised"
    return DataError(
        root,
        f"no dataset: {kind}",
        expected=f"{expected} in one of these layouts: nnU-Net (imagesTr/CASE_0000.nii.gz), "
        "Decathlon (dataset.json with 'training'), BIDS (sub-XX/anat), or a CSV manifest",
        fix="Correct the path. DICOM is converted with dcm2niix.",
    )


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"data.patient_pattern: expected a regular expression; received {pattern!r} ({error})"
        ) from error
    if compiled.groups < 1:
        raise ConfigError(
            f"data.patient_pattern: expected a group (…) that yields the patient; "
            f"received {pattern!r}"
        )
    return compiled


def _with_patient(case: Case, pattern: re.Pattern[str], root: Path) -> Case:
    match = pattern.search(case.id)
    if match is None or not match[1]:
        raise DataError(
            root,
            "data.patient_pattern finds no patient in a case id",
            expected=f"ids that match {pattern.pattern!r}",
            received=case.id,
            fix="Correct the pattern or rename the case.",
        )
    return replace(case, patient=match[1])
