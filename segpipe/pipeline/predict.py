"""``segpipe predict``: masks on each scan's own grid, a component map, ``predict.json``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from segpipe.config import OperatingPoint
from segpipe.data.layouts import Case, find_scans
from segpipe.data.nifti import file_sha256
from segpipe.data.read import changed_while_read, read_case
from segpipe.errors import ConfigError, SegpipeError, StorageError, without_frames
from segpipe.observer import Observer
from segpipe.pipeline.memory import within_memory
from segpipe.pipeline.models import Loaded, load_models
from segpipe.pipeline.outputs import (
    case_files,
    midline_x_mm,
    segment,
    with_agreement,
    write_case,
)
from segpipe.pipeline.points import operating_point, used_in_words
from segpipe.pipeline.predict_document import PredictDocument, sole_writer
from segpipe.pipeline.predictions import predict_image
from segpipe.pipeline.prepare import tell_failures
from segpipe.pipeline.regions import region_digests, scan_regions
from segpipe.predict.uncertainty import Spread

ENGINES = ("auto", "keras", "openvino")


@dataclass(frozen=True)
class PredictRequest:
    """What the command line asks for; see ``segpipe predict --help``."""

    bundles: tuple[str, ...]
    scans: tuple[Path, ...]
    output: Path
    engine: str = "auto"
    probabilities: bool = False
    uncertainty: bool = False
    threshold: float | None = None
    min_size_mm3: float | None = None
    core_threshold: float | None = None
    largest_only: bool | None = None
    regions: Path | None = None
    mirror: bool | None = None
    overwrite: bool = False
    settings: tuple[str, ...] = ()
    store: Path = Path("runs")

    @property
    def extra_files(self) -> list[str]:
        """Files that a case has only where they were asked for."""
        return ["probability"] * self.probabilities + ["entropy"] * self.uncertainty


def run_predict(request: PredictRequest, observer: Observer) -> bool:
    """Predict every scan.

    Returns
    -------
    bool
        Whether a case failed; the others are finished.
    """
    if request.engine not in ENGINES:
        raise ConfigError(
            f"--engine: expected one of {', '.join(ENGINES)}; received {request.engine!r}."
        )
    if request.regions is not None and not request.regions.is_dir():
        raise ConfigError(f"--regions {request.regions}: expected a folder; received none there.")
    loaded = load_models(
        request.bundles,
        request.store,
        engine=request.engine,
        mirror=request.mirror,
        settings=request.settings,
    )
    observer.message(f"device: {loaded.device.describe()}; engine {loaded.engine}")
    if loaded.mirror_axes or len(loaded.models) > 1:
        axes = ", ".join(loaded.mirror_axes) or "none"
        observer.message(f"networks: {len(loaded.models)}; axes mirrored: {axes}")
    if request.uncertainty and sum(len(model.members) for model in loaded.models) < 2:
        raise ConfigError(
            "--uncertainty: expected several networks or mirrored copies, whose disagreement it "
            "is; received one network. Give several bundles, an ensemble, or --mirror."
        )
    bundle = loaded.bundle
    point = operating_point(
        bundle,
        request.threshold,
        request.min_size_mm3,
        request.core_threshold,
        request.largest_only,
    )
    observer.message(f"operating point: {used_in_words(point, loaded)}")
    cases, refused = find_scans(request.scans, bundle.plan.channels)
    if refused and loaded.settings.predict.strict:
        raise refused[0].to_error()
    with sole_writer(request.output):
        failed = _predict_cases(cases, loaded, point, request, observer)
    tell_failures(failed, observer)
    for finding in refused:
        observer.message(f"failed: {finding.to_error()}")
    total = len(cases) + len(refused)
    observer.message(f"{len(cases) - len(failed)} of {total} cases in {request.output}")
    return bool(failed or refused)


def _predict_cases(
    cases: list[Case],
    loaded: Loaded,
    point: OperatingPoint,
    request: PredictRequest,
    observer: Observer,
) -> dict[str, SegpipeError]:
    """Predict every case that is not done; returns those that failed."""
    _expect_apart(cases, request)  # before anything is removed
    document = PredictDocument(
        request.output,
        loaded,
        point,
        loaded.bundle.counting["connectivity"],
        inputs=[channel.path for case in cases for channel in case.channels],
    )
    document.keep_earlier(overwrite=request.overwrite, redone={case.id for case in cases})
    _protect(cases, document, request)
    failed: dict[str, SegpipeError] = {}
    for done, case in enumerate(cases, start=1):
        started = time.perf_counter()
        try:
            _predict_unless_done(case, loaded, point, request, document)
        except SegpipeError as error:
            if loaded.settings.predict.strict or isinstance(error, StorageError):
                raise
            failed[case.id] = without_frames(error)
            if case.id not in document.cases:
                document.fail(case, error, time.perf_counter() - started)
        observer.progress(done, len(cases), case.id)
    document.write()
    return failed


def _expect_apart(cases: list[Case], request: PredictRequest) -> None:
    """Refuse to write among the scans, or over one."""
    scans = {channel.path.resolve() for case in cases for channel in case.channels}
    for case in cases:
        for name in case_files(case.id, probabilities=True, uncertainty=True).values():
            target = request.output / (name or "")
            if target.resolve() in scans:
                raise ConfigError(
                    f"-o {request.output}: what is predicted would replace the scan {target}. "
                    "Choose another folder."
                )
    folders = {path.parent for path in scans}
    folders |= {scans.resolve() for scans in request.scans if scans.is_dir()}
    if request.output.resolve() in folders:
        raise ConfigError(
            f"-o {request.output}: expected another folder than that of the scans, as masks would "
            "be taken for scans the next time; received the same. Give a folder of its own."
        )


def _protect(cases: list[Case], document: PredictDocument, request: PredictRequest) -> None:
    """Refuse to write over a file that is not ours."""
    for case in cases:
        known = case.id in document.cases or request.overwrite
        files = case_files(
            case.id, probabilities=request.probabilities, uncertainty=request.uncertainty
        )
        earlier = (document.cases.get(case.id) or {}).get("files") or {}
        for name in {*files.values(), *earlier.values()} - {None}:
            target = request.output / name
            if target.exists() and not known:
                raise ConfigError(
                    f"{target}: exists, and predict.json does not know it. Give --overwrite, or "
                    "another folder with -o."
                )


def _predict_unless_done(case, loaded, point, request, document) -> None:
    """Predict a case that is not done yet.

    Raises
    ------
    SegpipeError
        If it cannot be predicted: the document no longer has it. If the scan that was predicted
        is gone, or another one is there: document and files stay as they are.
    """
    files = None
    if request.regions is not None:
        files = region_digests(case.id, loaded.bundle, request.regions)
    if request.overwrite or not document.skip(case, request.extra_files, files):
        try:
            with within_memory(case):
                _predict_one(case, loaded, point, request, document, files or {})
        except SegpipeError:
            document.forget(case.id)  # no old mask stands in for a case that fails
            raise


def _predict_one(case, loaded, point, request, document, region_files: dict[str, str]) -> None:
    started = time.perf_counter()
    bundle = loaded.bundle
    before = [file_sha256(channel.path) for channel in case.channels]
    scan = read_case(case, bundle.plan.labels, loaded.settings.data)
    spread = Spread(point.threshold) if request.uncertainty else None
    most = loaded.settings.data.max_voxels
    probabilities, odd = predict_image(case, scan.image, loaded, most, spread)
    if loaded.trained_on(case):
        odd = ("the model was trained on this scan: no figure of it holds here", *odd)
    found = scan_regions(
        case.id, scan.image, bundle, request.regions, loaded.priors, loaded.settings.data
    )
    segmented = segment(
        probabilities,
        bundle.plan.labels,
        point,
        connectivity=bundle.counting["connectivity"],
        regions=found.arrays,
        midline_x_mm=midline_x_mm(scan.image),
    )
    uncertainty = None if spread is None else spread.uncertainty(probabilities.array)
    if uncertainty is not None:
        segmented = with_agreement(segmented, bundle.plan.labels, uncertainty)
    document.begin(  # only now, so that a kill before leaves what was there
        case.id,
        case_files(
            case.id, probabilities=request.probabilities, uncertainty=uncertainty is not None
        ),
    )
    entry = write_case(
        request.output,
        case,
        probabilities,
        segmented,
        with_probabilities=request.probabilities,
        uncertainty=uncertainty,
        region_names=tuple(found.maps),
        registration=found.registration,
        flags=(*scan.flags, *odd, *found.flags),
        seconds=time.perf_counter() - started,
    )
    if [channel["sha256"] for channel in entry["channels"]] != before:
        raise changed_while_read(case.id)
    document.add({**entry, "region_files": region_files})
