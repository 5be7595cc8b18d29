"""Finding the scans to predict: files, folders, or a dataset in a known layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segpipe.config import DataConfig
from segpipe.data.layouts.case import (
    Case,
    ChannelFile,
    Finding,
    check_case_id,
    check_unique,
    image_stem,
    list_folder,
    same_image_twice,
)
from segpipe.data.layouts.nnunet import CHANNEL_NAME
from segpipe.data.layouts.opening import open_dataset
from segpipe.errors import DataError

MOST_CHANNELS = 32  # CASE_0100 is a case's number, not its hundredth channel


def find_scans(paths: Sequence[Path], channels: Sequence[str]) -> tuple[list[Case], list[Finding]]:
    """Group image files into cases without references.

    A case with other channels than needed, or with one of them twice, is there with its fault.

    Parameters
    ----------
    paths : sequence of Path
        Images (``CASE_0000.nii.gz`` and so on belong together; an image with another name is
        a case of its own), folders of images, or datasets in a known layout.
    channels : sequence of str
        Names of those that the model needs. Datasets and manifests have names of their own, by
        which they are chosen and ordered; files count by position, and an image of its own must be
        4-D, with just these, if there are several.

    Returns
    -------
    cases : list of Case
        In order of their ids.
    refused : list of Finding
        Images whose names are no case ids.

    Raises
    ------
    DataError
        If nothing that has an id is found, or an id occurs twice.
    """
    files: list[Path] = []
    cases: list[Case] = []
    refused: list[Finding] = []
    for path in map(Path, paths):
        if path.is_dir():
            images = [p for p in list_folder(path) if image_stem(p.name)]
            files += images
            if not images:
                cases += _of_dataset(path, channels, refused)
        elif path.suffix == ".csv" and path.is_file():
            cases += _of_dataset(path, channels, refused)
        elif path.is_file() and image_stem(path.name):
            files.append(path)
        else:
            raise _nothing(path, "not a scan" if path.exists() else "no such file or folder")
    cases += _grouped(files, len(channels), refused)
    if not cases:
        for finding in refused:
            raise finding.to_error()
        raise _nothing(Path("scans"), "no scans are named")
    check_unique((case.id for case in cases), "scans")
    return sorted(cases, key=lambda case: case.id), refused


def _nothing(path: Path, problem: str) -> DataError:
    return DataError(
        path,
        problem,
        expected=".nii or .nii.gz files, or folders of them",
        fix="Correct the path. DICOM is converted with dcm2niix.",
    )


def _of_dataset(path: Path, channels: Sequence[str], refused: list[Finding]) -> list[Case]:
    """All cases of a dataset; its labels do not matter here. Images of none are added."""
    named = DataConfig(root=path, labels={"lesion": 1}, channels=tuple(channels))
    dataset = open_dataset(named, scans_only=True)
    nobodys = [(Path(f.file), f) for f in dataset.findings if not f.case]
    refused += [f for file, f in nobodys if image_stem(file.name) or file.is_dir()]
    return [case.without_reference() for case in (*dataset.cases, *dataset.test_cases)]


def _grouped(files: Sequence[Path], channels: int, refused: list[Finding]) -> list[Case]:
    """Cases of files that are named alike but for the channel; those of no case are added."""
    groups: dict[tuple[Path, str, bool], list[tuple[int, Path]]] = {}
    for path in dict.fromkeys(files):
        stem = image_stem(path.name) or ""
        match = CHANNEL_NAME.fullmatch(stem)
        numbered = match is not None and int(match["channel"]) < MOST_CHANNELS
        name, index = (match["case"], int(match["channel"])) if match and numbered else (stem, 0)
        groups.setdefault((path.parent, name, numbered), []).append((index, path))
    cases = []
    for (folder, name, numbered), group in groups.items():
        try:
            case = check_case_id(name, folder if numbered else group[0][1])
        except DataError as error:
            refused.append(Finding.from_error("", error))
            continue
        if numbered:
            found = tuple(ChannelFile(path) for _, path in sorted(group))
        else:
            indices = range(channels) if channels > 1 else [None]
            found = tuple(ChannelFile(group[0][1], i) for i in indices)
        faults = _faults(folder / name, sorted(group), channels if numbered else 1)
        cases.append(Case(case, case, found, faults=faults))
    return cases


def _faults(where: Path, group: Sequence[tuple[int, Path]], channels: int) -> dict[Path, DataError]:
    """What is wrong with the files of a case, by their channels: missing, too many, or twice."""
    stored = dict(reversed(group))
    faults = {p: same_image_twice(stored[i], p) for i, p in group if p != stored[i]}
    missing = [f"{where.name}_{i:04d}" for i in range(channels) if i not in stored]
    extra = [path.name for i, path in stored.items() if i >= channels]
    if not missing and not extra:
        return faults
    parts = [f"missing: {', '.join(missing)}"] if missing else []
    parts += [f"too many: {', '.join(sorted(extra))}"] if extra else []
    wrong = DataError(
        where,
        "wrong number of channels",
        expected=f"_0000 to _{channels - 1:04d} for the case",
        received="; ".join(parts),
        fix="Add the missing files, or move those away that do not belong to the case.",
    )
    return {**faults, where: wrong}
