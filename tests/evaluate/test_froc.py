import numpy as np
import pytest

from segpipe.evaluate.froc import CPM_RATES, cpm, froc_by_label, sensitivity_at
from segpipe.evaluate.score import score_labels, tabulate
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.table import THRESHOLDS, component_table
from segpipe.volume import Volume

WRONG = np.array([10.0, 4.0, 1.0, 0.0])
FOUND = np.array([0.9, 0.8, 0.5, 0.1])


def test_sensitivity_is_a_step_that_some_threshold_reached():
    reached = [float(sensitivity_at(WRONG, FOUND, rate)) for rate in (0.5, 1, 3.9, 4, 100)]
    assert reached == [0.1, 0.5, 0.5, 0.8, 0.9]
    assert float(sensitivity_at(np.array([3.0]), np.array([0.9]), 1.0)) == 0.0
    assert np.isnan(sensitivity_at(WRONG, np.full(4, np.nan), 1.0))


def test_cpm_is_the_mean_over_seven_rates():
    assert len(CPM_RATES) == 7
    assert float(cpm(WRONG, FOUND)) == pytest.approx((0.1 * 3 + 0.5 * 2 + 0.8 * 2) / 7)
    stacked = cpm(np.stack([WRONG, WRONG]), np.stack([FOUND, FOUND / 2]))
    assert stacked[1] == pytest.approx(stacked[0] / 2)


def cohort():
    """Two scans: a lesion at 0.7 beside a component at 0.55; a lesion at 0.3, nothing beside."""
    volumes = {}
    for case, lesion, false in (("a", 0.7, 0.55), ("b", 0.3, 0.0)):
        reference, p = np.zeros((9, 9, 9), np.uint8), np.zeros((9, 9, 9), np.float32)
        reference[1:3, 1:3, 1:3] = 1
        p[1:3, 1:3, 1:3], p[6, 6, 6] = lesion, false
        volumes[case] = Volume(reference, np.eye(4)), Volume(p, np.eye(4))
    return volumes


def test_curve_counts_over_thresholds_and_sizes():
    settings = ScoreSettings(froc_sizes_mm3=(0.0, 2.0), bootstrap=100)
    table = component_table(
        view
        for case, pair in cohort().items()
        for view in tabulate(case, *pair, {"l": 1}, settings, (0.2, 0.5, 0.6))
    )
    patients = {"a": "a", "b": "b", "empty": "c"}  # a third scan: nothing there, nothing found
    curve = froc_by_label(table, patients, settings)["l"]
    points = {(p["threshold"], p["min_size_mm3"]): p for p in curve["points"]}
    assert points[0.2, 0.0]["sensitivity"] == 1.0
    assert points[0.2, 0.0]["false_positive_regions"] == pytest.approx(1 / 3)
    assert points[0.5, 0.0]["sensitivity"] == 0.5
    assert points[0.6, 0.0]["false_positive_regions"] == 0
    assert points[0.2, 2.0]["false_positive_regions"] == 0
    small, large = curve["cpm"]
    assert small["value"] == pytest.approx((0.5 * 2 + 1.0 * 5) / 7)
    assert (small["sensitivity_at"]["0.125"], small["sensitivity_at"]["0.5"]) == (0.5, 1.0)
    assert large["value"] == 1.0
    low, high = small["ci95"]
    assert 0 <= low <= small["value"] <= high <= 1


def test_a_further_threshold_makes_no_better_cpm():
    settings, found = ScoreSettings(froc_sizes_mm3=(0.0,), bootstrap=50), []
    reference, p = np.zeros((9, 9, 9), np.uint8), np.zeros((9, 9, 9), np.float32)
    reference[1:3, 1:3, 1:3] = 1
    p[1:3, 1:3, 1:3], p[4::2, 4::2, 4::2] = 0.32, 0.31  # 27 false positives just below the lesion
    pair = Volume(reference, np.eye(4)), Volume(p, np.eye(4))
    for thresholds in (THRESHOLDS, sorted({*THRESHOLDS, 0.315})):
        table = component_table(tabulate("a", *pair, {"l": 1}, settings, thresholds))
        found.append(froc_by_label(table, {"a": "a"}, settings)["l"])
    assert found[0]["cpm"] == found[1]["cpm"]
    assert found[0]["cpm"][0]["value"] == 0
    (further,) = [one for one in found[1]["points"] if one["threshold"] == 0.315]
    assert (further["sensitivity"], further["false_positive_regions"]) == (1, 0)


def test_curve_without_lesions_is_undefined_and_masks_have_none():
    settings = ScoreSettings(froc_sizes_mm3=(0.0,), bootstrap=10)
    _, p = cohort()["a"]
    nothing = p.with_array(np.zeros(p.shape, np.uint8))
    views = tabulate("a", nothing, p, {"l": 1}, settings, (0.2,))
    curve = froc_by_label(component_table(views), {"a": "a"}, settings)["l"]
    assert curve["points"][0] == {
        "threshold": 0.2, "min_size_mm3": 0.0, "sensitivity": None, "false_positive_regions": 2.0,
    }  # fmt: skip
    assert curve["cpm"][0]["value"] is None
    (mask,) = score_labels("a", nothing, nothing, {"l": 1}, settings)
    assert froc_by_label(component_table([mask.view]), {"a": "a"}, settings) == {}
