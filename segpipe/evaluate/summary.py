"""The cohort in figures: means, medians and intervals over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from segpipe.evaluate.bootstrap import mean_interval, ratio_interval
from segpipe.evaluate.rows import DETAIL_FIGURES, ROW_FIGURES
from segpipe.metrics.detection import add_by_size

SCHEMA = 1
SCORES_DOCUMENT = "scores.json"
NOT_SUMMARISED = frozenset({"case", "label", "status", "flags", "error", "by_size", "regions"})
REGION_FIGURES = (
    "false_positive_regions",
    "false_positive_volume_ml",
    "missed_lesions",
    "missed_volume_ml",
)


def failed_row(case: str, label: str, error: str) -> dict[str, Any]:
    """The row of a case that could not be scored."""
    return {"case": case, "label": label, "status": "failed", "error": error}


def score_document(
    settings: BaseModel,
    rows: Sequence[Mapping[str, Any]],
    details: Sequence[Mapping[str, Any]] = (),
    patients: Mapping[str, str] | None = None,
    groups: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, Any]:
    """The document that ``segpipe score --json`` writes.

    Parameters
    ----------
    settings : ScoreSettings
    rows : sequence of dict
        Scored and failed rows.
    details : sequence of dict
        Further figures per case and label; written beside the rows.
    patients : mapping of str to str, optional
        Case id to patient; without it every case is a patient.
    groups : mapping of str to mapping of str to str, optional
        Column, such as site, to case id to value: figures are also given for each value.

    Returns
    -------
    dict
        Without nan: ready for JSON.
    """
    plain = settings.model_dump(mode="json")
    draws = {"bootstrap": plain["bootstrap"], "seed": plain["seed"]}
    return {
        "schema": SCHEMA,
        "settings": plain,
        "rows": [dict(row) for row in rows],
        "summary": summarise(rows, **draws, details=details, patients=patients, groups=groups),
        "details": [dict(detail) for detail in details],
    }


def summarise(
    rows: Sequence[Mapping[str, Any]],
    bootstrap: int = 1000,
    seed: int = 0,
    *,
    details: Sequence[Mapping[str, Any]] = (),
    patients: Mapping[str, str] | None = None,
    groups: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Summarise rows by label.

    Parameters
    ----------
    rows, details, patients, groups
        As in :func:`score_document`.
    bootstrap, seed : int
        Draws of the bootstrap over patients, and its seed.

    Returns
    -------
    dict
        Per label: ``cases`` (scored), ``failed``; per figure ``mean``, ``median``, ``iqr``,
        ``ci95`` (of the mean), ``defined`` (rows with a value), each None where nothing is
        defined; ``lesion_free``: the cases without a counted lesion, apart; ``pooled_sensitivity``
        (detected over all lesions); with details also ``by_size`` (pooled) and ``regions``; with
        groups also ``groups``: column to value to the same figures, ``cases`` and ``failed``. A
        failed row is counted and never averaged.
    """
    summary = {}
    for label in dict.fromkeys(row["label"] for row in rows):
        mine = [row for row in rows if row["label"] == label]
        scored = [row for row in mine if row["status"] == "scored"]
        extra = [detail for detail in details if detail["label"] == label]
        block: dict[str, Any] = {"cases": len(scored), "failed": len(mine) - len(scored)}
        block |= _figures(scored, ROW_FIGURES, patients, bootstrap, seed)
        block |= _figures(extra, DETAIL_FIGURES, patients, bootstrap, seed)
        found = [(r["case"], r["detected_lesions"], r["reference_lesions"]) for r in scored]
        block["pooled_sensitivity"] = pooled_ratio(found, patients, bootstrap, seed)
        free = [row for row in scored if row["reference_lesions"] == 0]
        wrong = ["false_positive_regions", "false_positive_volume_ml"]
        block["lesion_free"] = {
            "cases": len(free),
            **{name: _spread(free, name, patients, bootstrap, seed) for name in wrong},
        }
        if extra:
            block["by_size"] = _by_size(extra, patients, bootstrap, seed)
            block["regions"] = _regions(extra, patients, bootstrap, seed)
        if groups:
            block["groups"] = {
                column: _groups(mine, values, patients, bootstrap, seed)
                for column, values in groups.items()
            }
        summary[label] = block
    return summary


def _figures(rows, names, patients, bootstrap, seed) -> dict[str, dict]:
    return {name: _spread(rows, name, patients, bootstrap, seed) for name in names}


def _spread(rows, name, patients, bootstrap, seed) -> dict[str, Any]:
    chosen = [row for row in rows if row.get(name) is not None]
    if not chosen:
        return {"mean": None, "median": None, "iqr": None, "ci95": None, "defined": 0}
    values = np.array([row[name] for row in chosen], float)
    owners = [(patients or {}).get(row["case"], row["case"]) for row in chosen]
    interval = mean_interval(values, owners, bootstrap, seed)
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "iqr": [float(q) for q in np.percentile(values, [25, 75])],
        "ci95": list(interval) if interval else None,
        "defined": len(chosen),
    }


def pooled_ratio(
    counts: Sequence[tuple[str, float, float]],
    patients: Mapping[str, str] | None,
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """A ratio of sums over cases, such as detected over all lesions.

    Parameters
    ----------
    counts : sequence of (case, part, whole)
        A case may come several times, as with several labels.
    patients, bootstrap, seed
        As in :func:`summarise`.

    Returns
    -------
    dict
        ``value``, None where the whole is 0, and ``ci95`` over patients, None where it is
        undefined.
    """
    whole = sum(row[2] for row in counts)
    if not whole:
        return {"value": None, "ci95": None}
    owners = [(patients or {}).get(row[0], row[0]) for row in counts]
    parts, wholes = [row[1] for row in counts], [row[2] for row in counts]
    interval = ratio_interval(parts, wholes, owners, bootstrap, seed)
    return {"value": sum(parts) / whole, "ci95": list(interval) if interval else None}


def _by_size(details, patients, bootstrap, seed) -> list[dict[str, Any]]:
    """Pooled bins; sensitivity and false-positive regions per scan with their intervals."""
    bins = add_by_size([detail["by_size"] for detail in details])
    for index, total in enumerate(bins):
        mine = [(detail["case"], detail["by_size"][index]) for detail in details]
        found = [(case, one["detected"], one["lesions"]) for case, one in mine]
        wrong = [(case, one["false_positive_regions"], 1) for case, one in mine]
        total["sensitivity_ci95"] = pooled_ratio(found, patients, bootstrap, seed)["ci95"]
        rate = pooled_ratio(wrong, patients, bootstrap, seed)
        total["false_positive_regions_per_scan"] = rate["value"]
        total["false_positive_regions_per_scan_ci95"] = rate["ci95"]
    return bins


def _groups(rows, values: Mapping[str, str], patients, bootstrap, seed) -> dict[str, dict]:
    groups = {}
    for value in sorted({values[row["case"]] for row in rows if row["case"] in values}):
        mine = [row for row in rows if values.get(row["case"]) == value]
        scored = [row for row in mine if row["status"] == "scored"]
        groups[value] = {
            "cases": len(scored),
            "failed": len(mine) - len(scored),
            **_figures(scored, ROW_FIGURES, patients, bootstrap, seed),
        }
    return groups


def _regions(details, patients, bootstrap, seed) -> dict[str, dict]:
    with_maps = [detail for detail in details if detail["regions"] is not None]
    summary = {}
    for name in dict.fromkeys(name for detail in with_maps for name in detail["regions"]):
        rows = [
            {"case": detail["case"], **detail["regions"][name]}
            for detail in with_maps
            if name in detail["regions"]
        ]
        figures = {f: _spread(rows, f, patients, bootstrap, seed) for f in REGION_FIGURES}
        summary[name] = {"cases": len(rows), **figures}
    return summary
