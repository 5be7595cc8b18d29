"""Who the cases belong to, and by what their scores are grouped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segpipe.data.layouts.manifest import find_namesake, read_rows
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


def patients_of(cases: Iterable[str], known: Mapping[str, str], source: Path) -> dict[str, str]:
    """Case to patient; a case whose patient is not known is one of its own.

    Raises
    ------
    DataError
        If such a case has the name of another case's patient: the two would be one.
    """
    owners = {case: known.get(case, case) for case in cases}
    if (case := find_namesake(owners, known)) is not None:
        other = next(one for one, patient in known.items() if patient == case)
        raise DataError(
            source,
            f"case {case} has no patient and the name of a patient",
            expected="its patient",
            received=f"none, while {case} is the patient of case {other}",
            fix="Say whose it is, or name the patients otherwise.",
        )
    return owners


def read_people(path: Path, by: Sequence[str]) -> People:
    """Read a CSV with the columns ``case`` and ``patient``, and those to group by.

    Raises
    ------
    DataError
        If it cannot be read, a column is missing, or a case has several rows.
    """
    columns, lines = read_rows(path)
    missing = [name for name in ("patient", *by) if name not in columns]
    if missing:
        raise DataError(
            path,
            f"no column {', '.join(missing)}",
            expected=f"the columns {', '.join(('case', 'patient', *by))}",
            received=", ".join(columns),
            fix="Add it, or choose another with --by. A case whose patient is left empty is a "
            "patient of its own.",
        )
    rows = [row for _, row in lines]
    twice = sorted(case for case, n in Counter(row["case"] for row in rows).items() if n > 1)
    if twice:
        raise DataError(
            path,
            "two rows of one case",
            expected="a row per case",
            received=_first(twice),
            fix="Remove the row that is wrong.",
        )
    patients = {row["case"]: row["patient"] for row in rows if row["patient"]}
    groups = {name: {row["case"]: row[name] for row in rows if row[name]} for name in by}
    return People(path, tuple(row["case"] for row in rows), patients, groups)


def _first(cases: Sequence[str]) -> str:
    return ", ".join(cases[:5]) + (", …" if len(cases) > 5 else "")
