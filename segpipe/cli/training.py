"""From data to a trained model: commands of those who train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segpipe.cli.shared import (
    ConfigFile,
    DataOverrides,
    FoldOption,
    Overrides,
    fold_number,
    leave,
    observer,
    output_console,
)
from segpipe.config import data_config, load


def check(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder or CSV manifest.")],
    overrides: DataOverrides = None,
    json: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write the findings here.")
    ] = None,
) -> None:
    """Verify every case: readable, geometry, labels, finite, duplicates."""
    from segpipe.pipeline.apart import expect_apart
    from segpipe.pipeline.check import run_check

    expect_apart({"--json": json}, [dataset, dataset / "dataset.json"])
    leave(run_check(data_config(dataset, overrides or ()), json, output_console(), observer()))


def plan(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder or CSV manifest.")],
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="CONFIG", dir_okay=False, help="Write it here."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time for fitting, such as 30min or 2h: train.budget.")
    ] = None,
) -> None:
    """Write a complete configuration from the data, each choice with its reason."""
    from segpipe.pipeline.plan import run_plan

    asked = [*(overrides or ()), *([] if budget is None else [f'train.budget="{budget}"'])]
    text = run_plan(dataset, asked, output, observer())
    if output is None:
        print(text, end="")


def prepare(config: ConfigFile, overrides: Overrides = None) -> None:
    """Fingerprint, region masks and cache of every case, and a page to look at them."""
    from segpipe.pipeline.prepare import run_prepare

    leave(run_prepare(load(config, overrides or ()), observer()))


def train(
    config: ConfigFile,
    overrides: Overrides = None,
    fold: FoldOption = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="RUN", help="Run folder, run id, or last."),
    ] = None,
) -> None:
    """Train, track, validate lesion-wise, write and register the bundle (fold 0 by default)."""
    from segpipe.pipeline.train import run_train

    settings = load(config, overrides or ())
    chosen: int | Literal["all"] | None = None
    if fold is not None:
        number = fold_number(fold)
        chosen = "all" if number is None else number
    leave(run_train(settings, chosen, resume, observer()))
