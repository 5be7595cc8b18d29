"""nnU-Net raw: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, dataset.json."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from segpipe.config import DataConfig
from segpipe.data.layouts.case import (
    IMAGE_ENDINGS,
    Case,
    ChannelFile,
    Dataset,
    Finding,
    check_case_id,
    images_in,
    list_folder,
)
from segpipe.data.layouts.declared import (
    choose_channels,
    choose_labels,
    declared_channels,
    read_json,
)
from segpipe.errors import DataError

CHANNEL_NAME = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def is_nnunet(root: Path) -> bool:
    """Whether imagesTr or imagesTs holds files named CASE_0000.nii(.gz)."""
    return any(
        re.search(r"_\d{4}\.nii(\.gz)?$", path.name)
        for name in ("imagesTr", "imagesTs")
        if (root / name).is_dir()
        for path in list_folder(root / name)
    )


def open_nnunet(root: Path, config: DataConfig) -> Dataset:
    """Open a dataset in nnU-Net's raw layout.

    A case lacks nothing here: a missing channel, or reference of a training case, is named where
    it should be, and reading the case says that the file is not there.

    Raises
    ------
    DataError
        If dataset.json is unusable or a file name is no case.
    """
    manifest = root / "dataset.json"
    document = read_json(manifest) if manifest.exists() else {}
    ending = _file_ending(document, manifest)
    stored = {part: _by_case(root, f"images{part}") for part in ("Tr", "Ts")}
    count = max((i + 1 for cases in stored.values() for c in cases.values() for i in c), default=1)
    declared = declared_channels(document, manifest, config) or tuple(
        f"channel{i}" for i in range(count)
    )
    channels = choose_channels(declared, config, manifest)
    labels = choose_labels(document.get("labels"), config, manifest)
    findings = _strays(root, stored, len(declared))
    parts = {
        part: _cases(root, part, stored[part], [i for _, i in channels], ending)
        for part in ("Tr", "Ts")
    }
    findings += _miscount(document, manifest, len(parts["Tr"]))
    return Dataset(
        name=str(document.get("name") or root.name),
        root=root,
        layout="nnunet",
        channels=tuple(name for name, _ in channels),
        labels=labels,
        cases=parts["Tr"],
        test_cases=parts["Ts"],
        findings=tuple(findings),
    )


def _file_ending(document: dict[str, Any], manifest: Path) -> str:
    """Ending of the names that missing files are given; never a path."""
    ending = document.get("file_ending", ".nii.gz")
    if ending not in IMAGE_ENDINGS:
        raise DataError(
            manifest,
            "unsupported file_ending",
            expected=" or ".join(IMAGE_ENDINGS),
            received=repr(ending)[:80],
            fix="Convert the images to NIfTI.",
        )
    return str(ending)


def _miscount(document: dict[str, Any], manifest: Path, count: int) -> list[Finding]:
    declared = document.get("numTraining")
    if not isinstance(declared, int) or declared == count:
        return []
    return [
        Finding(
            "",
            str(manifest),
            "the number of training cases is not the declared one",
            expected=str(declared),
            received=str(count),
            fix="Add the missing files, or correct numTraining.",
        )
    ]


def _by_case(root: Path, folder: str) -> dict[str, dict[int, Path]]:
    cases: dict[str, dict[int, Path]] = {}
    for stem, path in images_in(root / folder, root).items():
        match = CHANNEL_NAME.fullmatch(stem)
        if match:
            case = check_case_id(match["case"], path)
            cases.setdefault(case, {})[int(match["channel"])] = path
    return cases


def _strays(root: Path, stored: dict[str, dict[str, dict[int, Path]]], count: int) -> list[Finding]:
    """Images that are no channel of any case."""
    findings = [
        Finding(
            "",
            str(path),
            "an image whose name tells no channel",
            expected="CASE_0000.nii.gz",
            received=path.name,
            fix="Rename it, or move it out of the folder.",
        )
        for part in stored
        for stem, path in images_in(root / f"images{part}", root).items()
        if not CHANNEL_NAME.fullmatch(stem)
    ]
    findings += [
        Finding(
            case,
            str(path),
            "a channel that dataset.json does not declare",
            expected=f"_0000 to _{count - 1:04d}",
            received=path.name,
            fix="Declare the channel in dataset.json, or remove the file.",
        )
        for cases in stored.values()
        for case, files in cases.items()
        for i, path in files.items()
        if i >= count
    ]
    return findings


def _cases(
    root: Path, part: str, stored: dict[str, dict[int, Path]], indices: list[int], ending: str
) -> tuple[Case, ...]:
    references = images_in(root / f"labels{part}", root)
    for name, path in references.items():
        check_case_id(name, path)
    cases = []
    for case in sorted({*stored, *references}):
        files = stored.get(case, {})
        channels = tuple(
            ChannelFile(files.get(i, root / f"images{part}" / f"{case}_{i:04d}{ending}"))
            for i in indices
        )
        wanted = references and part == "Tr"
        expected = root / f"labels{part}" / f"{case}{ending}" if wanted else None
        cases.append(Case(case, case, channels, references.get(case, expected)))
    return tuple(cases)
