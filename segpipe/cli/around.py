"""What is around a run: configuration, sample data, the MLflow store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.shared import ConfigFile, Overrides, observer
from segpipe.config import describe, load


def show_config(config: ConfigFile, overrides: Overrides = None) -> None:
    """The resolved configuration with each field's meaning; valid YAML itself."""
    for depth, name, value, meaning in describe(load(config, overrides or ())):
        line = f"{'  ' * depth}{name}:" + (f" {value}" if value else "")
        print(f"{line:<44}  # {meaning}" if meaning else line)


def samples(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder for the dataset.")],
    cases: Annotated[int, typer.Option(help="How many.")] = 16,
    seed: Annotated[int, typer.Option(help="Other seeds make other patients.")] = 0,
) -> None:
    """Make synthetic brain FLAIR+T1 cases with lesions and distractors."""
    from segpipe.samples import make_samples

    make_samples(folder, cases=cases, seed=seed, observer=observer())


def ui(
    output: Annotated[Path, typer.Option(help="Output folder with the MLflow store.")] = Path(
        "runs"
    ),
    port: Annotated[int, typer.Option(help="Port.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
) -> None:
    """MLflow in the browser, on 127.0.0.1."""
    from segpipe.tracking import serve_ui

    serve_ui(output, port=port, host=host)
