"""Runs that were scored, read back to be compared."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path
from typing import Any

import pandas as pd

from segpipe.errors import DataError
from segpipe.evaluate.paired import Point
from segpipe.evaluate.summary import NOT_SUMMARISED, SCHEMA, SCORES_DOCUMENT
from segpipe.evaluate.table import COLUMNS, component_table, table_digest

_TRACKED = Path("artifacts") / "evaluation" / SCORES_DOCUMENT
COMPONENTS = "components.parquet"
COUNTED_ALIKE = (
    "rule",
    "connectivity",
    "min_size_mm3",
    "tolerance_mm",
    "reference_instances",
    "ignore_label",
)
"""Settings that scores have in common which are pooled, or compared."""


@dataclass(frozen=True)
class ScoredRun:
    """Scores of a set of cases.

    Parameters
    ----------
    name : str
        What the user calls it.
    settings : mapping
        Of the first document.
    rows, details : mapping of (case, label) to mapping
    patients : mapping of str to str
        Case id to patient, as far as known.
    points : mapping of str to Point
        Case id to the point that it was scored at.
    table : DataFrame
        Of components; empty where none was written.
    files : tuple of Path
        It was read from, tables of components that may be missing included.
    """

    name: str
    settings: Mapping[str, Any]
    rows: Mapping[tuple[str, str], Mapping[str, Any]]
    details: Mapping[tuple[str, str], Mapping[str, Any]]
    patients: Mapping[str, str]
    points: Mapping[str, Point]
    table: pd.DataFrame = field(repr=False)
    files: tuple[Path, ...] = ()

    def all_rows(self) -> list[dict[str, Any]]:
        """Rows; scored ones with their details."""
        return [
            {**row, **(self.details.get(key, {}) if row["status"] == "scored" else {})}
            for key, row in self.rows.items()
        ]

    def scored_details(self, label: str) -> list[Mapping[str, Any]]:
        """Details of one label that have bins of size."""
        return [d for (_, one), d in self.details.items() if one == label and d.get("by_size")]


def scored_run(name: str, document: Mapping[str, Any], table: pd.DataFrame) -> ScoredRun:
    """A run from one document of scores and its table of components."""
    settings = document["settings"]
    cases = [row["case"] for row in document["rows"]]
    points = dict.fromkeys(cases, _point(settings))
    for fold in document.get("folds") or ():
        own = {**settings, **fold, "removal_size_mm3": fold["min_size_mm3"]}
        points |= dict.fromkeys(fold.get("cases") or (), _point(own))
    return ScoredRun(
        name=name,
        settings=settings,
        rows={(row["case"], row["label"]): row for row in document["rows"]},
        details={(d["case"], d["label"]): d for d in document.get("details") or () if "case" in d},
        patients=document.get("patients") or {},
        points=points,
        table=table,
    )


def _point(settings: Mapping[str, Any]) -> Point:
    return Point(
        settings.get("threshold", 0.5),
        settings.get("removal_size_mm3", 0.0),
        settings.get("core_threshold"),
        bool(settings.get("largest_only")),
    )


def read_scored_run(name: str, store: Path) -> ScoredRun:
    """Read a run.

    Parameters
    ----------
    name : str
        A scores.json (of evaluate or ``score --json``), a folder that holds one or several, or
        the id of a run under ``store``.
    store : Path

    Raises
    ------
    DataError
        If there are no scores, a case is scored twice, or several files were counted by different
        rules.
    """
    files = _find(name, store)
    parts = [_read_part(name, path) for path in files]
    for part in parts:
        expect_counted_alike(parts[0], part)
    rows: dict[tuple[str, str], Mapping[str, Any]] = {}
    for part in parts:
        for key, row in part.rows.items():
            if key in rows:
                raise DataError(
                    name,
                    f"case {key[0]} is scored twice",
                    expected="one row per case and label",
                    fix=f"Name the {SCORES_DOCUMENT} that you mean.",
                )
            rows[key] = row
    return ScoredRun(
        name=name,
        settings=parts[0].settings,
        rows=rows,
        details={key: detail for part in parts for key, detail in part.details.items()},
        patients={case: owner for part in parts for case, owner in part.patients.items()},
        points={case: point for part in parts for case, point in part.points.items()},
        table=pd.concat([part.table for part in parts], ignore_index=True),
        files=(*files, *(path.with_name(COMPONENTS) for path in files)),
    )


def expect_counted_alike(a: ScoredRun, b: ScoredRun) -> None:
    """Refuse scores that were counted by different rules.

    Raises
    ------
    DataError
        Names the setting in which they differ.
    """
    for key in COUNTED_ALIKE:
        if a.settings.get(key) != b.settings.get(key):
            raise DataError(
                b.name,
                f"counted with another {key}",
                expected=f"{a.settings.get(key)} as {a.name if a.name != b.name else 'the first'}",
                received=str(b.settings.get(key)),
                fix="Score both with the same settings.",
            )


def expect_in_common(run: ScoredRun, keys: Collection[tuple[str, str]], others: str) -> None:
    """Refuse a run that has none of the (case, label) ``keys`` of ``others``.

    Raises
    ------
    DataError
    """
    if not run.rows.keys() & set(keys):
        raise DataError(
            run.name,
            "no case and label in common",
            expected=f"some of {others}: {_some(keys)}",
            received=_some(run.rows),
            fix="Compare scores of the same cases, under the same ids and labels.",
        )


def _some(keys: Collection[tuple[str, str]]) -> str:
    told = [f"{case} ({label})" for case, label in list(keys)[:3]]
    return ", ".join(told) + (" and others" if len(keys) > len(told) else "")


def _read_part(name: str, path: Path) -> ScoredRun:
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}")
        if not document["rows"] or not isinstance(document["settings"], dict):
            raise KeyError("rows")
        for row in document["rows"]:
            _ = row["case"], row["label"], row["status"]
            _expect_figures(row)
        run = scored_run(name, document, component_table(()))
        if not isinstance(run.patients, dict):
            raise TypeError("patients")
        if len(run.rows) != len(document["rows"]):
            raise ValueError("a case and label with two rows")
        for detail in run.details.values():
            _expect_figures(detail)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            path,
            "no scores",
            expected=f"what segpipe evaluate or segpipe score --json wrote, schema {SCHEMA}",
            received=f"{type(error).__name__}: {error}",
            fix="Give a scores.json.",
        ) from error
    return replace(run, table=_table(path, document.get("components_digest")))


def _expect_figures(row: Mapping[str, Any]) -> None:
    """Figures are numbers, or null where they are not defined."""
    for name in row.keys() - NOT_SUMMARISED:
        if row[name] is not None and not isinstance(row[name], int | float):
            raise ValueError(f"{row[name]!r:.40} for {name} of case {row['case']}")


def _no_number(text: str) -> float:
    raise ValueError(f"{text} for a number")


def _table(path: Path, digest: str | None) -> pd.DataFrame:
    """The table of components beside scores.json; empty where there is none."""
    file = path.with_name(COMPONENTS)
    if not file.is_file():
        return component_table(())
    try:
        table = pd.read_parquet(file)
        if list(table.columns) != list(COLUMNS):
            raise ValueError(f"columns {', '.join(map(str, table.columns))}")
    except (OSError, ValueError) as error:
        raise DataError(
            file,
            "no table of components",
            expected="what segpipe evaluate or segpipe score --components wrote",
            received=str(error),
            fix="Remove the file to compare without it, or score again.",
        ) from error
    if digest is not None and table_digest(table) != digest:
        raise DataError(
            file,
            "the table of components belongs to other scores",
            expected=f"that of {path.name}",
            received="another",
            fix="Keep the scores and the table of one call in a folder of their own, or take the "
            "table away to compare without it.",
        )
    return table


def _find(name: str, store: Path) -> list[Path]:
    path = Path(name)
    if path.is_file():
        return [path]
    folders = [path] if path.is_dir() else sorted(Path(store).glob(f"*/**/{escape(name)}*/"))
    runs = {folder: found for folder in folders if (found := _scores_in(folder))}
    if not runs:  # the run of a fold has no folder of its own but that of its artifacts
        tracked = {folder: folder / _TRACKED for folder in folders}
        runs = {folder: [scores] for folder, scores in tracked.items() if scores.is_file()}
    if len(runs) == 1:
        return next(iter(runs.values()))
    if runs:
        raise DataError(
            name,
            "more than one run begins with this id",
            expected="the beginning of one id",
            received=", ".join(folder.name for folder in list(runs)[:5]),
            fix="Give more of the id, or the run's folder.",
        )
    raise DataError(
        name,
        "no scores",
        expected=f"a {SCORES_DOCUMENT}, a folder that holds one, or a run's id under {store}",
        received="none",
        fix="Run segpipe evaluate, or segpipe score --json; or name another --store.",
    )


def _scores_in(folder: Path) -> list[Path]:
    """Scores of the run in this folder: its own, pooled ones, or one for each fold."""
    for own in (folder / SCORES_DOCUMENT, folder / "pooled" / SCORES_DOCUMENT):
        if own.is_file():
            return [own]
    return sorted(folder.glob(f"fold-*/validation/{SCORES_DOCUMENT}")) or sorted(
        folder.glob(f"*/{SCORES_DOCUMENT}")
    )
