"""nnU-Net raw: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, dataset.json."""

from __future__ import annotations

import re
from dataclasses import dataclass
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
    it should be, and reading the case says that the file is not there. A file whose name is no
    case is a finding.

    Raises
    ------
    DataError
        If dataset.json is unusable.
    """
    manifest = root / "dataset.json"
    document = read_json(manifest) if manifest.exists() else {}
    ending = _file_ending(document, manifest)
    stored = {part: _Part.read(root, part) for part in ("Tr", "Ts")}
    count = max((i + 1 for part in stored.values() for _, i in part.channels), default=1)
    declared = declared_channels(document, manifest, config) or tuple(
        f"channel{i}" for i in range(count)
    )
    channels = choose_channels(declared, config, manifest)
    labels = choose_labels(document.get("labels"), config, manifest)
    findings = [finding for part in stored.values() for finding in part.findings]
    findings += [f for part in stored.values() for f in _undeclared(part, len(declared))]
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


@dataclass(frozen=True)
class _Part:
    """Images and references of the training or the test part, and what is wrong with them.

    Parameters
    ----------
    channels : dict of (str, int) to Path
        By case id and position.
    references : dict of str to Path
        By case id.
    faults : dict of Path to DataError
    findings : list of Finding
        Files whose names are of no case.
    """

    channels: dict[tuple[str, int], Path]
    references: dict[str, Path]
    faults: dict[Path, DataError]
    findings: list[Finding]

    @classmethod
    def read(cls, root: Path, part: str) -> _Part:
        images, faults = images_in(root / f"images{part}", root)
        masks, mask_faults = images_in(root / f"labels{part}", root)
        found = cls({}, {}, faults | mask_faults, [])
        for stem, path in images.items():
            match = CHANNEL_NAME.fullmatch(stem)
            if match is None:
                found.findings.append(_nameless(path))
            elif found._is_case(match["case"], path):
                found.channels[match["case"], int(match["channel"])] = path
        for name, path in masks.items():
            if found._is_case(name, path):
                found.references[name] = path
        return found

    def _is_case(self, name: str, path: Path) -> bool:
        try:
            check_case_id(name, path)
        except DataError as error:
            self.findings.append(Finding.from_error("", error))
            return False
        return True


def _nameless(path: Path) -> Finding:
    return Finding(
        "",
        str(path),
        "an image whose name tells no channel",
        expected="CASE_0000.nii.gz",
        received=path.name,
        fix="Rename it, or move it out of the folder.",
    )


def _undeclared(part: _Part, count: int) -> list[Finding]:
    return [
        Finding(
            case,
            str(path),
            "a channel that dataset.json does not declare",
            expected=f"_0000 to _{count - 1:04d}",
            received=path.name,
            fix="Declare the channel in dataset.json, or remove the file.",
        )
        for (case, i), path in part.channels.items()
        if i >= count
    ]


def _cases(
    root: Path, part: str, stored: _Part, indices: list[int], ending: str
) -> tuple[Case, ...]:
    cases = []
    for case in sorted({case for case, _ in stored.channels} | set(stored.references)):
        paths = [
            stored.channels.get((case, i), root / f"images{part}" / f"{case}_{i:04d}{ending}")
            for i in indices
        ]
        wanted = stored.references and part == "Tr"
        expected = root / f"labels{part}" / f"{case}{ending}" if wanted else None
        reference = stored.references.get(case, expected)
        faults = {p: stored.faults[p] for p in (*paths, reference) if p in stored.faults}
        channels = tuple(map(ChannelFile, paths))
        cases.append(Case(case, case, channels, reference, faults=faults))
    return tuple(cases)
