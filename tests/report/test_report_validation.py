import pytest

from segpipe.report.chance import Chance, chance_of_false_positive
from segpipe.report.validation import (
    read_validation,
    sensitivity_by_size,
    volume_error,
)

SETTINGS = {"threshold": 0.45, "min_size_mm3": 5.0}
CELL = {"low_probability": 0.5, "high_probability": 0.8, "low_mm3": 10, "high_mm3": 100}


def bundle(**changes):
    return {
        "weights_sha256": "aa",
        "operating_point": SETTINGS,
        "validation": {
            "cases": 3,
            "patients": 3,
            "summary": {},
            "by_size": [],
            "false_positive_chance": [
                {**CELL, "components": 10, "patients": 3, "chance": 0.4},
                {**CELL, "low_mm3": 100, "high_mm3": None, "components": 0, "chance": None},
                {**CELL, "low_probability": 0.8, "high_probability": 1.0, "components": 5,
                 "patients": 2, "chance": 0.0},
            ],
        },
        **changes,
    }  # fmt: skip


def test_chance_is_looked_up_by_size_and_probability():
    validation, reason = read_validation(bundle(), SETTINGS, "aa")
    assert reason == ""

    def chance(size, probability):
        return chance_of_false_positive(validation, "lesion", size, probability)

    assert chance(10, 0.5) == Chance(0.4, 10, patients=3)
    assert chance(99.9, 0.79) == Chance(0.4, 10, patients=3)
    assert chance(50, 0.8) == Chance(0.0, 5, patients=2)  # a measured 0 is a value
    assert chance(50, 1.0) == Chance(0.0, 5, patients=2)
    assert chance(100, 0.6) is None  # an empty bin was not measured
    assert chance(9, 0.6) is None
    assert chance(50, None) is None
    assert chance_of_false_positive(None, "lesion", 50, 0.6) is None


def test_a_component_too_small_to_have_been_counted_has_no_chance():
    facts = {**bundle()["validation"], "counting": {"min_size_mm3": 20.0}}
    validation, _ = read_validation(bundle(validation=facts), SETTINGS, "aa")
    assert chance_of_false_positive(validation, "lesion", 19.9, 0.6) is None
    assert chance_of_false_positive(validation, "lesion", 20, 0.6) == Chance(0.4, 10, patients=3)


def test_only_an_adopted_certificate_is_told():
    def told(adopted):
        facts = bundle()["validation"]
        facts["certificate"] = {"statement": "expected ≤ 0.1", "adopted": adopted, "threshold": 0.4}
        return read_validation(bundle(validation=facts), SETTINGS, "aa")[0].certificate

    assert told(True) == "expected ≤ 0.1"
    assert told(False) is None
    facts = bundle()["validation"]
    facts["certificate"] = {"statement": "expected ≤ 0.1", "adopted": True, "threshold": 0.4}
    void = "it was calibrated with no mirroring"
    found = read_validation(bundle(validation=facts), SETTINGS, "aa", void)[0]
    assert found.certificate is None
    assert found.not_certified == f"the bundle's does not hold here: {void}"
    assert read_validation(bundle(), SETTINGS, "aa")[0].certificate is None
    facts = bundle()["validation"]
    refused = {"threshold": None, "statement": "not certified: 6 are too few", "adopted": False}
    facts["certificate"] = refused
    found = read_validation(bundle(validation=facts), SETTINGS, "aa")[0]
    assert (found.certificate, found.not_certified) == (None, "6 are too few")


def test_figures_with_hysteresis_do_not_hold_without():
    core = {**SETTINGS, "core_threshold": 0.8}
    found, why = read_validation(bundle(operating_point=core), SETTINGS, "aa")
    assert found is None
    assert "minimum size 5 mm³, core 0.8" in why
    assert read_validation(bundle(operating_point=core), core, "aa")[0] is not None


@pytest.mark.parametrize(
    ("found", "settings", "weights", "reason"),
    [
        (None, SETTINGS, "aa", "the bundle's validation figures were not found"),
        (bundle(), SETTINGS, "bb", "other weights"),
        (bundle(), SETTINGS, None, "other weights"),
        (bundle(validation=None), SETTINGS, "aa", "this bundle was not validated"),
        (
            bundle(),
            {"threshold": 0.3, "min_size_mm3": 5.0},
            "aa",
            "validation was measured at threshold 0.45, minimum size 5 mm³; "
            "this prediction was made at threshold 0.3, minimum size 5 mm³",
        ),
        (
            bundle(validation={"counting": {"connectivity": 6}}),
            {**SETTINGS, "connectivity": 26},
            "aa",
            "validation counted 6-connected components; those of this prediction are 26-connected",
        ),
        (bundle(operating_point=None), SETTINGS, "aa", "an operating point that is not recorded"),
    ],
)
def test_figures_of_another_model_or_operating_point_are_not_used(found, settings, weights, reason):
    validation, why = read_validation(found, settings, weights)
    assert validation is None
    assert reason in why


def test_sensitivity_by_size_comes_with_the_wider_interval():
    rows = [{"label": "a", "low_mm3": 3, "high_mm3": 30, "lesions": 10, "detected": 8},
            {"low_mm3": 30, "high_mm3": None, "lesions": 0, "detected": 0},
            {"low_mm3": 30, "high_mm3": None, "lesions": 10, "detected": 8,
             "sensitivity_ci95": [0.2, 0.9]}]  # fmt: skip
    facts = {**bundle()["validation"], "by_size": rows}
    validation, _ = read_validation(bundle(validation=facts), SETTINGS, "aa")
    first, second, third = sensitivity_by_size(validation)
    assert (first.label, first.sensitivity) == ("a", 0.8)
    assert first.interval == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson, 8 of 10
    assert (second.sensitivity, second.interval) == (None, None)
    assert third.interval == pytest.approx((0.2, 0.9433), abs=1e-4)  # low over patients


def test_volume_error_is_told_for_one_label_only_and_never_made_up():
    def error(summary):
        facts = {**bundle()["validation"], "summary": summary}
        return volume_error(read_validation(bundle(validation=facts), SETTINGS, "aa")[0])

    figures = {
        "volume_error_ml": {"median": -0.5, "iqr": [-1.0, 0.25], "defined": 10},
        "relative_volume_error": {"median": None},
    }
    found = error({"lesion": figures})
    assert (found.scans, found.median_ml, found.middle_half_ml) == (10, -0.5, (-1.0, 0.25))
    assert (found.median_relative, found.enough) == (None, True)
    assert not error(
        {"x": {"volume_error_ml": {**figures["volume_error_ml"], "defined": 9}}}
    ).enough
    assert error({"lesion": {}}) is None
    assert error({"lesion": {"volume_error_ml": {"median": None, "iqr": None}}}) is None
    assert error({"a": figures, "b": figures}) is None
    assert volume_error(None) is None


def test_pooled_sensitivity_is_read_where_the_bundle_records_it():
    known = {"detected": 8, "lesions": 10, "value": 0.8, "ci95": [0.5, 0.9]}
    facts = {**bundle()["validation"], "sensitivity": known}
    validation, _ = read_validation(bundle(validation=facts), SETTINGS, "aa")
    assert validation.sensitivity == known
    assert read_validation(bundle(), SETTINGS, "aa")[0].sensitivity is None
