"""What a patient report tells, read from a predictions folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.data.nifti import MAX_VOXELS, align, read_labels
from segpipe.errors import DataError, GeometryError
from segpipe.lesions.places import NOWHERE
from segpipe.pipeline.report_scans import read_channels
from segpipe.report.chance import chance_of_false_positive
from segpipe.report.change import Change, compare_components
from segpipe.report.document import CaseRecord, PredictDocument, read_document
from segpipe.report.gallery import make_gallery
from segpipe.report.lesion import Lesion, implausible_regions
from segpipe.report.patient import PatientInputs, RegionBurden
from segpipe.report.slices import in_plane_diameters, viewing_plane
from segpipe.report.validation import Validation, read_validation
from segpipe.report.viewer import make_viewer
from segpipe.report.wording import (
    SIDES,
    point_in_words,
    region_name,
    removal_in_words,
    sentence,
    without_folders,
)
from segpipe.volume import Volume


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
    document = read_document(path / "predict.json")
    bundle = None
    if document.bundle.path and not document.bundle.path.startswith("models:/"):
        try:
            bundle = json.loads((Path(document.bundle.path) / "bundle.json").read_text("utf-8"))
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
    validation, missing = _validation(folder)
    unknown = "not recorded"
    provenance = (
        ("Bundle", bundle.name),
        ("Bundle made", bundle.created or unknown),
        ("segpipe", segpipe),
        ("Source revision", bundle.source_revision or unknown),
        ("Weights, SHA-256", bundle.weights_sha256 or unknown),
        ("Configuration digest", bundle.config_digest or unknown),
        ("Operating point", f"{point}, {settings.connectivity}-connected"),
        ("Point chosen by", _reason(folder.bundle) or unknown),
        ("Networks, axes mirrored", _networks(bundle.networks, settings.mirror_axes)),
        ("Engine, device", ", ".join(filter(None, machine)) or unknown),
        ("Predicted", created),
    )
    return {
        "case": record.case,
        "analysed": created[:10],
        "reported": now,
        "sequences": names,
        "operating_point": point,
        "validation": validation,
        "validation_missing": missing,
        "provenance": provenance,
        "inputs": tuple(
            (name, channel.sha256 or unknown)
            for name, channel in zip(names, record.channels, strict=False)
        ),
    }


def _reason(bundle: dict[str, Any] | None) -> str | None:
    return ((bundle or {}).get("validation") or {}).get("operating_point")


def _networks(count: int | None, mirrored: Sequence[str]) -> str:
    return f"{'not recorded' if count is None else count}; {', '.join(mirrored) or 'none'}"


def _validation(folder: Folder) -> tuple[Validation | None, str]:
    document = folder.document
    return read_validation(
        folder.bundle, document.settings.model_dump(), document.bundle.weights_sha256
    )


def case_inputs(
    record: CaseRecord,
    folder: Folder,
    prior: Folder | None,
    *,
    alone: bool,
    now: str,
    with_viewer: bool,
) -> PatientInputs:
    """Everything for one report.

    Parameters
    ----------
    record : CaseRecord
    folder : Folder
    prior : Folder or None
        Predictions of earlier scans.
    alone : bool
        One case is reported, so that the prior folder's only case is its prior.
    now : str
        Date of the report.
    with_viewer : bool
        The scan is inlined for the interactive viewer.

    Raises
    ------
    DataError
        If the component map cannot be used.
    """
    facts = case_facts(record, folder, now)
    if record.status == "failed" or record.components is None:
        return PatientInputs(**facts, error=_why_not(record))
    components = _read_components(record, folder)
    lesions = _lesions(record, folder, components, facts["validation"])
    channels, missing = read_channels(
        record, folder.path, facts["sequences"], components, _max_voxels(folder)
    )
    change, change_missing = _change(record, folder, prior, alone, components)
    return PatientInputs(
        **facts,
        spacing_mm=components.spacing_mm,
        plane=viewing_plane(components),
        lesions=lesions,
        removed=_removed(record),
        removal=removal_in_words(folder.document.settings.model_dump()),
        regions=tuple(
            RegionBurden(str(region_name(name)), region.components, region.volume_ml)
            for name, region in (record.regions or {}).items()
            if name != NOWHERE or region.components
        ),
        flags=tuple(sentence(without_folders(flag)) for flag in record.flags),
        gallery=make_gallery(channels, components, lesions) if channels else None,
        gallery_missing=missing,
        viewer=make_viewer(channels, components, lesions) if channels and with_viewer else None,
        change=change,
        change_missing=change_missing,
    )


def _why_not(record: CaseRecord) -> str:
    if record.status == "skipped":
        return (
            "Prediction was skipped because its outputs existed, so nothing is known of them. "
            "Predict again with --overwrite."
        )
    return sentence(without_folders(record.error or "Prediction failed without a recorded reason"))


def _lesions(
    record: CaseRecord, folder: Folder, components: Volume, validation: Validation | None
) -> tuple[Lesion, ...]:
    regions = _configured(folder, "anatomy").get("regions") or ()
    astray = implausible_regions(regions, record.regions or {})
    diameters = in_plane_diameters(components)
    return tuple(
        Lesion(
            id=part.id,
            label=part.label,
            region=region_name(part.region),
            side=SIDES.get(part.side, part.side) if part.side else None,
            volume_ml=part.volume_ml,
            longest_diameter_mm=part.longest_diameter_mm,
            mean_probability=part.mean_probability,
            touches_border=part.touches_border,
            chance=chance_of_false_positive(
                validation, part.label, 1000 * part.volume_ml, part.mean_probability
            ),
            in_plane_diameter_mm=diameters[part.id],
            implausible=part.region in astray,
            probability_std=part.probability_std,
            member_share=part.member_share,
        )
        for part in record.components or ()
    )


def _configured(folder: Folder, section: str) -> Mapping[str, Any]:
    """A section of the model that predicted; empty where it was not found."""
    bundle = folder.bundle or {}
    if bundle.get("weights_sha256") != folder.document.bundle.weights_sha256:
        return {}
    return (bundle.get("config") or {}).get(section) or {}


def _max_voxels(folder: Folder) -> int:
    """What the model was allowed to read, and no less than usual: --set may have allowed more."""
    return max(MAX_VOXELS, _configured(folder, "data").get("max_voxels") or 0)


def _removed(record: CaseRecord) -> tuple[int, float] | None:
    counts = list((record.counts or {}).values())
    if not counts or any(c.removed is None or c.removed_volume_ml is None for c in counts):
        return None
    return sum(c.removed or 0 for c in counts), sum(c.removed_volume_ml or 0.0 for c in counts)


def _read_components(record: CaseRecord, folder: Folder) -> Volume:
    name = record.files.components if record.files else None
    path = folder.path / (name or f"components/{record.case}.nii.gz")
    volume = read_labels(path, max_voxels=_max_voxels(folder))
    found = {int(i) for i in np.unique(volume.array)} - {0}
    told = {part.id for part in record.components or ()}
    if found != told:
        raise DataError(
            path,
            "component map and predict.json do not belong together",
            expected=f"ids {_ids(told)}",
            received=_ids(found),
            fix="Predict this case again with --overwrite.",
        )
    return volume


def _ids(ids: set[int]) -> str:
    first = ", ".join(str(i) for i in sorted(ids)[:10])
    return (f"{first}, … ({len(ids)} in all)" if len(ids) > 10 else first) or "none"


def _change(
    record: CaseRecord,
    folder: Folder,
    prior: Folder | None,
    alone: bool,
    components: Volume,
) -> tuple[Change | None, str]:
    if prior is None:
        return None, "no prior"
    before = prior.case(record.case)
    if before is None and alone and len(prior.document.cases) == 1:
        before = prior.document.cases[0]
    if before is None:
        return None, "the prior folder has no case of this id"
    if before.status == "failed" or before.components is None:
        return None, f"the prior case {before.case} was not computed"
    try:
        change = compare_components(
            components,
            align(_read_components(before, prior), components),
            labels={part.id: part.label for part in record.components or ()},
            prior_labels={part.id: part.label for part in before.components},
            prior_case=before.case,
            prior_analysed=(before.created or prior.document.created)[:10],
            cautions=_cautions(record, before, folder.document, prior.document),
        )
    except (DataError, GeometryError) as error:
        return None, f"the prior scan cannot be compared: {without_folders(str(error))}"
    return change, ""


def _cautions(
    record: CaseRecord, before: CaseRecord, now: PredictDocument, then: PredictDocument
) -> tuple[str, ...]:
    cautions = []
    if before.case != record.case:
        cautions.append("the case ids differ: make sure that both scans are of one patient.")
    if now.bundle.weights_sha256 != then.bundle.weights_sha256:
        cautions.append("the prior was analysed with another model, which alone can make change.")
    if now.settings != then.settings:
        cautions.append("the prior was analysed at another operating point or setting.")
    return tuple(cautions)
