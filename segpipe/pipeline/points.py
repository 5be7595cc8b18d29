"""Operating points: as a user changes them, as a bundle brings them, and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.errors import ConfigError, ModelError
from segpipe.evaluate.certify import Certificate
from segpipe.evaluate.operating_point import Choice
from segpipe.evaluate.outcome import FIGURES
from segpipe.model.bundle import Bundle
from segpipe.pipeline.models import Loaded
from segpipe.report.wording import p_in_words, point_in_words


def operating_point(
    bundle: Bundle,
    threshold: float | None,
    min_size_mm3: float | None,
    core_threshold: float | None = None,
    largest_only: bool | None = None,
) -> OperatingPoint:
    """The bundle's operating point, unless the user says otherwise.

    Raises
    ------
    ConfigError
        If a value is out of range.
    """
    wanted = {
        "threshold": threshold,
        "min_size_mm3": min_size_mm3,
        "core_threshold": core_threshold,
    }
    stated = {name: value for name, value in wanted.items() if value is not None}
    for name, value in stated.items():
        high = math.inf if name == "min_size_mm3" else 1
        if not 0 <= value < high:
            limits = "0 or more" if high == math.inf else "0 to below 1"
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option}: expected {limits}; received {value}.")
    if largest_only is not None:
        stated["largest_only"] = largest_only
    return bundle.operating_point.model_copy(update=stated)


def bundled_choice(loaded: Loaded, evaluate: EvaluateConfig) -> Choice:
    """The operating point that a bundle brings along, with its certificate where that holds.

    Parameters
    ----------
    loaded : Loaded
        The point is that of the first bundle.
    evaluate : EvaluateConfig
        How is counted now.

    Raises
    ------
    ModelError
        If the certificate was written by another version.
    """
    bundle = loaded.bundle
    whose = "the bundle's" if len(loaded.bundles) == 1 else f"that of {bundle.name}"
    known = dict((bundle.validation or {}).get("certificate") or {})
    adopted = bool(known.pop("adopted", False))
    try:
        certificate = Certificate(**known) if known else None
    except TypeError as error:
        raise ModelError(
            f"{bundle.name}: expected a certificate as this version writes it; received {error}. "
            "Evaluate --split validation again."
        ) from error
    void = certificate_void(loaded, evaluate)
    if not adopted or certificate is None:
        chosen = "chosen on validation" if bundle.validation else "as configured, chosen on no case"
        return Choice(
            bundle.operating_point,
            {},
            f"{whose}, {chosen}",
            certificate if void is None else None,
        )
    if void is not None:
        return Choice(bundle.operating_point, {}, f"{whose}; not certified here: {void}")
    reason = f"{whose}, certified: {certificate.statement}"
    return Choice(bundle.operating_point, {}, reason, certificate, certified=True)


def certificate_void(
    loaded: Loaded, evaluate: EvaluateConfig | None = None, point: OperatingPoint | None = None
) -> str | None:
    """Why the first bundle's certificate does not hold for what predicts; None: it does.

    Parameters
    ----------
    loaded : Loaded
    evaluate : EvaluateConfig or None
        How is counted now; None: as the bundle was calibrated.
    point : OperatingPoint or None
        What is predicted at; None: the bundle's.
    """
    bundle = loaded.bundle
    if point is not None and point != bundle.operating_point:
        return "it was calibrated at another operating point"
    if len(loaded.models) > 1:
        return f"it was calibrated for one network, and {len(loaded.models)} predict together"
    if set(loaded.mirror_axes) != set(bundle.mirrored):
        with_them = ", ".join(bundle.mirrored) or "none"
        return f"it was calibrated with these axes mirrored: {with_them}"
    if loaded.models[0].overlap != bundle.overlapped:
        return f"it was calibrated with tiles that overlap by {bundle.overlapped:g}"
    if loaded.trained_otherwise is not None:
        return (
            f"it was calibrated for a network that computes in {loaded.trained_otherwise}, and "
            f"this device predicts in {loaded.device.precision}"
        )
    if evaluate is not None and evaluate.counting != bundle.counting:
        told = ", ".join(f"{name} {value}" for name, value in bundle.counting.items())
        return f"it was calibrated for {told}"
    return None


def choice_in_words(choice: Choice) -> list[str]:
    """Lines for the terminal: the operating point, why, what was tried, what is certified."""
    point, certificate = choice.operating_point, choice.certificate
    words = point_in_words(point.model_dump())
    lines = [f"operating point: {words} ({choice.reason})"]
    lines += [step_in_words(step) for step in choice.steps]
    lines += [
        f"gain over the configured point, {label}, in cases without a say in it: "
        f"{effect_in_words(effect)}"
        for label, effect in (choice.gain or {}).items()
    ]
    if certificate is None:
        return lines
    what = certificate.statement
    if certificate.threshold is not None and not choice.certified:
        what = (
            f"not adopted (evaluate.choose=certified adopts it): threshold "
            f"{certificate.threshold:g}, minimum size {certificate.min_size_mm3:g} mm³ would give "
            f"{what}"
        )
    return [*lines, f"certificate: {what}"]


def step_in_words(step: Mapping[str, Any]) -> str:
    """A step that was tried: whether it was adopted, why, its gain and its cost."""
    effects = "; ".join(
        effect_in_words(effect)
        if len(step["labels"]) == 1
        else f"{label}: {effect_in_words(effect)}"
        for label, effect in step["labels"].items()
    )
    verdict = "adopted" if step["adopted"] else "not adopted"
    change = f"{_value(step['from'])} → {_value(step['to'])}"
    return f"step {step['step']} {change}: {verdict} ({step['reason']}). {effects}"


def effect_in_words(effect: Mapping[str, Any]) -> str:
    """Gain and cost on one label, with 95 % intervals and p of the differences."""
    titles = {"lesion_sensitivity": "sensitivity", "false_positive_regions": "false positives"}
    parts = []
    for name in FIGURES:
        figure = effect.get(name)
        if figure is None or figure["difference"] is None:
            continue
        text = f"{titles.get(name, name)} {figure['difference']:+.3g}"
        if figure["ci95"] is not None:
            low, high = figure["ci95"]
            text += f" [{low:.3g}, {high:.3g}; {p_in_words(figure['p'])}]"
        parts.append(text)
    lost, removed = effect["lesions_lost"], effect["false_positives_removed"]
    return ", ".join([*parts, f"{lost} lesions lost, {removed} false positives removed"])


def _value(value: Any) -> str:
    words = {None: "none", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else f"{value:g}"


def used_in_words(point: OperatingPoint, loaded: Loaded) -> str:
    """The operating point of predictions, and whether the bundle's certificate holds for them."""
    bundle = loaded.bundle
    text = point_in_words(point.model_dump())
    certificate = (bundle.validation or {}).get("certificate") or {}
    if point != bundle.operating_point or not certificate.get("adopted"):
        return text
    void = certificate_void(loaded)
    if void is not None:
        return f"{text}; not certified: {void}"
    return f"{text}; certified: {certificate['statement']}"
