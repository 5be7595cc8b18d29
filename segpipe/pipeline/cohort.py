"""From an evaluation to its reports, and both to whoever observes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from segpipe.config import Config
from segpipe.data.layouts import Case, Dataset
from segpipe.data.nifti import read_labels
from segpipe.data.read import CaseReader
from segpipe.errors import SegpipeError
from segpipe.evaluate.operating_point import operating_curve, validation_tallies
from segpipe.files import write_text
from segpipe.model.bundle import Bundle, load_bundle
from segpipe.observer import Observer
from segpipe.pipeline.evaluation import Evaluation
from segpipe.pipeline.report import make_reports
from segpipe.report.cohort import CasePicture, CohortInputs, cohort_report, pick_cases
from segpipe.report.gallery import paint_picture

PATIENT_REPORTS = 6
"""Patient reports that an evaluation brings along: its worst and best cases."""

_LIMITS = (
    "Trained on other cases than those counted here. The figures hold for cases like these; other "
    "scanners, protocols and patients may give other results.",
    "Sizes of regions depend on the operating point; regions below its minimum size are removed.",
)


def publish_evaluation(
    evaluation: Evaluation,
    cases: Sequence[Case],
    dataset: Dataset,
    config: Config,
    bundle: Path,
    observer: Observer,
    *,
    on_validation: bool,
) -> Path:
    """Write the cohort report and some patient reports; hand everything to the observer.

    Parameters
    ----------
    evaluation : Evaluation
    cases : sequence of Case
        Those that were evaluated, failed ones included.
    dataset : Dataset
    config : Config
    bundle : Path
        Folder of the (first) bundle.
    observer : Observer
    on_validation : bool
        Whether the operating point was chosen on these very cases.

    Returns
    -------
    Path
        The cohort report.
    """
    observer.metrics(evaluation.figures(), step=0)
    point = evaluation.choice.operating_point
    observer.metrics({"threshold": point.threshold, "min_size_mm3": point.min_size_mm3}, step=0)
    page = evaluation.folder / "cohort.html"
    inputs = _inputs(evaluation, cases, dataset, config, load_bundle(bundle), on_validation)
    write_text(page, cohort_report(inputs))
    observer.artifact(page)
    for name in ("scores.json", "scores.csv", "components.parquet", "components.csv"):
        observer.artifact(evaluation.folder / name, "evaluation")
    if (evaluation.folder / "predict.json").is_file():
        chosen = _extremes(evaluation)[:PATIENT_REPORTS]
        if chosen:
            make_reports(
                evaluation.folder,
                chosen,
                now=datetime.now(UTC),
                with_pdf=False,
                with_viewer=False,
                observer=observer,
            )
    observer.message(f"report: {page}")
    return page


def _extremes(evaluation: Evaluation) -> list[str]:
    rows = evaluation.document["rows"]
    labels = dict.fromkeys(row["label"] for row in rows)
    picked = [case for label in labels for case, _ in pick_cases(rows, label)]
    return list(dict.fromkeys(picked))


def _inputs(
    evaluation: Evaluation,
    cases: Sequence[Case],
    dataset: Dataset,
    config: Config,
    bundle: Bundle,
    on_validation: bool,
) -> CohortInputs:
    choice = evaluation.choice
    scored = [case.id for case in cases if case.id not in evaluation.failed]
    point = choice.operating_point
    tallies = validation_tallies(evaluation.table, config.evaluate, scored, point)
    curve = operating_curve(tallies) if scored else None
    optimistic = (
        "The operating point was chosen on these cases, so their figures are optimistic.",
    )
    return CohortInputs(
        name=config.name,
        reported=f"{datetime.now(UTC):%Y-%m-%d}",
        found=len(cases),
        excluded=(),
        document=evaluation.document,
        curve=curve,
        threshold=point.threshold,
        min_size_mm3=point.min_size_mm3,
        chosen_by=choice.reason,
        certificate=choice.certificate_document,
        pictures=_pictures(evaluation, cases, config, dataset.channels[0]),
        dataset=[
            ("Dataset", dataset.name),
            ("Channels", ", ".join(bundle.plan.channels)),
            ("Labels", ", ".join(bundle.plan.labels)),
            ("Training cases", str(bundle.dataset.training_cases)),
            ("Evaluated", f"{len(scored)} cases of {len({c.patient for c in cases})} patients"),
            ("SHA-256", bundle.dataset.digest),
        ],
        model=[
            ("Network", f"{config.model.dimensions}-D {config.model.block} U-Net"),
            ("Features", " – ".join(str(f) for f in config.model.features)),
            ("Patch", " × ".join(str(p) for p in config.train.patch)),
            ("Spacing", " × ".join(f"{s:.3g}" for s in bundle.plan.spacing_mm) + " mm"),
            ("Steps", str(config.train.epochs * config.train.steps_per_epoch)),
            ("Penalty on false-positive voxels", f"λ = {config.loss.voxel_count.weight:g}"),
            ("Regions", ", ".join(bundle.plan.regions) or "none"),
        ],
        provenance=[
            ("Bundle", bundle.name),
            ("Weights, SHA-256", bundle.weights_sha256),
            ("Configuration digest", bundle.config_digest),
            ("Source revision", _revision(bundle)),
            ("segpipe", bundle.segpipe),
            ("Trained", bundle.created),
        ],
        limits=(*(optimistic if on_validation else ()), *_LIMITS),
    )


def _revision(bundle: Bundle) -> str:
    if bundle.source_revision is None:
        return "not recorded"
    return bundle.source_revision + (", with changes" if bundle.dirty else "")


def _pictures(
    evaluation: Evaluation, cases: Sequence[Case], config: Config, channel: str
) -> list[CasePicture]:
    known = {case.id: case for case in cases}
    rows = evaluation.document["rows"]
    pictures = []
    for label in dict.fromkeys(row["label"] for row in rows):
        for case_id, standing in pick_cases(rows, label):
            case = known[case_id]
            try:
                scan, _ = CaseReader(case, config.data).channel(case.channels[0])
                painted = read_labels(_map(evaluation, case_id))
                picture = paint_picture(scan, painted, channel)
            except SegpipeError:
                picture = None  # the report says that the scan could not be read
            pictures.append(CasePicture(case_id, label, standing, picture))
    return pictures


def _map(evaluation: Evaluation, case: str) -> Path:
    """The painted map of a case; a pooled evaluation has them beside its own folder."""
    own = evaluation.folder / "maps" / f"{case}.nii.gz"
    beside = sorted(evaluation.folder.parent.glob(f"*/maps/{case}.nii.gz"))
    return own if own.exists() or not beside else beside[0]
