"""Medical Segmentation Decathlon: dataset.json lists the files; channels on a fourth axis."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segpipe.config import DataConfig
from segpipe.data.layouts.case import (
    Case,
    ChannelFile,
    Dataset,
    check_case_id,
    check_unique,
    image_stem,
    inside,
)
from segpipe.data.layouts.declared import (
    choose_channels,
    choose_labels,
    declared_channels,
    read_json,
)
from segpipe.errors import DataError


def is_decathlon(root: Path) -> bool:
    """Whether dataset.json lists training files."""
    manifest = root / "dataset.json"
    return manifest.is_file() and isinstance(read_json(manifest).get("training"), list)


def open_decathlon(root: Path, config: DataConfig) -> Dataset:
    """Open a dataset in the Decathlon's layout.

    Raises
    ------
    DataError
        If dataset.json is unusable or names a path outside the dataset.
    """
    manifest = root / "dataset.json"
    document = read_json(manifest)
    declared = declared_channels(document, manifest, config) or ("image",)
    channels = choose_channels(declared, config, manifest)
    several = len(declared) > 1
    files = [(i, len(declared)) if several else (None, None) for _, i in channels]
    parts = [
        tuple(
            sorted(
                (_case(root, manifest, entry, files) for entry in _entries(document, key)),
                key=lambda case: case.id,
            )
        )
        for key in ("training", "test")
    ]
    for cases in parts:
        check_unique((case.id for case in cases), manifest)
    return Dataset(
        name=str(document.get("name") or root.name),
        root=root,
        layout="decathlon",
        channels=tuple(name for name, _ in channels),
        labels=choose_labels(document.get("labels"), config, manifest),
        cases=parts[0],
        test_cases=parts[1],
    )


def _entries(document: dict[str, Any], key: str) -> list[Any]:
    entries = document.get(key)
    return entries if isinstance(entries, list) else []


def _case(
    root: Path,
    manifest: Path,
    entry: object,
    positions: Sequence[tuple[int | None, int | None]],
) -> Case:
    """A case from ``{"image": …, "label": …}`` or, in the test list, a bare path."""
    image = entry.get("image") if isinstance(entry, dict) else entry
    label = entry.get("label") if isinstance(entry, dict) else None
    if not isinstance(image, str) or not isinstance(label, str | None):
        raise DataError(
            manifest,
            "an entry that names no files",
            expected='{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}',
            received=json.dumps(entry)[:200],
            fix="Correct the list in dataset.json.",
        )
    path = inside(root, image, manifest)
    case = check_case_id(image_stem(path.name) or path.name, manifest)
    reference = None if label is None else inside(root, label, manifest)
    return Case(case, case, tuple(ChannelFile(path, i, of) for i, of in positions), reference)
