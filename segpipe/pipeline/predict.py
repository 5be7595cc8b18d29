"""``segpipe predict``: masks on each scan's own grid, a component map, ``predict.json``."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import segpipe
from segpipe.config import OperatingPoint
from segpipe.data.layouts import Case, find_scans
from segpipe.data.nifti import file_sha256
from segpipe.data.read import read_case
from segpipe.errors import ConfigError, SegpipeError
from segpipe.files import write_text
from segpipe.model.bundle import Bundle
from segpipe.observer import Observer
from segpipe.pipeline.models import Loaded, load_models
from segpipe.pipeline.outputs import midline_x_mm, segment, write_case
from segpipe.pipeline.points import operating_point, used_in_words
from segpipe.pipeline.prepare import tell_failures
from segpipe.pipeline.provenance import now
from segpipe.pipeline.regions import scan_regions
from segpipe.predict.case import predict_scan
from segpipe.volume import Volume

ENGINES = ("auto", "keras", "openvino")
_DOCUMENT = "predict.json"


@dataclass(frozen=True)
class PredictRequest:
    """What the command line asks for; see ``segpipe predict --help``."""

    bundles: tuple[str, ...]
    scans: tuple[Path, ...]
    output: Path
    engine: str = "auto"
    probabilities: bool = False
    threshold: float | None = None
    min_size_mm3: float | None = None
    core_threshold: float | None = None
    regions: Path | None = None
    overwrite: bool = False
    store: Path = Path("runs")


class PredictDocument:
    """``predict.json``, written anew after every case, so that a kill loses one case at most.

    Parameters
    ----------
    folder : Path
    loaded : Loaded
    point : OperatingPoint
    """

    def __init__(self, folder: Path, loaded: Loaded, point: OperatingPoint) -> None:
        self.path = folder / _DOCUMENT
        config = loaded.bundle.config
        self.head: dict[str, Any] = {
            "schema": 1,
            "segpipe": segpipe.__version__,
            "created": now(),
            "device": loaded.device.describe(),
            "engine": loaded.engine,
            "bundle": loaded.describe(),
            "settings": {
                "threshold": point.threshold,
                "min_size_mm3": point.min_size_mm3,
                "core_threshold": point.core_threshold,
                "connectivity": config.evaluate.connectivity,
                "overlap": loaded.models[0].overlap,
            },
        }
        self.cases: dict[str, dict[str, Any]] = {}

    def keep_earlier(self, *, overwrite: bool) -> None:
        """Take over the cases of a document that is there already.

        Raises
        ------
        ConfigError
            If they were predicted by another bundle or with other settings; with ``overwrite``
            they are forgotten instead.
        """
        if not self.path.is_file():
            return
        try:
            self._take_over()
        except ConfigError:
            if not overwrite:
                raise

    def _take_over(self) -> None:
        try:
            earlier = json.loads(self.path.read_text(encoding="utf-8"))
            cases = {entry["case"]: entry for entry in earlier["cases"]}
            same = (
                earlier["settings"] == self.head["settings"]
                and earlier["bundle"]["weights_sha256"] == self.head["bundle"]["weights_sha256"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self.path}: expected what segpipe predict wrote; received {error!r}. Give "
                "--overwrite, or another folder with -o."
            ) from error
        if not same:
            raise ConfigError(
                f"{self.path.parent}: expected predictions of this bundle at "
                f"{self.head['settings']}; received others ({earlier['bundle']['name']}, "
                f"{earlier['settings']}). Give --overwrite, or another folder with -o."
            )
        self.cases = cases

    def skip(self, case: Case, with_probabilities: bool) -> bool:
        """Whether the case is done; its entry then says so.

        Raises
        ------
        ConfigError
            If another scan was predicted under this id.
        """
        entry = self.cases.get(case.id)
        if entry is None or entry["status"] == "failed":
            return False
        files = entry["files"]
        if not all((self.path.parent / f).is_file() for f in files.values() if f):
            return False
        if with_probabilities and not files["probability"]:
            return False
        known = [channel["sha256"] for channel in entry["channels"]]
        if known != [file_sha256(channel.path) for channel in case.channels]:
            raise ConfigError(
                f"{self.path.parent}: another scan was predicted as {case.id}. Give --overwrite, "
                "or another folder with -o."
            )
        self.cases[case.id] = {**entry, "status": "skipped"}
        return True

    def add(self, entry: dict[str, Any]) -> None:
        """Add or replace a case and write the file."""
        self.cases[entry["case"]] = entry
        self.write()

    def fail(self, case: Case, error: SegpipeError, seconds: float) -> None:
        """Add a case that could not be predicted."""
        channels = [{"path": str(c.path.absolute()), "index": c.index} for c in case.channels]
        entry = {"case": case.id, "status": "failed", "channels": channels}
        self.add({**entry, "flags": [], "seconds": round(seconds, 2), "error": str(error)})

    def write(self) -> None:
        """Write the file."""
        document = {**self.head, "cases": [self.cases[case] for case in sorted(self.cases)]}
        write_text(self.path, json.dumps(document, indent=1, ensure_ascii=False))


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
    loaded = load_models(request.bundles, request.store, engine=request.engine)
    observer.message(f"device: {loaded.device.describe()}; engine {loaded.engine}")
    bundle = loaded.bundle
    point = operating_point(bundle, request.threshold, request.min_size_mm3, request.core_threshold)
    observer.message(f"operating point: {used_in_words(point, bundle)}")
    cases = find_scans(request.scans, len(bundle.plan.channels))
    document = PredictDocument(request.output, loaded, point)
    document.keep_earlier(overwrite=request.overwrite)
    _protect(cases, document, request)
    failed: dict[str, SegpipeError] = {}
    for done, case in enumerate(cases, start=1):
        if request.overwrite or not document.skip(case, request.probabilities):
            error = _predict_one(case, loaded, point, request, document)
            if error is not None:
                failed[case.id] = error
        observer.progress(done, len(cases), case.id)
    document.write()
    tell_failures(failed, observer)
    observer.message(f"{len(cases) - len(failed)} of {len(cases)} cases in {request.output}")
    return bool(failed)


def _protect(cases: list[Case], document: PredictDocument, request: PredictRequest) -> None:
    """Refuse to write where a scan, or a mask that is not ours, lies."""
    scans = {channel.path.resolve() for case in cases for channel in case.channels}
    for case in cases:
        target = request.output / f"{case.id}.nii.gz"
        if target.resolve() in scans:
            raise ConfigError(
                f"-o {request.output}: the mask would replace the scan {target}. Choose another "
                "folder."
            )
        if target.exists() and case.id not in document.cases and not request.overwrite:
            raise ConfigError(
                f"{target}: exists, and predict.json does not know it. Give --overwrite, or "
                "another folder with -o."
            )


def unusual_spacing(image: Volume, bundle: Bundle) -> tuple[str, ...]:
    """A flag when the scan's spacing lies outside what the model was trained on."""
    low, high = (np.sort(np.array(limits)) for limits in bundle.spacing_range_mm)
    spacing = np.sort(np.array(image.spacing_mm))
    if ((spacing < 0.9 * low) | (spacing > 1.1 * high)).any():
        found = " × ".join(f"{s:.2f}" for s in image.spacing_mm)
        span = " × ".join(f"{a:.2f}–{b:.2f}" for a, b in zip(low, high, strict=True))
        return (f"spacing {found} mm lies outside that of the training scans ({span} mm)",)
    return ()


def _predict_one(case, loaded, point, request, document) -> SegpipeError | None:
    started = time.perf_counter()
    bundle = loaded.bundle
    try:
        scan = read_case(case, bundle.plan.labels, bundle.config.data)
        probabilities = predict_scan(scan.image, loaded.models)
        found = scan_regions(case.id, scan.image, bundle, request.regions, loaded.priors)
        segmented = segment(
            probabilities,
            bundle.plan.labels,
            point,
            connectivity=bundle.config.evaluate.connectivity,
            regions=found.arrays,
            midline_x_mm=midline_x_mm(scan.image),
        )
        entry = write_case(
            request.output,
            case,
            probabilities,
            segmented,
            with_probabilities=request.probabilities,
            region_names=tuple(found.maps),
            registration=found.registration,
            flags=scan.flags + unusual_spacing(scan.image, bundle) + found.flags,
            seconds=time.perf_counter() - started,
        )
    except SegpipeError as error:
        if bundle.config.predict.strict:
            raise
        document.fail(case, error, time.perf_counter() - started)
        return error
    document.add(entry)
    return None
