"""Masks and reports of new scans: commands of those who use a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.shared import leave, observer
from segpipe.errors import ConfigError


def predict(
    scans: Annotated[
        list[str],
        typer.Argument(
            metavar="SCANS...",
            help="Files or folders. An argument models:/NAME@alias is a bundle, as by --bundle.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for all that is written.")
    ],
    bundle: Annotated[
        list[str] | None,
        typer.Option("--bundle", help="Bundle folder or models:/NAME@alias; several: ensemble."),
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, keras or openvino.")] = "auto",
    probabilities: Annotated[bool, typer.Option(help="Write probability maps too.")] = False,
    uncertainty: Annotated[
        bool, typer.Option(help="Write maps of what networks or mirrored copies disagree about.")
    ] = False,
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
    largest_only: Annotated[
        bool | None,
        typer.Option(
            "--largest-only/--no-largest-only",
            help="Keep the largest region of each label, or all; otherwise as the bundle says.",
        ),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the region files lie that the bundle's configuration names.",
        ),
    ] = None,
    mirror: Annotated[
        bool | None,
        typer.Option(
            "--mirror/--no-mirror",
            help="Average over mirrored copies, or not; otherwise as the bundle was validated.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Redo cases whose outputs exist.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Instead of the bundle's: data.repair_nan, data.max_voxels, "
            "data.grid_tolerance_mm, predict.batch, predict.strict.",
        ),
    ] = None,
    store: Annotated[
        Path, typer.Option(help="Output folder with the MLflow store, for models:/…")
    ] = Path("runs"),
) -> None:
    """Masks on each scan's own grid, with a component label map and predict.json."""
    from segpipe.pipeline.predict import PredictRequest, run_predict

    models = [text for text in scans if text.startswith("models:/")]
    bundles = (*(bundle or ()), *models)
    if not bundles:
        raise ConfigError(
            "--bundle: expected a bundle folder or models:/NAME@alias; received none."
        )
    if len(models) == len(scans):
        raise ConfigError("SCANS: expected files or folders; received none.")
    request = PredictRequest(
        bundles=bundles,
        scans=tuple(Path(text) for text in scans if text not in models),
        output=output,
        engine=engine,
        probabilities=probabilities,
        uncertainty=uncertainty,
        threshold=threshold,
        min_size_mm3=min_size_mm3,
        core_threshold=core_threshold,
        largest_only=largest_only,
        regions=regions,
        mirror=mirror,
        overwrite=overwrite,
        settings=tuple(settings or ()),
        store=store,
    )
    leave(run_predict(request, observer()))


def ensemble(
    bundles: Annotated[
        list[str], typer.Argument(metavar="BUNDLE...", help="Folders or models:/NAME@alias.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="A new folder.")],
    store: Annotated[
        Path, typer.Option(help="Output folder with the MLflow store, for models:/…")
    ] = Path("runs"),
) -> None:
    """One bundle of several: folds, seeds, or other networks for the same task."""
    from segpipe.pipeline.ensemble import run_ensemble

    run_ensemble(bundles, output, store, observer())


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
