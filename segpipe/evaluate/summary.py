"""The cohort in figures: means, medians and intervals over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel

from segpipe.evaluate.bootstrap import mean_interval
from segpipe.metrics.detection import add_by_size

SCHEMA = 1
NOT_SUMMARISED = frozenset({"case", "label", "status", "flags", "error", "by_size", "regions"})
REGION_FIGURES = ("false_positive_regions", "false_positive_volume_ml", "missed_lesions")


def failed_row(case: str, label: str, error: str) -> dict[str, Any]:
    """The row of a case that could not be scored."""
    return {"case": case, "label": label, "status": "failed", "error": error}


def score_document(
    settings: BaseModel,
    rows: Sequence[Mapping[str, Any]],
    details: Sequence[Mapping[str, Any]] = (),
    patients: Mapping[str, str] | None = None,
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

    Returns
    -------
    dict
        Without nan: ready for JSON.
    """
    plain = settings.model_dump(mode="json")
    return {
        "schema": SCHEMA,
        "settings": plain,
        "rows": [dict(row) for row in rows],
        "summary": summarise(
            rows, plain["bootstrap"], plain["seed"], details=details, patients=patients
        ),
        "details": [dict(detail) for detail in details],
    }


def summarise(
    rows: Sequence[Mapping[str, Any]],
    bootstrap: int = 1000,
    seed: int = 0,
    *,
    details: Sequence[Mapping[str, Any]] = (),
    patients: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Summarise rows by label.

    Parameters
    ----------
    rows, details, patients
        As in :func:`score_document`.
    bootstrap, seed : int
        Draws of the bootstrap over patients, and its seed.

    Returns
    -------
    dict
        Per label: ``cases`` (scored), ``failed``; per figure ``mean``, ``median``, ``iqr``,
        ``ci95`` (of the mean), ``defined`` (rows with a value), each None where nothing is
        defined; ``lesion_free``: the cases without a counted lesion, apart; with details also
        ``by_size`` (pooled) and ``regions``. A failed row is counted and never averaged.
    """
    summary = {}
    for label in dict.fromkeys(row["label"] for row in rows):
        mine = [row for row in rows if row["label"] == label]
        scored = [row for row in mine if row["status"] == "scored"]
        extra = [detail for detail in details if detail["label"] == label]
        block: dict[str, Any] = {"cases": len(scored), "failed": len(mine) - len(scored)}
        block |= _figures(scored, patients, bootstrap, seed)
        block |= _figures(extra, patients, bootstrap, seed)
        free = [row for row in scored if row["reference_lesions"] == 0]
        wrong = ["false_positive_regions", "false_positive_volume_ml"]
        block["lesion_free"] = {
            "cases": len(free),
            **{name: _spread(free, name, patients, bootstrap, seed) for name in wrong},
        }
        if extra:
            block["by_size"] = add_by_size([detail["by_size"] for detail in extra])
            block["regions"] = _regions(extra, patients, bootstrap, seed)
        summary[label] = block
    return summary


def _figures(rows, patients, bootstrap, seed) -> dict[str, dict]:
    names = [name for name in (rows[0] if rows else ()) if name not in NOT_SUMMARISED]
    return {name: _spread(rows, name, patients, bootstrap, seed) for name in names}


def _spread(rows, name, patients, bootstrap, seed) -> dict[str, Any]:
    chosen = [row for row in rows if row[name] is not None]
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
