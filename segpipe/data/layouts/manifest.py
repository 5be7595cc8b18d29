"""CSV manifest: a row per case, paths relative to the manifest."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

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
from segpipe.data.layouts.declared import choose_labels
from segpipe.errors import DataError

_KNOWN = ("case", "patient", "reference", "split")
_SPLITS = ("train", "test")
_PATIENTS = re.compile(
    r"(patient|subject|participant|person)s?([ _-]?(id|no|nr|number|name))?", re.I
)
_PARTS = {"train", "training", "test", "testing", "val", "validation", "valid"}
_MASKS = re.compile(
    r"mask|seg|label|lesion|annot|refer|truth|expert|rater|reader|(^|_)gt($|_)", re.I
)
Row = tuple[int, dict[str, str]]


def open_manifest(path: Path, config: DataConfig, *, scans_only: bool = False) -> Dataset:
    """Open a dataset listed in a CSV file.

    Columns: ``case``; ``image``, or one column per channel; optional ``patient``,
    ``reference`` and ``split`` (train or test); every other column is an attribute. Channel
    columns are those of ``data.channels``, else those with NIfTI files in them. With several
    ``data.channels`` and an ``image`` column, images are 4-D. ``scans_only`` as in
    :func:`~segpipe.data.layouts.opening.open_dataset`.

    Raises
    ------
    DataError
        If the table or one of its rows cannot be used; the line is named. Also if a column of
        files reads like one of masks, and ``data.channels`` does not say what it is, or another
        column like ``patient`` or ``split``, which the table lacks.
    """
    columns, rows = read_rows(path)
    by_pattern = config.patient_pattern is not None
    if not scans_only:
        _expect_no_other_names(path, columns, rows, patients=not by_pattern)
    channels, sources = _channel_columns(path, columns, rows, config)
    parts: dict[str, list[Case]] = {name: [] for name in _SPLITS}
    for line, row in rows:
        split = row.get("split") or "train"
        if split not in _SPLITS:
            raise _bad_row(path, line, "an unknown split", "train or test", split)
        parts[split].append(_case(path, line, row, sources))
    known = {row["case"]: row["patient"] for _, row in rows if row.get("patient")}
    lines = {row["case"]: line for line, row in rows}
    case = None if scans_only or by_pattern else find_namesake(lines, known)
    if case is not None:
        problem = "a case without a patient that has the name of one"
        raise _bad_row(path, lines[case], problem, "its patient", f"case {case}, patient empty")
    for cases in parts.values():
        check_unique((case.id for case in cases), path)
        cases.sort(key=lambda case: case.id)
    return Dataset(
        name=_name(path),
        root=path.parent,
        layout="csv",
        channels=channels,
        labels=choose_labels({"lesion": 1}, config, path),
        cases=tuple(parts["train"]),
        test_cases=tuple(parts["test"]),
    )


def _name(path: Path) -> str:
    """Of a dataset: that of the table, or of its folder where the table has everybody's name."""
    return path.resolve().parent.name if path.stem.casefold() == "manifest" else path.stem


def _expect_no_other_names(
    path: Path, columns: Sequence[str], rows: Sequence[Row], *, patients: bool
) -> None:
    """Refuse columns that would be attributes and seem to be more: patients must not be divided."""
    others = [name for name in columns if name not in (*_KNOWN, "image")]
    for name in others:
        cells = {row[name].casefold() for _, row in rows if row[name]}
        if patients and "patient" not in columns and _PATIENTS.fullmatch(name):
            meant, unless = "patient", "every case is then a patient of its own"
        elif "split" not in columns and cells and cells <= _PARTS:
            meant, unless = "split, with train and test in it", "all cases are then trained on"
        else:
            continue
        raise DataError(
            path,
            f"a column {name}, and none with the name {meant.split(',')[0]}",
            expected=f"a column {meant.split(',')[0]}, or none that seems to be it",
            received=f"columns {', '.join(columns)}",
            fix=f"Rename {name} to {meant}; or give it a name of another kind: {unless}.",
        )


def find_namesake(cases: Iterable[str], known: Mapping[str, str]) -> str | None:
    """A case that is a patient of its own, as none is ``known``, and has the name of another's."""
    taken = set(known.values())
    return next((case for case in cases if case not in known and case in taken), None)


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    """Column names, and rows with their line numbers; names and cells stripped.

    The columns that have a meaning may be written in capitals.

    Raises
    ------
    DataError
        If it is no table with commas, semicolons or tabs that has the column ``case`` and a row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=first.count)
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            columns = [_column(name or "") for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise _bad_row(
                        path,
                        reader.line_num,
                        "a row of another length than the header",
                        f"{len(columns)} cells",
                        "fewer or more",
                    )
                rows.append((reader.line_num, {k: v.strip() for k, v in row.items()}))
    except OSError as error:
        raise DataError(
            path,
            "the table cannot be read",
            received=error.strerror or str(error),
            fix="Correct the path, or mend the file's rights.",
        ) from error
    except (ValueError, csv.Error) as error:
        raise DataError(
            path,
            "not readable as a table",
            expected="CSV in UTF-8",
            received=str(error),
            fix="Save the table again as CSV (UTF-8).",
        ) from error
    if "case" not in columns or len(set(columns)) != len(columns) or not rows:
        raise DataError(
            path,
            "a table that lists no cases",
            expected="a header with 'case', each column once, and at least one row",
            received=f"columns {', '.join(columns)}; {len(rows)} rows",
            fix="Add what is missing.",
        )
    return columns, rows


def _column(name: str) -> str:
    name = name.strip()
    return name.casefold() if name.casefold() in (*_KNOWN, "image") else name


def _channel_columns(
    path: Path, columns: Sequence[str], rows: Sequence[Row], config: DataConfig
) -> tuple[tuple[str, ...], list[tuple[str, int | None]]]:
    """Channel names, and the column and position that each comes from."""
    if config.channels and all(name in columns for name in config.channels):
        return config.channels, [(name, None) for name in config.channels]
    if "image" in columns:
        others = [name for name in _file_columns(columns, rows) if name != "image"]
        if config.channels is None and others:
            masks = [name for name in others if _MASKS.search(name)]
            _expect_no_masks(path, columns, masks, ["image"])
            raise DataError(
                path,
                "columns of files beside 'image'",
                expected="data.channels, to say which columns the network reads",
                received=f"columns of files image, {', '.join(others)}",
                fix="Set data.channels: [image], or to all of those that are channels.",
            )
        names = config.channels or ("image",)
        several = len(names) > 1
        return names, [("image", i if several else None) for i in range(len(names))]
    if config.channels is None:
        found = _file_columns(columns, rows)
        masks = [name for name in found if _MASKS.search(name)]
        _expect_no_masks(path, columns, masks, [name for name in found if name not in masks])
        if found:
            return found, [(name, None) for name in found]
    raise DataError(
        path,
        "no column for the images",
        expected=", ".join(config.channels or ()) or "'image', or a column of files per channel",
        received=", ".join(columns),
        fix="Add the column, or name the channel columns in data.channels.",
    )


def _expect_no_masks(
    path: Path, columns: Sequence[str], masks: Sequence[str], images: Sequence[str]
) -> None:
    """Refuse columns of files that seem to be masks, where nobody says which are channels."""
    if not masks:
        return
    channels = f"data.channels: [{', '.join(images)}]"
    if "reference" in columns:
        expected = "data.channels, to say which columns the network reads"
        fix = f"Set {channels}."
    else:
        expected = "the experts' masks in a column 'reference'"
        fix = f"Rename the column of the masks to reference; if there are none, set {channels}."
    raise DataError(
        path,
        f"a column of files that may be masks: {', '.join(masks)}",
        expected=expected,
        received=f"columns of files {', '.join([*images, *masks])}",
        fix=fix,
    )


def _file_columns(columns: Sequence[str], rows: Sequence[Row]) -> tuple[str, ...]:
    """Columns that have a file in some row, and no meaning of their own."""
    return tuple(
        name
        for name in columns
        if name not in _KNOWN and any(_is_image(row[name]) for _, row in rows)
    )


def _case(
    path: Path, line: int, row: dict[str, str], sources: Sequence[tuple[str, int | None]]
) -> Case:
    where = f"{path}, line {line}"
    case = check_case_id(row["case"], where)
    for column in dict.fromkeys(column for column, _ in sources):
        if not _is_image(row[column]):
            problem = f"no image in column {column}"
            raise _bad_row(path, line, problem, "a .nii or .nii.gz file", row[column] or "nothing")
    channels = tuple(
        ChannelFile(
            inside(path.parent, row[column], f"{where}, column {column}"),
            index,
            None if index is None else len(sources),
        )
        for column, index in sources
    )
    reference = row.get("reference")
    used = {*_KNOWN, *(column for column, _ in sources)}
    return Case(
        id=case,
        patient=row.get("patient") or case,
        channels=channels,
        reference=inside(path.parent, reference, where) if reference else None,
        attributes={name: value for name, value in row.items() if name not in used and value},
    )


def _is_image(cell: str) -> bool:
    return image_stem(Path(cell).name) is not None


def _bad_row(path: Path, line: int, problem: str, expected: str, received: str) -> DataError:
    return DataError(
        f"{path}, line {line}",
        problem,
        expected=expected,
        received=received,
        fix="Correct the row.",
    )
