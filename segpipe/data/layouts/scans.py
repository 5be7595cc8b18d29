"""Finding the scans to predict: files, folders, or a dataset in a known layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segpipe.config import DataConfig
from segpipe.data.layouts.case import (
    Case,
    ChannelFile,
    check_case_id,
    check_unique,
    image_stem,
    list_folder,
)
from segpipe.data.layouts.nnunet import CHANNEL_NAME
from segpipe.data.layouts.opening import open_dataset
from segpipe.errors import DataError

MOST_CHANNELS = 32  # CASE_0100 is a case's number, not its hundredth channel


def find_scans(paths: Sequence[Path], channels: Sequence[str]) -> list[Case]:
    """Group image files into cases without references.

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
    list of Case
        In order of their ids.

    Raises
    ------
    DataError
        If nothing is found, a case has other channels than needed, or an id occurs twice.
    """
    files: list[Path] = []
    cases: list[Case] = []
    for path in map(Path, paths):
        if path.is_dir():
            images = [p for p in list_folder(path) if image_stem(p.name)]
            files += images
            if not images:
                cases += _of_dataset(path, channels)
        elif path.suffix == ".csv" and path.is_file():
            cases += _of_dataset(path, channels)
        elif path.is_file() and image_stem(path.name):
            files.append(path)
        else:
            raise _nothing(path, "not a scan" if path.exists() else "no such file or folder")
    cases += _grouped(files, len(channels))
    if not cases:
        raise _nothing(Path("scans"), "no scans are named")
    check_unique((case.id for case in cases), "scans")
    return sorted(cases, key=lambda case: case.id)


def _nothing(path: Path, problem: str) -> DataError:
    return DataError(
        path,
        problem,
        expected=".nii or .nii.gz files, or folders of them",
        fix="Correct the path. DICOM is converted with dcm2niix.",
    )


def _of_dataset(path: Path, channels: Sequence[str]) -> list[Case]:
    """All cases of a dataset; its labels do not matter here."""
    named = DataConfig(root=path, labels={"lesion": 1}, channels=tuple(channels))
    dataset = open_dataset(named)
    return [replace(case, reference=None) for case in (*dataset.cases, *dataset.test_cases)]


def _grouped(files: Sequence[Path], channels: int) -> list[Case]:
    groups: dict[tuple[Path, str], dict[int, Path]] = {}
    cases = []
    for path in dict.fromkeys(files):
        stem = image_stem(path.name) or ""
        match = CHANNEL_NAME.fullmatch(stem)
        if match and int(match["channel"]) < MOST_CHANNELS:
            group = groups.setdefault((path.parent, match["case"]), {})
            if int(match["channel"]) in group:
                raise _wrong_channels(path, f"{path.name} beside the same image, compressed")
            group[int(match["channel"])] = path
        else:
            case = check_case_id(stem, path)
            indices = range(channels) if channels > 1 else [None]
            cases.append(Case(case, case, tuple(ChannelFile(path, i) for i in indices)))
    for (folder, name), group in groups.items():
        case = check_case_id(name, folder)
        missing = [f"{name}_{i:04d}" for i in range(channels) if i not in group]
        extra = [group[i].name for i in sorted(group) if i >= channels]
        if missing or extra:
            parts = [f"missing: {', '.join(missing)}"] if missing else []
            parts += [f"too many: {', '.join(extra)}"] if extra else []
            raise _wrong_channels(folder / name, "; ".join(parts), channels)
        ordered = tuple(ChannelFile(group[i]) for i in range(channels))
        cases.append(Case(case, case, ordered))
    return cases


def _wrong_channels(where: Path, received: str, channels: int | None = None) -> DataError:
    last = f"_0000 to _{channels - 1:04d}" if channels else "one file per channel"
    return DataError(
        where,
        "wrong number of channels",
        expected=f"{last} for the case",
        received=received,
        fix="Add the missing files, or move those away that do not belong to the case.",
    )
