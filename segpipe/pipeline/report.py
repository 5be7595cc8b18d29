"""``segpipe report``: a predictions folder becomes one report per patient, HTML and PDF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from segpipe.errors import DataError, SegpipeError
from segpipe.files import write_bytes
from segpipe.folders import error_without_folders
from segpipe.observer import Observer, Silent
from segpipe.parallel import map_cases
from segpipe.pipeline.report_facts import Folder, case_facts, open_folder
from segpipe.pipeline.report_inputs import case_inputs
from segpipe.report.document import PREDICT_DOCUMENT, CaseRecord
from segpipe.report.patient import PatientInputs, assess, patient_report
from segpipe.report.pdf import available, to_pdf
from segpipe.report.wording import sentence


def run_report(
    predictions: Path,
    cases: Sequence[str],
    prior: Path | None,
    output: Path | None,
    observer: Observer,
    *,
    with_viewer: bool = True,
) -> bool:
    """``segpipe report``; returns whether a report failed."""
    reports = make_reports(
        predictions,
        cases,
        now=datetime.now(),
        prior=prior,
        output=output,
        with_viewer=with_viewer,
        observer=observer,
    )
    for failed in reports.failed:
        observer.message(f"failed: {failed.case}: {failed.error}")
    for written in reports.written:
        observer.message(f"{written.case}: {written.status}: {written.html}")
    return bool(reports.failed)


@dataclass(frozen=True)
class Written:
    """One finished report. ``error`` tells why a predicted case could not be reported."""

    case: str
    status: str
    html: Path
    pdf: Path | None
    error: str | None = None


@dataclass(frozen=True)
class Reports:
    """All reports of a call; ``note`` says why there are no PDFs, or is empty."""

    written: tuple[Written, ...]
    note: str

    @property
    def failed(self) -> tuple[Written, ...]:
        """Reports of predicted cases whose files could not be used."""
        return tuple(one for one in self.written if one.error is not None)


def make_reports(
    predictions: Path,
    cases: Sequence[str] = (),
    *,
    now: datetime,
    prior: Path | None = None,
    output: Path | None = None,
    with_pdf: bool = True,
    with_viewer: bool = True,
    observer: Observer | None = None,
) -> Reports:
    """Write ``CASE.html``, and ``CASE.pdf`` where WeasyPrint and Pango are installed.

    Parameters
    ----------
    predictions : Path
        What ``segpipe predict -o`` wrote: ``predict.json``, masks, component maps.
    cases : sequence of str
        Case ids; all of the folder when empty.
    now : datetime
        Its day, here, is printed as the date of the reports.
    prior : Path, optional
        Predictions of earlier scans on the same grids. A case is compared with that of the
        same id, or with the folder's only case when one case is asked for.
    output : Path, optional
        ``predictions/reports`` by default.
    with_pdf : bool
        False: HTML only.
    with_viewer : bool
        Inline the first channel and the components for the interactive viewer: some megabytes
        per report.
    observer : Observer, optional

    Returns
    -------
    Reports
        A predicted case whose files are unusable gets a report that says 'not computed' and is
        listed as failed.

    Raises
    ------
    DataError
        If a predict.json is unusable or a case id is not in it.
    """
    observer = observer or Silent()
    folder = open_folder(predictions)
    records = _records(folder, cases)
    prior_folder = open_folder(prior) if prior is not None else None
    note = (available() or "") if with_pdf else ""
    if note:
        observer.message(note)
    work = partial(
        _write_one,
        folder=folder,
        prior=prior_folder,
        alone=len(records) == 1,
        output=output or predictions / "reports",
        now=f"{now.astimezone():%Y-%m-%d}",
        pdf=with_pdf and not note,
        viewer=with_viewer,
    )
    written = []
    for done, outcome in enumerate(map_cases(work, records), start=1):
        if outcome.error is not None:
            raise outcome.error
        written.append(outcome.value)
        observer.progress(done, len(records), outcome.value.case)
        observer.artifact(outcome.value.html, "reports")
    return Reports(tuple(written), note)


def _records(folder: Folder, cases: Sequence[str]) -> list[CaseRecord]:
    if not cases:
        return list(folder.document.cases)
    known = {record.case: record for record in folder.document.cases}
    unknown = [name for name in cases if name not in known]
    if unknown:
        raise DataError(
            folder.path / PREDICT_DOCUMENT,
            "lacks cases that were asked for",
            expected=f"among {', '.join(sorted(known)) or 'none'}",
            received=", ".join(unknown),
            fix="Name cases of this folder.",
        )
    return [known[name] for name in dict.fromkeys(cases)]


def _write_one(
    record: CaseRecord,
    *,
    folder: Folder,
    prior: Folder | None,
    alone: bool,
    output: Path,
    now: str,
    pdf: bool,
    viewer: bool,
) -> Written:
    error = None
    try:
        inputs = case_inputs(record, folder, prior, alone=alone, now=now, with_viewer=viewer)
    except SegpipeError as problem:
        error = sentence(error_without_folders(problem))
        inputs = PatientInputs(**case_facts(record, folder, now), error=error)
    page, sheet = output / f"{record.case}.html", output / f"{record.case}.pdf"
    _write(page, patient_report(inputs).encode())
    if pdf:
        _write(sheet, to_pdf(patient_report(replace(inputs, viewer=None))))  # paper has no viewer
    else:
        sheet.unlink(missing_ok=True)  # one of an earlier call would contradict the page
    return Written(record.case, assess(inputs).word, page, sheet if pdf else None, error)


def _write(path: Path, content: bytes) -> None:
    try:
        write_bytes(path, content)
    except OSError as error:
        raise DataError(
            path,
            "cannot be written",
            received=str(error),
            fix="Free space on the disk, or choose a folder that you may write to with -o.",
        ) from error
