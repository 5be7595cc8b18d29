"""BIDS: sub-XX[/ses-YY]/anat/*_FLAIR.nii.gz, masks in derivatives/*/sub-XX/…"""

from __future__ import annotations

import csv
import fnmatch
import re
from collections.abc import Mapping
from pathlib import Path

from segpipe.config import DataConfig
from segpipe.data.layouts.case import (
    Case,
    ChannelFile,
    Dataset,
    Finding,
    check_case_id,
    images_in,
    list_folder,
)
from segpipe.data.layouts.declared import choose_labels
from segpipe.errors import DataError

_MASKS = ("*lesion*", "*_dseg", "*_mask")
"""Names of masks without subject and session; the most telling that a dataset has is meant."""

_ANATOMY = re.compile(r"desc-brain|brain-?mask|label-brain|skull|desc-(aseg|aparc)", re.IGNORECASE)
"""Names of masks that fMRIPrep, HD-BET or FreeSurfer leave: never what an expert drew."""

_SUBJECT = re.compile(r"^(sub-[^_]+)_(?:(ses-[^_]+)_)?")
_MISSING = ("", "n/a", "N/A")
_Faults = dict[Path, DataError]


def is_bids(root: Path) -> bool:
    """Whether the folder has sub-… folders."""
    return any(path.is_dir() and path.name.startswith("sub-") for path in list_folder(root))


def open_bids(root: Path, config: DataConfig) -> Dataset:
    """Open a BIDS dataset with masks among its derivatives.

    Channels are the suffixes (FLAIR, T1w, …) that the sessions have, in alphabetical order, or
    ``data.channels``, which may carry entities (``acq-3D_FLAIR``). Labels are ``lesion: 1``
    unless ``data.labels`` says otherwise.

    A session with two images or two masks for one purpose, or with those that are named as of
    another subject or session, cannot be used; one whose name is no case id is a finding.

    Raises
    ------
    DataError
        If there are no images.
    """
    sessions, findings = _sessions(root)
    images, faults = {}, {}
    for case, folder in sessions.items():
        found, known = _images_of(case, folder / "anat", root)
        images[case] = {s: p for s, p in found.items() if not _is_mask(s)}
        faults[case] = known
    channels = config.channels or tuple(
        sorted({stem.rpartition("_")[2] for files in images.values() for stem in files})
    )
    if not channels and (sessions or not findings):
        raise DataError(
            root,
            "no images",
            expected="sub-XX/anat/sub-XX_FLAIR.nii.gz or alike",
            fix="Point data.root at the folder that holds the sub-… folders.",
        )
    people = _participants(root)
    references = _references(root, sessions, faults)
    cases = []
    for case, folder in sessions.items():
        patient, _, session = case.partition("_")
        attributes = dict(people.get(patient, {}))
        if session:
            attributes["session"] = session
        files = tuple(_channel(case, folder, images[case], name, faults[case]) for name in channels)
        paths = (*(file.path for file in files), references.get(case))
        wrong = {path: faults[case][path] for path in paths if path in faults[case]}
        cases.append(Case(case, patient, files, references.get(case), attributes, wrong))
    return Dataset(
        name=root.name,
        root=root,
        layout="bids",
        channels=tuple(channels),
        labels=choose_labels({"lesion": 1}, config, root),
        cases=tuple(cases),
        findings=findings,
    )


def _sessions(root: Path) -> tuple[dict[str, Path], tuple[Finding, ...]]:
    """Case id to folder, one per session with anatomical images; and those that are no id.

    Images of a subject beside its sessions are a case of their own.
    """
    found, findings = {}, []
    for subject in list_folder(root):
        if not (subject.is_dir() and subject.name.startswith("sub-")):
            continue
        inner = [p for p in list_folder(subject) if p.is_dir() and p.name.startswith("ses-")]
        for folder in (subject, *inner):
            case = subject.name if folder is subject else f"{subject.name}_{folder.name}"
            if (folder / "anat").is_dir():
                try:
                    found[check_case_id(case, folder)] = folder
                except DataError as error:
                    findings.append(Finding.from_error("", error))
    return found, tuple(findings)


def _images_of(case: str, folder: Path, root: Path) -> tuple[dict[str, Path], _Faults]:
    """As :func:`images_in`; that a name tells of another subject or session is a fault, too."""
    images, faults = images_in(folder, root)
    for stem, path in images.items():
        named = _SUBJECT.match(stem)
        if named and not {one for one in named.groups() if one} <= set(case.split("_")):
            faults[path] = DataError(
                path,
                "a file of another subject or session",
                expected=f"a name that begins with {case}_",
                received=path.name,
                fix="Move the file to its own folder, or rename it if it is this one's.",
            )
    return images, faults


def _is_mask(stem: str) -> bool:
    return any(_named(stem, pattern) for pattern in _MASKS)


def _named(stem: str, pattern: str) -> bool:
    """Whether a file's name, without subject and session, is of a kind."""
    return fnmatch.fnmatchcase("_" + _SUBJECT.sub("", stem), pattern)


def _channel(
    case: str, folder: Path, images: dict[str, Path], name: str, faults: _Faults
) -> ChannelFile:
    """The image of a channel; where there are several, the first, and that is its fault."""
    matching = [path for stem, path in images.items() if stem.endswith("_" + name)]
    if len(matching) > 1:
        faults[matching[0]] = _ambiguous(folder, f"several {name} images", matching)
    expected = folder / "anat" / f"{case}_{name}.nii.gz"
    return ChannelFile(matching[0] if matching else expected)


def _references(
    root: Path, sessions: Mapping[str, Path], faults: Mapping[str, _Faults]
) -> dict[str, Path]:
    """Masks of the sessions that have one, all by the same kind of name.

    Taken session by session, a brain mask would stand in where a session has no lesion file.
    Where a session has several, the first is named, and that is its fault.
    """
    places = {case: _mask_places(root, case, at, faults[case]) for case, at in sessions.items()}
    for pattern in _MASKS:
        found = {}
        for case, (derived, beside) in places.items():
            for stems in (derived, beside):
                masks = [path for stem, path in stems if _named(stem, pattern)]
                if len(masks) > 1:
                    faults[case][masks[0]] = _ambiguous(sessions[case], "several masks", masks)
                if masks:
                    found[case] = masks[0]
                    break
        if found:
            return found
    return {}


def _mask_places(
    root: Path, case: str, folder: Path, faults: _Faults
) -> tuple[list[tuple[str, Path]], ...]:
    """Names and files among a session's derivatives, and beside its images; none of anatomy."""
    session = folder.relative_to(root)
    derivatives = root / "derivatives"
    pipelines = list_folder(derivatives) if derivatives.is_dir() else []
    found: tuple[list[tuple[str, Path]], ...] = ([], [])
    for stems, places in zip(found, ([p / session for p in pipelines], [folder]), strict=True):
        for inner in (inner for place in places for inner in (place, place / "anat")):
            images, known = _images_of(case, inner, root)
            stems += [(s, path) for s, path in images.items() if not _ANATOMY.search(s)]
            faults |= known
    return found


def _participants(root: Path) -> dict[str, dict[str, str]]:
    """Attributes per participant, from participants.tsv if there is one."""
    path = root / "participants.tsv"
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", restval=""))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            path, "not readable as a table", expected="tabs, UTF-8", received=str(error)
        ) from error
    return {
        row.get("participant_id", ""): {
            key: value
            for key, value in row.items()
            if key and key != "participant_id" and value not in _MISSING
        }
        for row in rows
    }


def _ambiguous(folder: Path, problem: str, files: list[Path]) -> DataError:
    return DataError(
        folder,
        problem,
        expected="one",
        received=", ".join(path.name for path in files),
        fix="Name the one wanted by its entities in data.channels (acq-3D_FLAIR), keep only one, "
        "or list the files in a CSV manifest.",
    )
