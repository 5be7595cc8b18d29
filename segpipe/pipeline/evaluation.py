"""What an evaluation is, and how several become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segpipe.config import Config
from segpipe.data.layouts import Case, Dataset
from segpipe.errors import ConfigError, SegpipeError
from segpipe.evaluate.chance import false_positive_chance
from segpipe.evaluate.operating_point import (
    Choice,
    operating_curve,
    validation_tallies,
)
from segpipe.evaluate.summary import pooled_ratio
from segpipe.pipeline.evaluation_document import describe_choice, make_document, write_scores
from segpipe.report.failures import failure_analysis, robustness

FIGURES = (
    "dice",
    "lesion_sensitivity",
    "lesion_precision",
    "lesion_f1",
    "false_positive_regions",
    "false_positive_volume_ml",
    "hd95_mm",
    "surface_dice",
)
"""Scores whose means are tracked."""

CHOSEN = "The operating point was chosen on these cases, so their figures are optimistic."
SELECTED = (
    "The weights were chosen on these cases (train.keep, train.patience), so their figures are "
    "optimistic."
)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a set of cases.

    Parameters
    ----------
    folder : Path
        predict.json, masks, ``components/``, ``maps/``, scores.json, scores.csv,
        components.parquet and components.csv.
    document : dict
        What scores.json holds.
    table : DataFrame
        Of components.
    choice : Choice
        The operating point and why.
    failed : dict of str to SegpipeError
    selected : bool
        Whether the cases chose the weights that they were predicted with.
    """

    folder: Path
    document: dict[str, Any]
    table: pd.DataFrame
    choice: Choice
    failed: dict[str, SegpipeError]
    selected: bool = False

    @property
    def optimistic(self) -> list[str]:
        """Why the figures are too good, in sentences; none where the cases had no say."""
        chosen = self.choice.chosen and "folds" not in self.document
        return [CHOSEN] * chosen + [SELECTED] * self.selected

    def curve(self, config: Config) -> pd.DataFrame | None:
        """What other operating points would have given; None where no case was scored."""
        if not self.scored:
            return None
        point = self.choice.operating_point
        return operating_curve(validation_tallies(self.table, config.evaluate, self.scored, point))

    @property
    def scored(self) -> list[str]:
        """Cases that did not fail."""
        rows = self.document["rows"]
        return list(dict.fromkeys(row["case"] for row in rows if row["status"] == "scored"))

    def validation_facts(self, config: Config) -> dict[str, Any]:
        """What a bundle keeps of its validation; no case is named.

        ``patients`` are those with a scored case; ``counting`` is how was counted, ``scoring`` what
        else decides the figures; ``sensitivity`` is detected over all lesions of all labels, with
        its interval over patients; ``pooled`` says that the figures are those of several models,
        each on what it held out, at points of its own; ``optimistic`` why they are too good.
        """
        summary = self.document["summary"]
        point = self.choice.operating_point
        scored = [row for row in self.document["rows"] if row["status"] == "scored"]
        settings, patients = self.document["settings"], self.document["patients"]
        draws = {"bootstrap": settings["bootstrap"], "seed": settings["seed"]}
        return {
            "cases": max((part["cases"] for part in summary.values()), default=0),
            "patients": len({patients[row["case"]] for row in scored}),
            "counting": config.evaluate.counting,
            "scoring": {
                **{name: settings[name] for name in ("tolerance_mm", "bootstrap")},
                "by": list(config.evaluate.by),
            },
            "pooled": "folds" in self.document,
            "optimistic": self.optimistic,
            "sensitivity": self._sensitivity(scored, draws),
            "summary": {
                label: {k: v for k, v in part.items() if isinstance(v, dict) and "mean" in v}
                for label, part in summary.items()
            },
            "by_size": [
                {"label": label, **row}
                for label, part in summary.items()
                for row in part.get("by_size") or ()
            ],
            "by_region": [
                {"label": label, "region": region, **figures}
                for label, part in summary.items()
                for region, figures in (part.get("regions") or {}).items()
            ],
            "failure_analysis": self._failures(),
            "robustness": robustness(
                self.curve(config),
                (point.threshold, point.min_size_mm3),
                _groups(summary),
            ),
            "false_positive_chance": [
                {"label": label, **row}
                for label in summary
                for row in false_positive_chance(
                    self.table[self.table["label"] == label],
                    point,
                    config.evaluate,
                    patients,
                    **draws,
                )
            ],
            "operating_point": self.choice.reason,
            "steps": list(self.choice.steps),
            "gain": self.choice.gain,
            "certificate": self.choice.certificate_document,
        }

    def _sensitivity(
        self, scored: Sequence[Mapping[str, Any]], draws: Mapping[str, int]
    ) -> dict[str, Any]:
        found = [(row["case"], row["detected_lesions"], row["reference_lesions"]) for row in scored]
        return {
            "detected": sum(detected for _, detected, _ in found),
            "lesions": sum(lesions for *_, lesions in found),
            **pooled_ratio(found, self.document["patients"], **draws),
        }

    def _failures(self) -> list[str]:
        rows, details = self.document["rows"], self.document["details"]
        labels = list(self.document["summary"])
        return [
            f"{label}: {line}" if len(labels) > 1 else line
            for label in labels
            for line in failure_analysis(rows, details, label)
        ]

    def figures(self) -> dict[str, float]:
        """Mean figures of every label for tracking, and the means over labels."""
        summary = self.document["summary"]
        found: dict[str, float] = {}
        for name in FIGURES:
            values = [part[name]["mean"] for part in summary.values() if part.get(name)]
            defined = [value for value in values if value is not None]
            found[name] = float(np.mean(defined)) if defined else float("nan")
            if len(summary) > 1:
                for label, part in summary.items():
                    value = part[name]["mean"] if part.get(name) else None
                    found[f"{label}.{name}"] = float("nan") if value is None else value
        return found


def _groups(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Groups of every label; with several labels, their columns name them."""
    return {
        column if len(summary) == 1 else f"{column}, {label}": values
        for label, part in summary.items()
        for column, values in (part.get("groups") or {}).items()
    }


def pool(
    parts: Sequence[Evaluation],
    cases: Sequence[Case],
    config: Config,
    choice: Choice,
    folder: Path,
) -> Evaluation:
    """Out-of-fold scores of several folds as one: every case once, intervals over patients.

    Parameters
    ----------
    parts : sequence of Evaluation
        One per fold, each scored at its own operating point.
    cases : sequence of Case
        Of all folds.
    config : Config
    choice : Choice
        The operating point that all folds together speak for; ``folds`` of the document has those
        that the parts were scored at.
    folder : Path

    Returns
    -------
    Evaluation
    """
    rows = [row for part in parts for row in part.document["rows"]]
    details = [detail for part in parts for detail in part.document["details"]]
    table = pd.concat([part.table for part in parts], ignore_index=True)
    document = make_document(rows, details, cases, config, choice, table)
    document["folds"] = [
        {
            **describe_choice(part.choice),
            "cases": list(dict.fromkeys(r["case"] for r in part.document["rows"])),
        }
        for part in parts
    ]
    failed = {case: error for part in parts for case, error in part.failed.items()}
    write_scores(folder, document, table)
    selected = any(part.selected for part in parts)
    return Evaluation(folder, document, table, choice, failed, selected)


def expect_columns(dataset: Dataset, config: Config) -> None:
    """Refuse to group by a column that no case has, before anything is computed.

    Raises
    ------
    ConfigError
        Names the columns that there are.
    """
    cases = (*dataset.cases, *dataset.test_cases)
    known = dict.fromkeys(column for case in cases for column in case.attributes)
    missing = [column for column in config.evaluate.by if column not in known]
    if missing:
        raise ConfigError(
            f"evaluate.by: expected columns of the dataset ({', '.join(known) or 'it has none'}); "
            f"received {', '.join(missing)}. Correct them, or leave them out."
        )
