"""Masks and reports of new scans: commands of those who use a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.shared import leave, observer


def predict(
    bundle: Annotated[
        list[str],
        typer.Option("--bundle", help="Bundle folder or models:/NAME@alias; several: ensemble."),
    ],
    scans: Annotated[list[Path], typer.Argument(metavar="SCANS...", help="Files or folders.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for all that is written.")
    ],
    engine: Annotated[str, typer.Option(help="auto, keras or openvino.")] = "auto",
    probabilities: Annotated[bool, typer.Option(help="Write probability maps too.")] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Instead of the bundle's operating point.")
    ] = None,
    min_size_mm3: Annotated[
        float | None, typer.Option(help="Instead of the bundle's operating point.")
    ] = None,
    core_threshold: Annotated[
        float | None,
        typer.Option(help="Hysteresis: remove regions without a probability above it."),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the region files lie that the bundle's configuration names.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Redo cases whose outputs exist.")] = False,
    store: Annotated[
        Path, typer.Option(help="Output folder with the MLflow store, for models:/…")
    ] = Path("runs"),
) -> None:
    """Masks on each scan's own grid, with a component label map and predict.json."""
    from segpipe.pipeline.predict import PredictRequest, run_predict

    request = PredictRequest(
        bundles=tuple(bundle),
        scans=tuple(scans),
        output=output,
        engine=engine,
        probabilities=probabilities,
        threshold=threshold,
        min_size_mm3=min_size_mm3,
        core_threshold=core_threshold,
        regions=regions,
        overwrite=overwrite,
        store=store,
    )
    leave(run_predict(request, observer()))


def report(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS_DIR", help="What segpipe predict -o wrote.")
    ],
    cases: Annotated[
        list[str] | None, typer.Argument(metavar="[CASE]...", help="Only these; none: all.")
    ] = None,
    prior: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Predictions of an earlier scan.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Instead of PREDICTIONS_DIR/reports."),
    ] = None,
    viewer: Annotated[
        bool, typer.Option(help="Inline the scan for the interactive viewer, some MB per report.")
    ] = True,
) -> None:
    """Patient reports, HTML and PDF."""
    from segpipe.pipeline.report import run_report

    leave(run_report(predictions, cases or [], prior, output, observer(), with_viewer=viewer))
