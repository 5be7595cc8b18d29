"""Every command of ``segpipe``. Heavy modules load inside the commands that need them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

import segpipe
from segpipe.cli.console import ConsoleObserver
from segpipe.config import Config, data_config, describe, load
from segpipe.errors import ConfigError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Medical segmentation that counts, penalises and reports false-positive regions. "
    "Research use only; not a medical device. With --debug, errors show their traceback.",
)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML configuration.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override key.path=value.")
]
DataOverrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="How it is read, such as data.ignore_label=9."),
]
FoldOption = Annotated[str | None, typer.Option("--fold", help="Fold number, or all.")]
BundleOption = Annotated[
    list[str] | None, typer.Option("--bundle", help="Bundle folder, or models:/NAME@alias.")
]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"segpipe {segpipe.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


def _output() -> Console:
    """Standard output; into a file or pipe as wide as tables are, not as a terminal of 80."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _observer() -> ConsoleObserver:
    return ConsoleObserver(Console(stderr=True))


def _fold(text: str | None, config: Config) -> int | None:
    """The fold's number; None means all."""
    if text == "all":
        return None
    if text is None:
        return 0
    if not text.isdigit():
        raise ConfigError(f"--fold: expected a number or all; received {text!r}.")
    return int(text)


def _exit(failed: bool) -> None:
    if failed:
        raise typer.Exit(1)


@app.command()
def check(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder or CSV manifest.")],
    overrides: DataOverrides = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the findings here.")] = None,
) -> None:
    """Verify every case: readable, geometry, labels, finite, duplicates."""
    from segpipe.pipeline.check import run_check

    _exit(run_check(data_config(dataset, overrides or ()), json, _output(), _observer()))


@app.command()
def plan(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder or CSV manifest.")],
    overrides: DataOverrides = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="CONFIG", help="Write it here.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time for fitting, such as 30min or 2h: train.budget.")
    ] = None,
) -> None:
    """Write a complete configuration from the data, each choice with its reason."""
    from segpipe.pipeline.plan import run_plan

    text = run_plan(data_config(dataset, overrides or ()), output, _observer(), budget)
    if output is None:
        print(text, end="")


@app.command()
def prepare(config: ConfigFile, overrides: Overrides = None) -> None:
    """Fingerprint, region masks and cache of every case, and a page to look at them."""
    from segpipe.pipeline.prepare import run_prepare

    _exit(run_prepare(load(config, overrides or ()), _observer()))


@app.command()
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
        number = _fold(fold, settings)
        chosen = "all" if number is None else number
    _exit(run_train(settings, chosen, resume, _observer()))


@app.command()
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
        store=store,
    )
    _exit(run_predict(request, _observer()))


@app.command()
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

    run_ensemble(bundles, output, store, _observer())


@app.command()
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
        _fold(fold, settings),
        split,
        _output(),
        _observer(),
        baseline=baseline,
    )
    _exit(failed)


@app.command()
def score(
    references: Annotated[Path, typer.Argument(metavar="REFERENCES", help="Folder or file.")],
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="Folder or file.")],
    regions: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Masks REGION/CASE.nii.gz or CASE_REGION.nii.gz."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the rows here.")] = None,
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
    tolerance_mm: Annotated[float, typer.Option(help="Of the surface Dice.")] = 1.0,
    reference_instances: Annotated[
        bool, typer.Option(help="References number their lesions.")
    ] = False,
    case_pattern: Annotated[
        str | None, typer.Option(help="Regular expression: file name to case id (group 1).")
    ] = None,
    strict: Annotated[bool, typer.Option(help="NaN probabilities fail the case.")] = False,
    manifest: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Columns case, patient, and others.")
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Group the scores by this column; repeatable.")
    ] = None,
    components: Annotated[
        Path | None, typer.Option(help="Write the table of components: .csv or .parquet.")
    ] = None,
) -> None:
    """Lesion-wise and voxel-wise scores of any masks, whoever made them."""
    from segpipe.pipeline.people import read_people
    from segpipe.pipeline.score import make_settings, run_score
    from segpipe.pipeline.score_output import publish

    if by and manifest is None:
        raise ConfigError(f"--by {by[0]}: expected --manifest CSV with this column; received none.")
    settings = make_settings(
        {
            "rule": rule,
            "connectivity": connectivity,
            "min_size_mm3": min_size_mm3,
            "threshold": threshold,
            "core_threshold": core_threshold,
            "tolerance_mm": tolerance_mm,
            "reference_instances": reference_instances,
            "strict": strict,
        }
    )
    document = run_score(
        references,
        predictions,
        settings,
        regions=regions,
        label=label,
        case_pattern=case_pattern,
        people=None if manifest is None else read_people(manifest, by or []),
        components=components,
    )
    _exit(publish(document, _output(), json=json, csv=csv))


@app.command()
def compare(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="Scores file or folder, or run.")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="Likewise.")],
    json: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page here.")] = None,
    store: Annotated[Path, typer.Option(help="Output folder with the runs.")] = Path("runs"),
) -> None:
    """Paired differences (B minus A) with bootstrap intervals."""
    from segpipe.pipeline.compare import run_compare

    run_compare(run_a, run_b, store, _output(), json=json, html=html)


@app.command()
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

    _exit(run_report(predictions, cases or [], prior, output, _observer(), with_viewer=viewer))


@app.command("config")
def show_config(config: ConfigFile, overrides: Overrides = None) -> None:
    """The resolved configuration with each field's meaning; valid YAML itself."""
    for depth, name, value, meaning in describe(load(config, overrides or ())):
        line = f"{'  ' * depth}{name}:" + (f" {value}" if value else "")
        print(f"{line:<44}  # {meaning}" if meaning else line)


@app.command()
def samples(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder for the dataset.")],
    cases: Annotated[int, typer.Option(help="How many.")] = 16,
    seed: Annotated[int, typer.Option(help="Other seeds make other patients.")] = 0,
) -> None:
    """Make synthetic brain FLAIR+T1 cases with lesions and distractors."""
    from segpipe.samples import make_samples

    make_samples(folder, cases=cases, seed=seed)


@app.command()
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
