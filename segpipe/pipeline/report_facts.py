"""What a patient report tells of a predictions folder: model, settings, dates, provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from segpipe.model.facts import BUNDLE_FILE
from segpipe.report.document import PREDICT_DOCUMENT, CaseRecord, PredictDocument, read_document
from segpipe.report.validation import read_validation, same_point
from segpipe.report.wording import point_in_words


@dataclass(frozen=True)
class Folder:
    """A predictions folder; ``bundle`` is bundle.json, None when it was not found."""

    path: Path
    document: PredictDocument
    bundle: dict[str, Any] | None

    def case(self, name: str) -> CaseRecord | None:
        """The case of this id, or None."""
        return next((record for record in self.document.cases if record.case == name), None)


def open_folder(path: Path) -> Folder:
    """Read ``predict.json`` and the bundle's facts.

    Raises
    ------
    DataError
        If predict.json is unusable.
    """
    document = read_document(path / PREDICT_DOCUMENT)
    bundle = None
    if document.bundle.path and not document.bundle.path.startswith("models:/"):
        try:
            found = json.loads((Path(document.bundle.path) / BUNDLE_FILE).read_text("utf-8"))
            bundle = found if isinstance(found, dict) else None
        except (OSError, ValueError):
            bundle = None  # the report says that the validation figures were not found
    return Folder(path, document, bundle)


def case_facts(record: CaseRecord, folder: Folder, now: str) -> dict[str, Any]:
    """What holds for every case, computed or not."""
    document, bundle, settings = folder.document, folder.document.bundle, folder.document.settings
    names = bundle.channels or tuple(f"channel {i}" for i in range(len(record.channels)))
    point = point_in_words(settings.model_dump())
    segpipe, created = record.segpipe or document.segpipe, record.created or document.created
    machine = record.engine or document.engine, record.device or document.device
    validation, missing = read_validation(
        folder.bundle, settings.model_dump(), bundle.weights_sha256, record.certificate_void
    )
    unknown = "not recorded"
    provenance = (
        ("Bundle", bundle.name),
        ("Bundle made", bundle.created or unknown),
        ("segpipe", segpipe),
        ("Source revision", bundle.source_revision or unknown),
        ("Weights, SHA-256", bundle.weights_sha256 or unknown),
        ("Configuration digest", bundle.config_digest or unknown),
        ("Operating point", f"{point}, {settings.connectivity}-connected"),
        ("Point chosen by", _reason(folder) or unknown),
        ("Networks, axes mirrored", _networks(bundle.networks, settings.mirror_axes)),
        ("Engine, device", ", ".join(filter(None, machine)) or unknown),
        ("Predicted", created),
    )
    return {
        "case": record.case,
        "analysed": local_day(created),
        "reported": now,
        "sequences": names,
        "operating_point": point,
        "validation": validation,
        "of_validation": document.of_validation,
        "validation_missing": missing,
        "provenance": provenance,
        "inputs": tuple(
            (name, channel.sha256 or unknown)
            for name, channel in zip(names, record.channels, strict=False)
        ),
    }


def _reason(folder: Folder) -> str | None:
    """Why the operating point is what it is, where the bundle still has the one that was used."""
    bundle, document = folder.bundle or {}, folder.document
    if bundle.get("weights_sha256") != document.bundle.weights_sha256:
        return None
    if not same_point(bundle.get("operating_point") or {}, document.settings.model_dump()):
        return "not recorded: the bundle has another point now, or another was asked for"
    return (bundle.get("validation") or {}).get("operating_point")


def _networks(count: int | None, mirrored: Sequence[str]) -> str:
    return f"{'not recorded' if count is None else count}; {', '.join(mirrored) or 'none'}"


def local_day(moment: str) -> str:
    """The day of a moment in ISO 8601, where this is run; as it stands without a time zone.

    Examples
    --------
    >>> local_day("2026-02-01"), local_day("2026-02-01T23:59:00")
    ('2026-02-01', '2026-02-01')
    """
    try:
        then = datetime.fromisoformat(moment)
    except ValueError:
        return moment[:10]
    return f"{then if then.tzinfo is None else then.astimezone():%Y-%m-%d}"
