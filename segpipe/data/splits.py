"""Folds that never divide a patient, and the identity of a dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segpipe.config import SplitConfig
from segpipe.data.layouts import Case, Dataset
from segpipe.data.nifti import file_sha256
from segpipe.errors import ConfigError, DataError
from segpipe.observer import Observer, Silent

FOLDS_PURPOSE = 101


@dataclass(frozen=True)
class Fold:
    """Case ids to train on and to validate on.

    Parameters
    ----------
    index : int
        From 0.
    train, validation : tuple of str
        Case ids, sorted; no patient is in both.
    """

    index: int
    train: tuple[str, ...]
    validation: tuple[str, ...]


def make_folds(cases: Sequence[Case], split: SplitConfig) -> tuple[Fold, ...]:
    """Divide cases into folds by patient, as equal in number of cases as patients allow.

    The result depends on the cases and the seed only, not on the order of the cases. Patients
    are shuffled; those with most cases come first, each to the fold with fewest cases so far.

    Parameters
    ----------
    cases : sequence of Case
    split : SplitConfig
        With 1 fold all cases train and none validates.

    Raises
    ------
    ConfigError
        If there are fewer patients than folds, or one patient is to be left out of one.
    """
    patients: dict[str, list[str]] = {}
    for case in sorted(cases, key=lambda case: case.id):
        patients.setdefault(case.patient, []).append(case.id)
    everything = tuple(sorted(case.id for case in cases))
    if split.folds == 1 and not split.leave_one_patient_out:
        return (Fold(0, everything, ()),)
    wanted = max(2, len(patients)) if split.leave_one_patient_out else split.folds
    if len(patients) < wanted:
        raise ConfigError(
            f"split: expected at least {wanted} patients for {wanted} folds; received "
            f"{len(patients)} ({len(cases)} cases). Lower split.folds, or check the patients "
            "(data.patient_pattern)"
        )
    if split.leave_one_patient_out:
        held_out = [patients[name] for name in sorted(patients)]
    else:
        held_out = _balanced(patients, split)
    return tuple(
        Fold(i, tuple(c for c in everything if c not in ids), tuple(sorted(ids)))
        for i, ids in enumerate(map(frozenset, held_out))
    )


def _balanced(patients: dict[str, list[str]], split: SplitConfig) -> list[list[str]]:
    names = sorted(patients)
    np.random.default_rng([split.seed, FOLDS_PURPOSE]).shuffle(names)
    names.sort(key=lambda name: -len(patients[name]))  # stable: the shuffle orders equals
    folds: list[list[str]] = [[] for _ in range(split.folds)]
    for name in names:
        min(folds, key=len).extend(patients[name])
    return folds


def expect_training_cases(dataset: Dataset) -> None:
    """Refuse a dataset that nothing can be learnt from, before hours go into it.

    Raises
    ------
    DataError
        If no training case has a reference.
    """
    if not dataset.cases:
        raise DataError(dataset.root, "no training case", fix="Check data.root and data.layout.")
    if all(case.reference is None for case in dataset.cases):
        raise DataError(
            dataset.root,
            "no training case has a reference",
            expected="the experts' masks, an empty one of a patient without lesions",
            received=f"{len(dataset.cases)} cases without one",
            fix="Put the masks where the layout has them (of a table: the column 'reference').",
        )


def dataset_digest(dataset: Dataset, observer: Observer | None = None) -> str:
    """SHA-256 over case ids, patients and the bytes of every file, as hexadecimal digits.

    It does not depend on where the dataset lies, nor on the names of its files. A file that is
    missing or cannot be read counts as such: its case fails when it is prepared, not the rest.
    """
    observer = observer or Silent()
    digests: dict[str, str] = {}

    def of(path) -> str:
        key = str(path)
        if key not in digests:
            try:
                digests[key] = file_sha256(path)
            except DataError:
                digests[key] = "not readable"
        return digests[key]

    ordered = [
        (part, case)
        for part, cases in (("train", dataset.cases), ("test", dataset.test_cases))
        for case in sorted(cases, key=lambda case: case.id)
    ]
    entries = []
    for done, (part, case) in enumerate(ordered, start=1):
        channels = [[of(channel.path), channel.index] for channel in case.channels]
        reference = None if case.reference is None else of(case.reference)
        entries.append([part, case.id, case.patient, channels, reference])
        observer.progress(done, len(ordered), "hashing")
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()
