"""The patient report: status, answer, evidence, limits, provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from segpipe.metrics.detection import share_interval
from segpipe.report.change import STABLE, STATES, Change
from segpipe.report.gallery import Gallery
from segpipe.report.lesion import Lesion
from segpipe.report.page import render
from segpipe.report.validation import Validation, few, sensitivity_by_size, volume_error
from segpipe.report.viewer import Viewer, scripts
from segpipe.report.wording import (
    count,
    length,
    number,
    percent,
    sensitivity_interval_in_words,
    volume,
)

ROWS_SHOWN = 20
NAMED = 10
USABLE, REVIEW, NOT_COMPUTED = "usable", "review", "not computed"

METRICS = {  # those of the validation summary that a clinician can use, in this order
    "lesion_sensitivity": ("Lesion sensitivity", "share of a scan's lesions that were found"),
    "false_positive_regions": (
        "False-positive regions per scan",
        "found where the reference has no lesion",
    ),
    "lesion_precision": ("Lesion precision", "share of found regions that the reference has"),
    "lesion_f1": ("Lesion F1", "balance of the two"),
    "dice": ("Dice", "overlap of the volumes, 0 to 1"),
    "volume_error_ml": ("Error of total volume (ml)", "found minus reference volume"),
}

FAILURE_MODES = (
    "A false-positive region can look like a lesion: bright vessels, choroid plexus, and motion or "
    "flow artefacts are common places. Check every region against the scan itself.",
    "Small or faint lesions are missed more often than large ones; "
    "no finding does not exclude a lesion.",
    "Lesions that touch are counted as one; a lesion cut by a thin gap is counted as two.",
    "Scans unlike the training scans (sequence, scanner, spacing, age, disease, surgery, contrast "
    "agent) can fail without any flag.",
)


@dataclass(frozen=True)
class RegionBurden:
    """Components and volume in one anatomical region."""

    name: str
    components: int
    volume_ml: float


@dataclass(frozen=True)
class PatientInputs:
    """All that a patient report tells; nothing is read or measured inside.

    Parameters
    ----------
    case : str
        Pseudonymous id.
    analysed, reported : str
        Dates of the prediction and of this report, as they are to be printed.
    sequences : tuple of str
        Channel names.
    spacing_mm : tuple of float or None
    plane : str or None
        In which in-plane diameters are measured and slices are shown.
    error : str or None
        Why the case was not computed; then no number is shown.
    lesions : tuple of Lesion
    removed : tuple of (int, float) or None
        Number and volume in ml of the components that the operating point removes.
    removal : str
        Which these are, in words.
    regions : tuple of RegionBurden
        Empty when no anatomical regions were given.
    flags : tuple of str
        Reasons for review, in words.
    gallery : Gallery or None
    gallery_missing : str
        Why there are no pictures.
    viewer : Viewer or None
        None: the page has no viewer.
    change : Change or None
    change_missing : str
        Why there is no comparison.
    validation : Validation or None
    validation_missing : str
        Why nothing is known of this model.
    of_validation : bool
        Whether the scan is among those that ``validation`` was measured on.
    operating_point : str
        In words.
    provenance : tuple of (str, str)
    inputs : tuple of (str, str)
        Channel and SHA-256 of its file.
    """

    case: str
    analysed: str
    reported: str
    sequences: tuple[str, ...] = ()
    spacing_mm: tuple[float, ...] | None = None
    plane: str | None = None
    error: str | None = None
    lesions: tuple[Lesion, ...] = ()
    removed: tuple[int, float] | None = None
    removal: str = ""
    regions: tuple[RegionBurden, ...] = ()
    flags: tuple[str, ...] = ()
    gallery: Gallery | None = None
    gallery_missing: str = "no pictures were made"
    viewer: Viewer | None = None
    change: Change | None = None
    change_missing: str = "no prior"
    validation: Validation | None = None
    validation_missing: str = "this bundle was not validated"
    of_validation: bool = False
    operating_point: str = ""
    provenance: tuple[tuple[str, str], ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Status:
    """Whether the figures may be read, and why not."""

    word: str
    reasons: tuple[str, ...] = field(default=())


def assess(inputs: PatientInputs) -> Status:
    """Status of a case with every reason in words.

    A case with an error is not computed; one with any flag, by a model of which no validation
    holds, without pictures to check it by, with a lesion at the border of the scan or outside the
    named anatomy, or with a doubtful comparison is for review.
    """
    if inputs.error is not None:
        return Status(NOT_COMPUTED, (inputs.error,))
    reasons = list(inputs.flags)
    if inputs.validation is None:
        reasons.append(f"How reliable this model is was not measured: {inputs.validation_missing}.")
    cut = [lesion.id for lesion in inputs.lesions if lesion.touches_border]
    if cut:
        verb = "touches" if len(cut) == 1 else "touch"
        reasons.append(f"{_named(cut)} {verb} the border of the scan: a part can lie outside.")
    astray = [lesion.id for lesion in inputs.lesions if lesion.implausible]
    if astray:
        verb = "lies" if len(astray) == 1 else "lie"
        reasons.append(f"{_named(astray)} {verb} mainly outside the named anatomy: check first.")
    if inputs.gallery is None:
        reasons.append(f"The result cannot be checked by pictures here: {inputs.gallery_missing}.")
    if inputs.change is not None:
        reasons.extend(f"Change: {caution}" for caution in inputs.change.cautions)
    return Status(REVIEW if reasons else USABLE, tuple(reasons))


def _named(numbers: Sequence[int]) -> str:
    """Lesion 4; Lesions 4, 7; the first ten of many."""
    first = ", ".join(str(number) for number in numbers[:NAMED])
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return f"{'Lesion' if len(numbers) == 1 else 'Lesions'} {first}{more}"


def headline(lesions: Sequence[Lesion]) -> str:
    """The answer in one sentence."""
    if not lesions:
        return "Nothing was marked as a lesion, which does not exclude one."
    total = volume(sum(lesion.volume_ml for lesion in lesions))
    flagged = sum(lesion.touches_border or lesion.implausible for lesion in lesions)
    if len(lesions) == 1:
        doubt = " It is flagged above." if flagged else ""
        return f"1 lesion, {total}, {_describe(lesions[0])}.{doubt}"
    doubt = f" {flagged} of them {'is' if flagged == 1 else 'are'} flagged above." * bool(flagged)
    largest = max(lesions, key=lambda lesion: (lesion.volume_ml, -lesion.id))
    return (
        f"{count(len(lesions), 'lesion')}, {total} in total; the largest is number {largest.id}, "
        f"{volume(largest.volume_ml)}, {_describe(largest)}.{doubt}"
    )


def _describe(lesion: Lesion) -> str:
    diameter = length(lesion.longest_diameter_mm, "diameter not computed")
    across = f"longest diameter {diameter}" if lesion.longest_diameter_mm is not None else diameter
    if lesion.in_plane_diameter_mm is not None:
        across += f" ({length(lesion.in_plane_diameter_mm)} in plane)"
    return ", ".join(part for part in (across, lesion.region, lesion.side) if part)


def expected_false_positives(lesions: Sequence[Lesion]) -> float | None:
    """Sum of the measured chances; None unless each is measured on enough components.

    A sum over some of the lesions would be a lower bound that reads as an estimate.
    """
    chances = [lesion.chance for lesion in lesions]
    if not chances or any(chance is None or not chance.enough for chance in chances):
        return None
    return sum(chance.value for chance in chances if chance is not None)


def reliability(validation: Validation | None, missing: str) -> str:
    """What the model found and missed on validation, in a sentence for the first screen."""
    if validation is None:
        return f"How many lesions it misses is not known: {missing}."
    known = validation.sensitivity
    if known is None and not validation.by_size:
        return "How many lesions it misses is not known: validation did not record it."
    if known is None:
        known = {
            name: sum(row[name] for row in validation.by_size) for name in ("detected", "lesions")
        }
    found, lesions, over_patients = known["detected"], known["lesions"], known.get("ci95")
    limits = share_interval(found, lesions, over_patients)
    if limits is None:
        return "How many lesions it misses is not known: the validation scans hold none."
    who = "On validation this model"
    if validation.pooled:
        who = "In cross-validation, models trained like this one"
    which = "" if over_patients else " over lesions alone"
    caution = ""
    patients = validation.patients
    if patients is not None and few(patients):
        caution = f", too narrow to be trusted as it is over {count(patients, 'patient')}"
    text = (
        f"{who} found {found} of {count(lesions, 'lesion')} "
        f"({percent(found / lesions)}, 95 % interval{which} "
        f"{percent(limits[0])} to {percent(limits[1])}{caution})"
    )
    wrong = wrong_per_scan(validation)
    if wrong is not None:
        text += f" and marked {number(wrong, 1)} false-positive regions per scan"
    if validation.optimistic:
        text += "; on other scans expect somewhat worse, as its settings were chosen on those"
    return text + "."


def wrong_per_scan(validation: Validation | None) -> float | None:
    """False-positive regions of all labels per validation scan, where they were measured."""
    if validation is None:
        return None
    means = [part.get("false_positive_regions", {}) for part in validation.summary.values()]
    known = [mean["mean"] for mean in means if mean.get("mean") is not None]
    return sum(known) if known else None


def patient_report(inputs: PatientInputs) -> str:
    """The report as one self-contained HTML page.

    Parameters
    ----------
    inputs : PatientInputs

    Returns
    -------
    str
    """
    lesions = sorted(inputs.lesions, key=lambda lesion: (-lesion.volume_ml, lesion.id))
    status = assess(inputs)
    shown = inputs.viewer is not None and status.word != NOT_COMPUTED
    return render(
        "patient.html.j2",
        {
            "report": inputs,
            "status": status,
            "title": f"Lesion report, case {inputs.case}",
            "computed": status.word != NOT_COMPUTED,
            "lesions": lesions,
            "headline": headline(lesions),
            "total_ml": sum(lesion.volume_ml for lesion in lesions),
            "several_labels": len({lesion.label for lesion in lesions}) > 1,
            "false_positives": expected_false_positives(lesions),
            "wrong_per_scan": wrong_per_scan(inputs.validation),
            "reliability": reliability(inputs.validation, inputs.validation_missing),
            "validation_labels": len(inputs.validation.summary) if inputs.validation else 0,
            "volume_error": volume_error(inputs.validation),
            "by_size": sensitivity_by_size(inputs.validation) if inputs.validation else (),
            "by_size_interval": sensitivity_interval_in_words(
                inputs.validation.by_size if inputs.validation else ()
            ),
            "model": dict(inputs.provenance).get("Bundle"),
            "astray": any(lesion.implausible for lesion in lesions),
            "pictured": {key.lesion.id for key in inputs.gallery.lesions} if inputs.gallery else (),
            "most_ml": max((region.volume_ml for region in inputs.regions), default=0.0),
            "rows_shown": ROWS_SHOWN,
            "states": STATES,
            "stable": STABLE,
            "metrics": METRICS,
            "failure_modes": FAILURE_MODES,
        },
        scripts() if shown else (),
    )
