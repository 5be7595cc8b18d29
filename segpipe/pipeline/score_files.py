"""Which files ``segpipe score`` compares, and which region maps go with them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.config.anatomy import NOWHERE
from segpipe.data.layouts.case import image_stem
from segpipe.errors import DataError


@dataclass(frozen=True)
class Pair:
    """One case: its two files, or what is wrong with them.

    Parameters
    ----------
    case : str
    reference, prediction : Path or None
    problem : DataError or None
    """

    case: str
    reference: Path | None
    prediction: Path | None
    problem: DataError | None = None


def pair_files(references: Path, predictions: Path, case_pattern: str | None) -> list[Pair]:
    """Pair files by case id, in the order of case ids.

    Two single files are a pair whatever their names; the reference's name yields the case.

    Raises
    ------
    DataError
        If a path does not exist, neither side has a file, or a name does not fit the pattern.
    """
    if references.is_file() and predictions.is_file():
        return [Pair(case_id(references, case_pattern), references, predictions)]
    left, right = (_by_case(path, case_pattern) for path in (references, predictions))
    if not left and not right:
        raise DataError(
            references,
            "nothing to score",
            expected="files named *.nii.gz or *.nii",
            received="none there, and none among the predictions",
            fix="Give the folders that hold the masks.",
        )
    return [
        _pair(case, left.get(case, []), right.get(case, []), references, predictions)
        for case in sorted(left.keys() | right.keys())
    ]


def case_id(path: Path, case_pattern: str | None = None) -> str:
    """The case of a file: its name without extension and ``_0000``, or what a pattern finds.

    Raises
    ------
    DataError
        If the pattern is no regular expression or does not fit, or the name is no UTF-8.

    Examples
    --------
    >>> case_id(Path("a/lit07_0000.nii.gz"))
    'lit07'
    >>> case_id(Path("sub-3_mask.nii"), "sub-([0-9]+)")
    '3'
    """
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            path,
            "a file name that is no UTF-8",
            expected="a name that every program can read",
            received=ascii(path.name),
            fix="Rename the file.",
        ) from error
    if case_pattern is None:
        return _stem(path).removesuffix("_0000")
    try:
        found = re.search(case_pattern, path.name)
    except re.error as error:
        raise DataError(
            case_pattern,
            "no regular expression",
            expected="a pattern such as (sub-[0-9]+)",
            received=str(error),
        ) from error
    if not found or not (found[1] if found.re.groups else found[0]):
        raise DataError(
            path,
            "the case pattern finds no case in this name",
            expected=f"a match of {case_pattern!r}",
            received=path.name,
            fix="Change --case-pattern, or take the file away.",
        )
    return found[1] if found.re.groups else found[0]


def region_files(folder: Path, cases: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Region maps by case and name: ``CASE_REGION.nii.gz`` or ``REGION/CASE.nii.gz``.

    Raises
    ------
    DataError
        If there is no such folder, a case has two maps of a region, or a region is named as what
        lies in none is.
    """
    if not folder.is_dir():
        raise DataError(
            folder,
            "no folder of region maps",
            expected="a folder",
            received="a file" if folder.exists() else "nothing",
            fix="Give the folder with --regions.",
        )
    found: dict[str, dict[str, Path]] = {case: {} for case in cases}

    def add(case: str, region: str, path: Path) -> None:
        first = found[case].setdefault(region, path)
        if first != path:
            raise DataError(
                case,
                f"several maps of the region {region}",
                expected="one file",
                received=f"{first.relative_to(folder)}, {path.relative_to(folder)}",
                fix="Remove all but one.",
            )

    longest_first = sorted(cases, key=len, reverse=True)
    for path in _images(folder):
        stem = _stem(path)
        owner = next((case for case in longest_first if stem.startswith(f"{case}_")), None)
        if owner is not None:
            add(owner, stem[len(owner) + 1 :], path)
    for inner in sorted(child for child in folder.iterdir() if child.is_dir()):
        for path in _images(inner):
            if case_id(path) in found:
                add(case_id(path), inner.name, path)
    for maps in found.values():
        if NOWHERE in maps:
            raise DataError(
                maps[NOWHERE],
                "a region map with a name that stands for no region",
                expected=f"any name but {NOWHERE}",
                received=NOWHERE,
                fix="Give the region another name.",
            )
    return found


def _pair(case, left, right, references, predictions) -> Pair:
    for side, files in (("references", left), ("predictions", right)):
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            problem = DataError(case, f"several {side}", expected="one file", received=names)
            return Pair(case, None, None, problem)
    if left and right:
        return Pair(case, left[0], right[0])
    missing, there = (predictions, left) if left else (references, right)
    side = "prediction" if left else "reference"
    problem = DataError(
        case,
        f"no {side}",
        expected=f"a file of this case in {missing}",
        received=f"only {there[0].name}",
        fix="Add it, or say with --case-pattern how names yield cases.",
    )
    return Pair(case, left[0] if left else None, right[0] if right else None, problem)


def _by_case(path: Path, case_pattern: str | None) -> dict[str, list[Path]]:
    if not path.exists():
        raise DataError(
            path, "does not exist", expected="a NIfTI file or a folder of them", received="nothing"
        )
    cases: dict[str, list[Path]] = {}
    for file in [path] if path.is_file() else _images(path):
        cases.setdefault(case_id(file, case_pattern), []).append(file)
    return cases


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and image_stem(p.name) is not None)


def _stem(path: Path) -> str:
    return image_stem(path.name) or path.stem
