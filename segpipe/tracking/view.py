"""What MLflow shows first: the columns of the run table, and what an experiment is about.

MLflow keeps the columns of its run table in the browser, and shows none of a run's figures until
somebody chooses them. A shared view, kept as a tag of the experiment and named in the address, is
the one way to choose them beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

from segpipe.tracking.quiet import quiet

with quiet():
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

VIEW = "segpipe"
_VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
_NOTE_TAG = "mlflow.note.content"

_METRICS = (
    "scores/lesion_f1",
    "scores/false_positive_regions",
    "scores/lesion_sensitivity",
    "scores/dice",
)
_TAGS = {"anatomy": 190, "config": 110, "code": 130}
"""Tags, and the width of their columns in pixels."""

_LETTER, _BESIDE = 7, 32
"""Pixels of a letter of a column's title, and of the space beside it."""

_NOTE = """\
Runs of the configuration **{name}**. *Research use only; not a medical device.*

| run | what it is | open |
|---|---|---|
| training | all folds of one `segpipe train`, with the means over them | the nested runs |
| fold K, seed S | one network: curves, sample pictures, bundle | `cohort.html` under Artifacts |
| evaluation | one `segpipe evaluate` | `cohort.html` under Artifacts |

Columns that begin with `scores/` are means over the cases that a run was scored on, each on its
own grid; `val_…` guides training. `data`, `code`, `config` and `anatomy` say what made them.
[The table with these columns]({view})
"""


def view_state(created: int) -> str:
    """The view of the run table, as MLflow keeps it: JSON.

    Parameters
    ----------
    created : int
        When, in milliseconds since 1970. MLflow's menu of views shows it beside the name.
    """
    widths = {f"metrics.`{name}`": _LETTER * len(name) + _BESIDE for name in _METRICS}
    widths |= {"attributes.`Dataset`": 210}
    widths |= {f"tags.`{name}`": width for name, width in _TAGS.items()}
    # MLflow heeds a width only where an order names the column.
    state = {
        "selectedColumns": list(widths),
        "columnOrder": list(widths),
        "columnWidths": widths,
    }
    named = {"name": "Scores", "createdAt": created, "updatedAt": created}
    # MLflow before 3.17 reads the state itself, later ones the text in ``state``.
    return json.dumps({**named, "state": json.dumps(state), **state})


def first_page(experiment_id: str | None) -> str:
    """Where the UI opens: the run table of an experiment, or the list of experiments."""
    if experiment_id is None:
        return "/#/experiments?workflowType=machine_learning"  # else MLflow opens for chat bots
    return (
        f"/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
        f"&viewStateShareKey={VIEW}&compareRunsMode=TABLE"
    )


def describe_experiment(client: MlflowClient, experiment: Experiment) -> None:
    """Give an experiment its view, and a description unless somebody wrote one."""
    wanted = {_VIEW_TAG: view_state(experiment.creation_time or 0)}
    if _NOTE_TAG not in experiment.tags:
        wanted[_NOTE_TAG] = experiment_note(experiment.name, experiment.experiment_id)
    for key, value in wanted.items():
        if experiment.tags.get(key) != value:
            client.set_experiment_tag(experiment.experiment_id, key, value)


def experiment_note(name: str, experiment_id: str) -> str:
    """What the runs of an experiment are; Markdown."""
    return _NOTE.format(name=name, view=first_page(experiment_id)[1:])


class _Place(Protocol):
    run_id: str
    experiment_id: str


def run_note(text: str, facts: Mapping[str, str], links: Mapping[str, str], run: _Place) -> str:
    """A run's description: what it is, what made it, and where its results are; Markdown.

    Parameters
    ----------
    text : str
    facts : mapping of str to str
        Such as data and code; one line each.
    links : mapping of str to str
        Title to artifact.
    run : Run
    """
    root = f"#/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts"
    opens = ", ".join(
        f"[{title}]({root}/{path}?workflowType=machine_learning)" for title, path in links.items()
    )
    rows = [f"| {name} | {_cell(value)} |" for name, value in facts.items()]
    return "\n".join(
        [
            text,
            "",
            "| made by | |",
            "|---|---|",
            *rows,
            "",
            f"Open, once the run is finished: {opens}.",
        ]
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
