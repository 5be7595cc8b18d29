"""How good a model or anybody's masks are: commands of those who evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.shared import (
    BundleOption,
    ConfigFile,
    FoldOption,
    Overrides,
    fold_number,
    leave,
    observer,
    output_console,
)
from segpipe.config import DataConfig, load
from segpipe.errors import ConfigError


def evaluate(
    config: ConfigFile,
    overrides: Overrides = None,
    bundle: BundleOption = None,
    fold: FoldOption = None,
    split: Annotated[
        str, typer.Option(help="validation: the fold's own cases; test: the test cases.")
    ] = "validation",
    baseline: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Compare with these scores: file, folder, or run id."),
    ] = None,
) -> None:
    """Predict, score, pick the operating point, paint TP/FP/FN, write the cohort report."""
    from segpipe.pipeline.evaluate import run_evaluate

    settings = load(config, overrides or ())
    if split not in ("validation", "test"):
        raise ConfigError(f"--split: expected validation or test; received {split!r}.")
    failed = run_evaluate(
        settings,
        bundle or [],
        fold_number(fold),
        split,
        output_console(),
        observer(),
        baseline=baseline,
    )
    leave(failed)


def score(
    references: Annotated[Path, typer.Argument(metavar="REFERENCES", help="Folder or file.")],
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="Folder or file.")],
    regions: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Masks REGION/CASE.nii.gz or CASE_REGION.nii.gz."),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write all figures here.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", dir_okay=False, help="Write the rows here.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Only this label: name or id.")] = None,
    rule: Annotated[
        str,
        typer.Option(help="any, iou:X, overlap:X, panoptic, autopet, brats23, brats23-met, msseg."),
    ] = "any",
    connectivity: Annotated[
        int | None, typer.Option(help="6, 18 or 26; otherwise as the rule says.")
    ] = None,
    min_size_mm3: Annotated[float, typer.Option(help="Count nothing smaller.")] = 0.0,
    threshold: Annotated[float, typer.Option(help="Of probability maps.")] = 0.5,
    core_threshold: Annotated[
        float | None,
        typer.Option(help="Of probability maps: remove regions without a probability above it."),
    ] = None,
    removal_size_mm3: Annotated[
        float, typer.Option(help="Remove predicted regions below this before anything is counted.")
    ] = 0.0,
    largest_only: Annotated[
        bool, typer.Option(help="Remove all predicted regions of a label but the largest.")
    ] = False,
    tolerance_mm: Annotated[float, typer.Option(help="Of the surface Dice.")] = 1.0,
    ignore_label: Annotated[
        int | None,
        typer.Option(help="Reference value that counts for nobody; otherwise as declared."),
    ] = None,
    reference_instances: Annotated[
        bool, typer.Option(help="References number their lesions.")
    ] = False,
    case_pattern: Annotated[
        str | None, typer.Option(help="Regular expression: file name to case id (group 1).")
    ] = None,
    max_voxels: Annotated[
        int, typer.Option(help="Files that claim more are refused.")
    ] = DataConfig.model_fields["max_voxels"].default,
    strict: Annotated[bool, typer.Option(help="NaN probabilities fail the case.")] = False,
    manifest: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Columns case, patient, and others.")
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Group the scores by this column; repeatable.")
    ] = None,
    components: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the table of components: .csv or .parquet."),
    ] = None,
) -> None:
    """Lesion-wise and voxel-wise scores of any masks, whoever made them."""
    from segpipe.pipeline.apart import expect_apart
    from segpipe.pipeline.people import read_people
    from segpipe.pipeline.score import make_settings, run_score
    from segpipe.pipeline.score_output import publish

    if by and manifest is None:
        raise ConfigError(f"--by {by[0]}: expected --manifest CSV with this column; received none.")
    if max_voxels < 1:
        raise ConfigError(f"--max-voxels: expected at least 1; received {max_voxels}.")
    settings = make_settings(
        {
            "rule": rule,
            "connectivity": connectivity,
            "min_size_mm3": min_size_mm3,
            "threshold": threshold,
            "core_threshold": core_threshold,
            "removal_size_mm3": removal_size_mm3,
            "largest_only": largest_only,
            "tolerance_mm": tolerance_mm,
            "ignore_label": ignore_label,
            "reference_instances": reference_instances,
            "strict": strict,
        }
    )
    read = [path for path in (references, predictions, manifest) if path is not None]
    expect_apart({"--json": json, "--csv": csv, "--components": components}, read)
    document = run_score(
        references,
        predictions,
        settings,
        regions=regions,
        label=label,
        case_pattern=case_pattern,
        people=None if manifest is None else read_people(manifest, by or []),
        json=json,
        components=components,
        max_voxels=max_voxels,
        observer=observer(),
    )
    leave(publish(document, output_console(), csv=csv))


def compare(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="Scores file or folder, or run.")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="Likewise.")],
    json: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Write the figures here.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", dir_okay=False, help="Write a page here.")
    ] = None,
    store: Annotated[Path, typer.Option(help="Output folder with the runs.")] = Path("runs"),
) -> None:
    """Paired differences (B minus A) with bootstrap intervals."""
    from segpipe.pipeline.compare import run_compare

    run_compare(run_a, run_b, store, output_console(), json=json, html=html)
