"""Checking every case of a dataset before anything depends on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import nibabel as nib
import numpy as np

from segpipe.config import DataConfig
from segpipe.data.layouts import Case, Dataset, Finding
from segpipe.data.read import CaseReader, on_grid, read_reference
from segpipe.errors import DataError, GeometryError
from segpipe.observer import Observer, Silent
from segpipe.parallel import map_cases
from segpipe.volume import Volume

__all__ = ["CheckedDataset", "Finding", "Note", "check_dataset"]

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Note:
    """Something unusual about a case that segpipe copes with, such as another storage order."""

    case: str
    note: str


@dataclass(frozen=True)
class CheckedDataset:
    """What a dataset showed; both in the order of the cases.

    Parameters
    ----------
    findings : list of Finding
        Empty if the dataset is clean.
    notes : list of Note
        The flags that the cases will carry.
    """

    findings: list[Finding]
    notes: list[Note]


@dataclass(frozen=True)
class _Checked:
    """What one case showed: a digest of each readable channel's content, the reference's values."""

    findings: tuple[Finding, ...]
    flags: tuple[str, ...]
    digests: tuple[tuple[str, int, str], ...]
    values: frozenset[int] | None


def check_dataset(
    dataset: Dataset, config: DataConfig, workers: int = 1, observer: Observer | None = None
) -> CheckedDataset:
    """Read every case and list what is wrong, with the fix, and what is unusual.

    Checked are readability, geometry, labels, finite voxels, missing channels, references
    without images and the reverse, constant images, images that occur twice, and patients in the
    training and the test part. An empty reference is no finding: it says that the patient has no
    lesion. A label that no training reference holds is one: it cannot be learnt.

    Parameters
    ----------
    dataset : Dataset
        Its test cases are checked too.
    config : DataConfig
    workers : int
        Cases read side by side.
    observer : Observer, optional
        Hears how far it is.

    Returns
    -------
    CheckedDataset
    """
    observer = observer or Silent()
    cases = (*dataset.cases, *dataset.test_cases)
    expected = dict.fromkeys((case.id for case in dataset.cases), "training")
    if any(case.reference is not None for case in dataset.test_cases):
        expected |= dict.fromkeys((case.id for case in dataset.test_cases), "test")
    check = partial(_check_case, labels=dict(dataset.labels), config=config, expected=expected)
    findings = list(dataset.findings)
    tests = {case.id: case for case in dataset.test_cases}
    findings += [_in_both_parts(tests[test], train) for test, train in patients_in_both(dataset)]
    notes: list[Note] = []
    owners: dict[str, tuple[str, int, str]] = {}
    trained = {case.id for case in dataset.cases}
    seen: list[frozenset[int]] = []
    for done, outcome in enumerate(map_cases(check, cases, workers=workers), start=1):
        observer.progress(done, len(cases), "checking")
        checked: _Checked = outcome.value
        findings += checked.findings
        notes += [Note(outcome.item.id, flag) for flag in checked.flags]
        if checked.values is not None and outcome.item.id in trained:
            seen.append(checked.values)
        for file, position, digest in checked.digests:
            case, first, owner_file = owners.setdefault(digest, (outcome.item.id, position, file))
            if (case, first) != (outcome.item.id, position):
                findings.append(_duplicate(outcome.item.id, file, case, owner_file))
    if seen:
        held = frozenset().union(*seen)
        findings += [
            _never_held(dataset, name, len(seen))
            for name, value in dataset.labels.items()
            if value not in held
        ]
    return CheckedDataset(findings, notes)


def _check_case(
    case: Case, *, labels: dict[str, int], config: DataConfig, expected: dict[str, str]
) -> _Checked:
    faults = case.faults
    findings = [Finding.from_error(case.id, fault) for fault in faults.values()]
    flags: tuple[str, ...] = ()
    digests: list[tuple[str, int, str]] = []
    grid: Volume | None = None
    values: frozenset[int] | None = None
    reader = CaseReader(case, config)

    def attempt(file: str, function: Callable[[], _Value]) -> _Value | None:
        try:
            return function()
        except DataError as error:
            findings.append(Finding.from_error(case.id, error))
        except GeometryError as error:
            findings.append(_other_grid(case.id, file, error))
        return None

    def fit(volume: Volume, like: Volume, path: Path) -> tuple[str, ...]:
        aligned = attempt(str(path), partial(on_grid, volume, like, path, config.grid_tolerance_mm))
        return () if aligned is None else aligned[1]

    for position, channel in enumerate(case.channels):
        path = channel.path
        if path in faults:
            continue
        read = attempt(str(path), partial(reader.channel, channel))
        if read is None:
            continue
        volume, found = read
        flags += found
        if grid is None:
            grid = volume
        else:
            flags += fit(volume, grid, path)
        if float(volume.array.min()) == float(volume.array.max()):
            findings.append(_constant(case.id, str(path), float(volume.array.min())))
        else:
            place = str(path) if channel.index is None else f"{path}[{channel.index}]"
            digests.append((place, position, _content_digest(volume)))
    if case.reference is None:
        if case.id in expected:
            findings.append(_no_reference(case, expected[case.id]))
    elif case.reference not in faults:
        path = case.reference
        stored = attempt(str(path), partial(read_reference, path, labels, config))
        if stored is not None:
            reference, found = stored
            flags += found if grid is None else found + fit(reference, grid, path)
            values = frozenset(int(value) for value in np.unique(reference.array))
    return _Checked(
        tuple(dict.fromkeys(findings)), tuple(dict.fromkeys(flags)), tuple(digests), values
    )


def patients_in_both(dataset: Dataset) -> list[tuple[str, str]]:
    """Test cases whose patient has a training case, each with that case."""
    trained = {case.patient: case.id for case in reversed(dataset.cases)}
    return [
        (case.id, trained[case.patient]) for case in dataset.test_cases if case.patient in trained
    ]


def _in_both_parts(case: Case, training_case: str) -> Finding:
    return Finding(
        case.id,
        str(case.channels[0].path),
        "a test case of a patient who is in the training part too",
        expected="every patient in one part only",
        received=f"patient {case.patient}, as training case {training_case}",
        fix="Move all cases of the patient to one part: else scores on test cases are too good.",
    )


def _never_held(dataset: Dataset, label: str, references: int) -> Finding:
    value = dataset.labels[label]
    return Finding(
        "",
        str(dataset.root),
        f"a label that no training reference holds: {label}",
        expected=f"voxels of value {value} in some of {references} references",
        received="none",
        fix="Check how the masks were exported, or leave the label out (data.labels).",
    )


def _content_digest(volume: Volume) -> str:
    """SHA-256 of the voxels in RAS order, however they are stored."""
    array = nib.apply_orientation(volume.array, nib.io_orientation(volume.affine))
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _other_grid(case: str, file: str, error: GeometryError) -> Finding:
    """A finding from the message of ``align``: problem; expected …; received …. fix."""
    text = str(error).removeprefix(f"{file}: ")
    problem, _, rest = text.partition("; expected ")
    expected, _, rest = rest.partition("; received ")
    received, _, fix = rest.partition(". Resample")
    return Finding(case, file, problem, expected, received, f"Resample{fix}." if fix else "")


def _constant(case: str, file: str, value: float) -> Finding:
    return Finding(
        case,
        file,
        "an image without content",
        expected="intensities that differ",
        received=f"{value:g} everywhere",
        fix="Copy the scan again from its source, or leave the case out.",
    )


def _no_reference(case: Case, part: str) -> Finding:
    return Finding(
        case.id,
        str(case.channels[0].path),
        f"a {part} case without a reference",
        expected="the expert's mask",
        received="none",
        fix="Add the mask (an empty one if there is no lesion), or move the case to the test part."
        if part == "training"
        else "Add the mask, as other test cases have one; without it the case is not scored.",
    )


def _duplicate(case: str, file: str, other_case: str, other_file: str) -> Finding:
    return Finding(
        case,
        file,
        "the same image twice" if case == other_case else "the same image under two case ids",
        expected="different images",
        received=f"the voxels of {other_case}: {other_file}",
        fix="Remove one of them: copies in training and validation make scores too good.",
    )
