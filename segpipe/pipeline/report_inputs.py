"""What a patient report tells, read from a predictions folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.data.nifti import MAX_VOXELS, align, read_labels
from segpipe.errors import DataError, GeometryError
from segpipe.folders import error_without_folders, without_folders
from segpipe.lesions.places import NOWHERE
from segpipe.pipeline.report_facts import Folder, case_facts, local_day
from segpipe.pipeline.report_scans import read_channels
from segpipe.report.chance import chance_of_false_positive
from segpipe.report.change import Change, compare_components
from segpipe.report.document import CaseRecord, PredictDocument
from segpipe.report.gallery import make_gallery
from segpipe.report.lesion import Lesion, implausible_regions
from segpipe.report.patient import PatientInputs, RegionBurden
from segpipe.report.slices import in_plane_diameters, viewing_plane
from segpipe.report.validation import Validation
from segpipe.report.viewer import make_viewer
from segpipe.report.wording import SIDES, region_name, removal_in_words, sentence
from segpipe.volume import Volume


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
        record, folder.path, facts["sequences"], components, _max_voxels(record, folder)
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
        flags=tuple(sentence(without_folders(flag, _scans(record))) for flag in record.flags),
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
    error = record.error or "Prediction failed without a recorded reason"
    return sentence(without_folders(error, _scans(record)))


def _scans(record: CaseRecord) -> list[str]:
    return [channel.path for channel in record.channels]


def _lesions(
    record: CaseRecord, folder: Folder, components: Volume, validation: Validation | None
) -> tuple[Lesion, ...]:
    astray = implausible_regions(_regions(folder), record.regions or {})
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


def _regions(folder: Folder) -> Sequence[Mapping[str, Any]]:
    """Those that the model was trained with; documents from before they were recorded: its own."""
    told = folder.document.bundle.regions
    if told is None:
        return _configured(folder, "anatomy").get("regions") or ()
    return [region.model_dump() for region in told]


def _max_voxels(record: CaseRecord, folder: Folder) -> int:
    """What the prediction was allowed to read, and no less than usual."""
    return max(MAX_VOXELS, record.max_voxels or _configured(folder, "data").get("max_voxels") or 0)


def _removed(record: CaseRecord) -> tuple[int, float] | None:
    counts = list((record.counts or {}).values())
    if not counts or any(c.removed is None or c.removed_volume_ml is None for c in counts):
        return None
    return sum(c.removed or 0 for c in counts), sum(c.removed_volume_ml or 0.0 for c in counts)


def _read_components(record: CaseRecord, folder: Folder) -> Volume:
    name = record.files.components if record.files else None
    path = folder.path / (name or f"components/{record.case}.nii.gz")
    volume = read_labels(path, max_voxels=_max_voxels(record, folder))
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
    differs = _not_comparable(record, before, folder.document, prior.document)
    if differs is not None:
        return None, differs
    try:
        change = compare_components(
            components,
            align(_read_components(before, prior), components),
            labels={part.id: part.label for part in record.components or ()},
            prior_labels={part.id: part.label for part in before.components},
            prior_case=before.case,
            prior_analysed=local_day(before.created or prior.document.created),
            cautions=_cautions(record, before),
        )
    except (DataError, GeometryError) as error:
        return None, f"the prior scan cannot be compared: {error_without_folders(error)}"
    return change, ""


def _not_comparable(
    record: CaseRecord, before: CaseRecord, now: PredictDocument, then: PredictDocument
) -> str | None:
    """Why a difference would not be the patient's."""
    scans, prior_scans = ([c.sha256 for c in one.channels] for one in (record, before))
    if scans == prior_scans and None not in scans:
        return "the prior is this very scan"
    again = "which alone makes differences. Predict it again, as this scan was predicted"
    if now.bundle.weights_sha256 != then.bundle.weights_sha256:
        return f"the prior was analysed with another model, {again}"
    if now.settings != then.settings:
        return f"the prior was analysed at another operating point or setting, {again}"
    return None


def _cautions(record: CaseRecord, before: CaseRecord) -> tuple[str, ...]:
    if before.case == record.case:
        return ()
    return ("the case ids differ: make sure that both scans are of one patient.",)
