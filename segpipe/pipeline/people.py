"""Who the cases belong to, and by what their scores are grouped."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.errors import DataError


@dataclass(frozen=True)
class People:
    """Patients and groups of cases.

    Parameters
    ----------
    source : Path
        The table that names them.
    cases : tuple of str
        That it has a row for.
    patients : mapping of str to str
        Case to patient; a case that is missing is a patient of its own.
    groups : mapping of str to mapping of str to str
        Column to case to value, such as site or scanner; cases without a value are in no group.
    """

    source: Path
    cases: tuple[str, ...]
    patients: Mapping[str, str]
    groups: Mapping[str, Mapping[str, str]]

    def missing(self, cases: Sequence[str]) -> set[str]:
        """Those of ``cases`` that the table has no row for.

        Raises
        ------
        DataError
            If it has none for any: its cases are named otherwise, or it is another table.
        """
        missing = set(cases).difference(self.cases)
        if missing.issuperset(cases):
            raise DataError(
                self.source,
                "names none of the cases that are scored",
                expected=f"cases such as {_first(cases)}",
                received=_first(self.cases),
                fix="Correct the column case, or the case ids with --case-pattern.",
            )
        return missing


def read_people(path: Path, by: Sequence[str]) -> People:
    """Read a CSV with the column ``case``, perhaps ``patient``, and those to group by.

    Raises
    ------
    DataError
        If it cannot be read, or a column is missing.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            path,
            "no table of cases",
            expected="a CSV file with the column case",
            received=str(error),
            fix="Give it with --manifest.",
        ) from error
    columns = list(rows[0]) if rows else []
    missing = [name for name in ("case", *by) if name not in columns]
    if missing:
        raise DataError(
            path,
            f"no column {', '.join(missing)}",
            expected=f"the columns {', '.join(('case', *by))}",
            received=", ".join(map(str, columns)) or "nothing",
            fix="Add it, or choose another with --by.",
        )
    patients = {row["case"]: row["patient"] for row in rows if row.get("patient")}
    groups = {name: {row["case"]: row[name] for row in rows if row[name]} for name in by}
    return People(path, tuple(row["case"] for row in rows), patients, groups)


def _first(cases: Sequence[str]) -> str:
    return ", ".join(cases[:5]) + (", …" if len(cases) > 5 else "")
