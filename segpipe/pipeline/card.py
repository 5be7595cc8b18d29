"""The model card of a bundle: facts from its own description, sentences from the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from segpipe.config import TrainConfig
from segpipe.files import write_text
from segpipe.model.bundle import Bundle, load_bundle
from segpipe.model.facts import FittingFacts
from segpipe.pipeline.tracked import anatomy_in_words
from segpipe.report.card import CardFacts, model_card
from segpipe.report.wording import point_in_words, sentence

CARD = "model-card.html"

LIMITS = (
    "Figures hold for scans like those that they were measured on; other scanners, protocols and "
    "patients may give others.",
    "Lesions that are small or faint are missed more often. No finding does not exclude a lesion.",
    "Scans unlike the training scans can fail without any flag.",
    "Noise, motion, other resolutions and other sites were not tested by this program.",
)


def write_card(folder: Path, into: Path | None = None) -> Path:
    """Write the card of a bundle.

    Parameters
    ----------
    folder : Path
        The bundle.
    into : Path, optional
        Folder for the page; None: the bundle's own.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ModelError
        If the folder is no bundle.
    """
    bundle = load_bundle(folder)
    page = (into or folder) / CARD
    facts = card_facts(bundle)
    write_text(page, model_card(facts, bundle.validation, f"{datetime.now(UTC):%Y-%m-%d}"))
    return page


def card_facts(bundle: Bundle) -> CardFacts:
    """What the card of a bundle tells; the figures are those of its ``validation``."""
    known = bundle.validation or {}
    return CardFacts(
        name=bundle.name,
        written=bundle.config.card,
        model=model_facts(bundle),
        training=_training(bundle),
        data=dataset_facts(bundle),
        preparation=_preparation(bundle),
        partitions=_partitions(bundle),
        evaluation=_evaluation(known),
        metrics=_metrics(bundle, known),
        factors=_factors(bundle, known),
        certificate=_certificate(known),
        failures=known.get("failure_analysis") or (),
        robustness=known.get("robustness") or (),
        caveats=(*known.get("optimistic", ()), *LIMITS),
    )


def model_facts(bundle: Bundle) -> list[tuple[str, str]]:
    """Architecture, software and identity of a bundle."""
    config = bundle.config
    revision = bundle.source_revision or "not recorded"
    return [
        ("Bundle", bundle.name),
        ("Trained", bundle.created),
        ("Network", f"{config.model.dimensions}-D {config.model.block} U-Net"),
        ("Features", " – ".join(str(f) for f in config.model.features)),
        ("Input", f"{', '.join(bundle.plan.channels)} at {_mm(bundle.plan.spacing_mm)}"),
        ("Output", f"probabilities of {', '.join(bundle.plan.labels)}"),
        ("Software", f"segpipe {bundle.segpipe}, Keras on {config.backend}"),
        ("Source revision", revision + (", with changes" if bundle.dirty else "")),
        ("Weights, SHA-256", bundle.weights_sha256),
        ("Configuration digest", bundle.config_digest),
    ]


def _training(bundle: Bundle) -> list[tuple[str, str]]:
    config = bundle.config
    train, loss = config.train, config.loss
    penalties = {
        "false-positive voxels": loss.voxel_count.weight,
        "false-positive regions": loss.region_count.weight,
        "missed lesions": loss.missed_weight,
    }
    return [
        ("Initialisation", train.init or f"random, seed {train.seed}"),
        ("Loss", f"{loss.bce:g} × cross-entropy + {loss.dice:g} × Dice"),
        ("Penalties, λ", ", ".join(f"{n} {w:g}" for n, w in penalties.items())),
        ("Anatomy, weight of a false positive", anatomy_in_words(config)),
        ("Optimiser", f"{train.optimizer}, {train.learning_rate:g}, {train.schedule}"),
        ("Steps", f"{_steps(train, bundle.fitting)}, {train.batch} patches each"),
        ("Patch", " × ".join(str(p) for p in train.patch)),
        ("Augmentation", "on" if config.augment.enabled else "off"),
        ("Selection of the final model", f"the {train.keep} weights"),
    ]


def _steps(train: TrainConfig, fitting: FittingFacts | None) -> str:
    """The steps taken, or, where they were not recorded, what the settings say of them."""
    if fitting is None:
        if train.budget is not None:
            return f"as many as {train.budget} held"
        return f"{'at most ' if train.patience else ''}{train.total_steps}"
    if fitting.steps < fitting.planned:
        return f"{fitting.steps} of {fitting.planned}, as validation no longer improved"
    if train.budget is not None:
        fewer = ", fewer than planned at first" if fitting.shortened else ""
        return f"{fitting.steps}, as many as {train.budget} held{fewer}"
    return str(fitting.steps)


def dataset_facts(bundle: Bundle) -> list[tuple[str, str]]:
    """The dataset that a bundle was trained on."""
    return [
        ("Dataset", bundle.dataset.name),
        ("Training cases", str(bundle.dataset.training_cases)),
        ("Channels", ", ".join(bundle.plan.channels)),
        ("Labels", ", ".join(bundle.plan.labels)),
        ("Regions", ", ".join(bundle.plan.regions) or "none"),
        ("SHA-256", bundle.dataset.digest),
    ]


def _preparation(bundle: Bundle) -> list[tuple[str, str]]:
    low, high = bundle.spacing_range_mm
    return [
        ("Spacing of the training scans", f"{_mm(low)} to {_mm(high)}"),
        ("Resampled to", _mm(bundle.plan.spacing_mm)),
        ("Intensities", bundle.plan.normalise),
        ("Cropped to what is not 0", "yes" if bundle.plan.crop else "no"),
    ]


def _partitions(bundle: Bundle) -> list[tuple[str, str]]:
    split, facts = bundle.config.split, bundle.dataset
    how = f"{split.folds} folds, shuffled with seed {split.seed}"
    if split.leave_one_patient_out:
        how = "one fold per patient, in the order of their names"
    elif split.folds == 1:
        how = "none: nothing is held out"
    return [
        ("Assignment", how),
        ("Level at which they are disjoint", "patient"),
        ("Fold held out", "not recorded" if facts.fold is None else str(facts.fold)),
        ("Training, held out", f"{facts.training_cases}, {facts.validation_cases} cases"),
    ]


def _evaluation(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not known:
        return []
    return [
        ("Cases", str(known["cases"])),
        ("Patients", str(known["patients"])),
        ("Which", known.get("which") or "held out from training by patient"),
    ]


def _metrics(bundle: Bundle, known: Mapping[str, Any]) -> list[str]:
    scoring, counting = _scoring(bundle, known), bundle.counting
    point = point_in_words(bundle.operating_point.model_dump())
    reason = f": {known['operating_point']}" if known.get("operating_point") else ""
    return [
        f"Lesions and predicted regions are {counting['connectivity']}-connected components. A "
        f"region is false positive when it matches no lesion by the rule “{counting['rule']}”; "
        f"components below {counting['min_size_mm3']:g} mm³ do not count.",
        f"Operating point: {point}{reason}.",
        f"Surface Dice at {scoring['tolerance_mm']:g} mm. Intervals by {scoring['bootstrap']} "
        "draws of patients; an undefined figure is left out, never 0.",
    ]


def _scoring(bundle: Bundle, known: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tolerance, draws and groups of the validation; of the configuration where it has none."""
    return known.get("scoring") or bundle.config.evaluate.model_dump()


def _factors(bundle: Bundle, known: Mapping[str, Any]) -> list[str]:
    regions = ", ".join(region.name for region in bundle.config.anatomy.regions)
    by = ", ".join(_scoring(bundle, known)["by"])
    return [
        "lesion size",
        f"anatomical region: {regions}" if regions else "no anatomical region: none was given",
        f"groups by {by}" if by else "no group of patients or scanners: evaluate.by names none",
    ]


def _certificate(known: Mapping[str, Any]) -> str:
    certificate = known.get("certificate") or {}
    if not certificate:
        return "None was asked for."
    if certificate.get("threshold") is None or certificate.get("adopted"):
        return sentence(certificate["statement"])
    return (
        f"None for this operating point. At threshold {certificate['threshold']:g} and minimum "
        f"size {certificate['min_size_mm3']:g} mm³ it would read: {certificate['statement']}."
    )


def _mm(spacing: Sequence[float]) -> str:
    return " × ".join(f"{edge:.3g}" for edge in spacing) + " mm"
