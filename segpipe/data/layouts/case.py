"""Cases and datasets, and the rules that names and paths obey."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from segpipe.config.fields import NAME_PATTERN
from segpipe.errors import DataError

IMAGE_ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class ChannelFile:
    """Where one channel of a case lies.

    Parameters
    ----------
    path : Path
    index : int, optional
        Position on the fourth axis; None for a 3-D image.
    of : int, optional
        How many positions that axis must have; None: one for each channel of the case.
    """

    path: Path
    index: int | None = None
    of: int | None = None


@dataclass(frozen=True)
class Case:
    """One scan session of one patient.

    Parameters
    ----------
    id : str
        Letters, digits, ``_`` and ``-``; at most 64.
    patient : str
        Cases of one patient are never divided between training and validation.
    channels : tuple of ChannelFile
        In the dataset's order. A file may be missing: reading the case says so.
    reference : Path, optional
        The expert's mask; None if the dataset has none for this case.
    attributes : mapping of str to str
        Whatever else the dataset says of the case or patient.
    faults : mapping of Path to DataError
        Why some of its files cannot be used, known before any is read.
    """

    id: str
    patient: str
    channels: tuple[ChannelFile, ...]
    reference: Path | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    faults: Mapping[Path, DataError] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """Those of the channels, and the reference's if there is one."""
        own = [channel.path for channel in self.channels]
        return own if self.reference is None else [*own, self.reference]

    def require_files(self) -> None:
        """Raise the first of the faults, if there is one: before any file of the case is read."""
        for fault in self.faults.values():
            raise fault

    def without_reference(self) -> Case:
        """The case as one to be predicted: what is wrong with its reference does not matter."""
        faults = {path: fault for path, fault in self.faults.items() if path != self.reference}
        return replace(self, reference=None, faults=faults)


@dataclass(frozen=True)
class Finding:
    """Something in a dataset that should be mended before it is used.

    Parameters
    ----------
    case : str
        Case id; empty if the whole dataset is meant.
    file, problem, expected, received, fix : str
        As in :class:`~segpipe.errors.DataError`.
    """

    case: str
    file: str
    problem: str
    expected: str = ""
    received: str = ""
    fix: str = ""

    @classmethod
    def from_error(cls, case: str, error: DataError) -> Finding:
        """What an error says, about a case."""
        return cls(case, error.where, error.problem, error.expected, error.received, error.fix)

    def to_error(self) -> DataError:
        """Inverse of :meth:`from_error`."""
        said = {"expected": self.expected, "received": self.received, "fix": self.fix}
        return DataError(self.file, self.problem, **said)


@dataclass(frozen=True)
class Dataset:
    """A dataset, whatever its layout.

    Parameters
    ----------
    name : str
    root : Path
        Folder that all files lie in.
    layout : str
        nnunet, decathlon, bids or csv.
    channels : tuple of str
        Channel names, in order.
    labels : dict of str to int
        Label name to value; background left out.
    cases, test_cases : tuple of Case
        For training, and held out by the dataset itself; in order of their ids.
    findings : tuple of Finding
        What does not fit the layout and belongs to no case, or to none that an id can be made
        for: it is left out.
    """

    name: str
    root: Path
    layout: str
    channels: tuple[str, ...]
    labels: dict[str, int]
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...] = ()
    findings: tuple[Finding, ...] = ()


def check_case_id(name: str, where: str | Path) -> str:
    """Return a case id if it is legal.

    Raises
    ------
    DataError
        If it has other characters than letters, digits, ``_`` and ``-``, or more than 64.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise DataError(
            where,
            "a case id that cannot be used",
            expected="1 to 64 letters, digits, _ or -",
            received=repr(name[:80]),
            fix="Rename the case.",
        )
    return name


def check_unique(ids: Iterable[str], where: str | Path) -> None:
    """Raise DataError if a case id occurs twice."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(
                where,
                "two cases with one id",
                expected="an id per case",
                received=f"{name!r} twice",
                fix="Rename or remove one of them.",
            )
        seen.add(name)


def inside(root: Path, name: str, where: str | Path) -> Path:
    """The file that a manifest names, relative to the dataset's folder.

    Raises
    ------
    DataError
        If the name is empty, absolute, has ``..``, or leads out of the folder by a link.
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    legal = (
        name.strip()
        and "\0" not in name
        and not (posix.is_absolute() or windows.drive or windows.root)
        and ".." not in posix.parts
        and ".." not in windows.parts
    )
    if not legal:
        raise _outside(where, name)
    return check_inside(root, root / posix, where)


def check_inside(root: Path, path: Path, where: str | Path) -> Path:
    """Return ``path`` if no link leads it out of ``root``; DataError otherwise."""
    try:
        stays = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a circle of links
        stays = False
    if not stays:
        raise _outside(where, str(path))
    return path


def _outside(where: str | Path, name: str) -> DataError:
    return DataError(
        where,
        "a path that leaves the dataset",
        expected="a path inside the dataset's folder, without '..' or links out of it",
        received=repr(name[:200]),
        fix="Copy the file into the dataset and name it relative to the dataset's folder.",
    )


def image_stem(name: str) -> str | None:
    """A NIfTI file's name without its ending, in small letters or not; None for other and hidden
    files.

    Examples
    --------
    >>> image_stem("lit07_0000.nii.gz"), image_stem("A.NII"), image_stem("notes.txt")
    ('lit07_0000', 'A', None)
    >>> image_stem("._a.nii") is None
    True
    """
    if name.startswith("."):
        return None
    for ending in IMAGE_ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return None


def images_in(folder: Path, root: Path) -> tuple[dict[str, Path], dict[Path, DataError]]:
    """NIfTI files of a folder by their name without its ending, in order; none without the folder.

    Returns
    -------
    images : dict of str to Path
    faults : dict of Path to DataError
        Why some of them cannot be used: two files that differ only in their ending, of which the
        first stands for both, or a link that leaves ``root``.

    Raises
    ------
    DataError
        If the folder cannot be read.
    """
    images: dict[str, Path] = {}
    faults: dict[Path, DataError] = {}
    for path in list_folder(folder) if folder.is_dir() else ():
        stem = image_stem(path.name)
        if stem is None:
            continue
        first = images.setdefault(stem, path)
        try:
            check_inside(root, path, path)
        except DataError as error:
            faults[first] = error
        if first != path:
            faults.setdefault(first, same_image_twice(first, path))
    return images, faults


def same_image_twice(first: Path, second: Path) -> DataError:
    """The fault of two files that differ only in their ending."""
    return DataError(
        second,
        "the same image twice",
        expected="either .nii or .nii.gz",
        received=f"{first.name} and {second.name}",
        fix="Remove one of them.",
    )


def list_folder(folder: Path) -> list[Path]:
    """A folder's entries in order of their names; DataError if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            folder, "the folder cannot be read", received=str(error), fix="Mend its rights."
        ) from error
