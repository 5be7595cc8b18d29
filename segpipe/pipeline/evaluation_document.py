"""What an evaluation writes: scores.json and the tables beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from segpipe.config import Config, OperatingPoint
from segpipe.data.layouts import Case
from segpipe.evaluate.froc import froc_by_label
from segpipe.evaluate.operating_point import Choice
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.summary import SCORES_DOCUMENT, score_document
from segpipe.evaluate.table import table_digest
from segpipe.files import write_text
from segpipe.pipeline.score_output import score_csv, write_table


def score_settings(config: Config, point: OperatingPoint) -> ScoreSettings:
    """How a configuration scores at an operating point."""
    return ScoreSettings.from_config(config.evaluate, point, ignore_label=config.data.ignore_label)


def make_document(
    rows: Sequence[dict[str, Any]],
    details: Sequence[dict[str, Any]],
    cases: Sequence[Case],
    config: Config,
    choice: Choice,
    table: pd.DataFrame,
) -> dict[str, Any]:
    """What scores.json holds: the promised document, curves, operating point and patients."""
    patients = {case.id: case.patient for case in cases}
    settings = score_settings(config, choice.operating_point)
    groups = {
        column: {c.id: c.attributes[column] for c in cases if column in c.attributes}
        for column in config.evaluate.by
    }
    scored = dict.fromkeys(detail["case"] for detail in details)
    curves = froc_by_label(table, {case: patients[case] for case in scored}, settings)
    document = score_document(settings, rows, details, patients, groups)
    return {
        **document,
        "froc": curves,
        "operating_point": describe_choice(choice),
        "patients": patients,
        "components_digest": table_digest(table),
    }


def describe_choice(choice: Choice) -> dict[str, Any]:
    """The operating point with why, what was tried and what is certified, for JSON."""
    return {
        **choice.operating_point.model_dump(),
        "reason": choice.reason,
        "figures": choice.figures,
        "steps": list(choice.steps),
        "gain": choice.gain,
        "certificate": choice.certificate_document,
    }


def write_scores(folder: Path, document: dict[str, Any], table: pd.DataFrame) -> None:
    """Write scores.json, scores.csv, components.csv and components.parquet."""
    write_text(folder / SCORES_DOCUMENT, json.dumps(document, indent=1, ensure_ascii=False))
    write_text(folder / "scores.csv", score_csv(document))
    for name in ("components.csv", "components.parquet"):
        write_table(folder / name, table)
