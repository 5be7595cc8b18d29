"""The table is exact: reading it back gives what scoring gives."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.evaluate.chance import false_positive_chance
from segpipe.evaluate.operating_point import (
    choose,
    operating_curve,
    validation_tallies,
)
from segpipe.evaluate.paired import Point, found_lesions, lesion_groups, pair_lesions
from segpipe.evaluate.score import score_case, score_labels, tabulate
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.table import (
    COLUMNS,
    THRESHOLDS,
    at_threshold,
    component_table,
    read_views,
    views_of_cases,
)
from segpipe.report.chance import Chance, chance_of_false_positive
from segpipe.report.validation import Validation
from segpipe.volume import Volume

AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])
LABELS = {"lesion": 1}


def random_case(seed):
    rng = np.random.default_rng(seed)
    reference = ndimage.gaussian_filter(rng.random((14, 15, 13)), 1.3) > 0.55
    noise = ndimage.gaussian_filter(rng.random(reference.shape), 0.8)
    blurred = ndimage.gaussian_filter(reference.astype(float), 0.7)
    p = np.clip(0.7 * blurred + 2.2 * (noise - 0.4), 0, 1).astype(np.float32)
    return Volume(reference.astype(np.uint8), AFFINE), Volume(p, AFFINE)


def table_of(cases, settings=None):
    settings = settings or ScoreSettings()
    return component_table(
        view
        for name, pair in cases.items()
        for view in tabulate(name, *pair, LABELS, settings, THRESHOLDS)
    )


def curve_of(table, config, cases):
    return operating_curve(validation_tallies(table, config, list(cases), OperatingPoint()))


def chosen(table, config, cases, point=None):
    point = point or OperatingPoint()
    tallies = validation_tallies(table, config, list(cases), point)
    return choose(tallies, config, point, {case: case for case in cases})


@pytest.fixture(scope="module")
def cohort():
    cases = {f"c{seed}": random_case(seed) for seed in range(3)}
    empty = np.zeros((6, 6, 6), np.uint8)
    false = np.zeros((6, 6, 6), np.float32)
    false[2, 2, 2] = 0.62
    cases["free"] = (Volume(empty, AFFINE), Volume(false, AFFINE))
    return cases, table_of(cases)


def scored(cases, config, threshold, size):
    point = OperatingPoint(threshold=threshold, min_size_mm3=size)
    settings = ScoreSettings.from_config(config, point)
    return [score_case(name, *pair, LABELS, settings)[0] for name, pair in cases.items()]


@pytest.mark.parametrize(
    "rule", ["any", "iou:0.2", "overlap:0.3", "panoptic", "autopet", "brats23-met", "msseg"]
)
@pytest.mark.parametrize("smallest", [0.0, 12.0])
def test_curve_equals_scoring_at_every_point(cohort, rule, smallest):
    cases, _ = cohort
    config = EvaluateConfig(rule=rule, min_size_mm3=smallest, min_sizes_mm3=(0.0, 9.0, 40.0))
    table = table_of(cases, ScoreSettings.from_config(config, OperatingPoint()))
    curve = curve_of(table, config, cases)
    assert len(curve) == len(THRESHOLDS) * 3
    for point in curve.iloc[::5].itertuples():
        rows = scored(cases, config, point.threshold, point.min_size_mm3)
        wrong = np.mean([row["false_positive_regions"] for row in rows])
        f1 = np.mean([row["lesion_f1"] for row in rows if row["lesion_f1"] is not None])
        found = [row["lesion_sensitivity"] for row in rows if row["lesion_f1"] is not None]
        lesions = sum(row["reference_lesions"] for row in rows)
        pooled = sum(row["detected_lesions"] for row in rows) / lesions
        assert point.false_positive_regions == pytest.approx(wrong)
        assert point.lesion_f1 == pytest.approx(f1)
        assert point.lesion_sensitivity == pytest.approx(np.mean(found))
        assert point.pooled_sensitivity == pytest.approx(pooled)


@pytest.mark.parametrize("rule", ["any", "brats23-met", "msseg"])
def test_scores_that_view_the_table_equal_those_made_anew(cohort, rule):
    cases, _ = cohort
    settings = ScoreSettings(rule=rule, threshold=0.4, removal_size_mm3=9.0, core_threshold=0.6)
    table = table_of(cases, settings)
    for name, pair in cases.items():
        rows = at_threshold(table[table["case"] == name], 0.4)
        views = {view.label: view for view in read_views(rows)}
        assert views
        (viewed,) = score_labels(name, *pair, LABELS, settings, views=views)
        (anew,) = score_labels(name, *pair, LABELS, settings)
        assert viewed.row == anew.row
        assert viewed.detail == anew.detail
        shape = pair[0].shape
        assert np.array_equal(viewed.counts.painted(shape), anew.counts.painted(shape))


def test_rows_describe_components():
    reference = np.zeros((7, 1, 1), np.uint8)
    reference[[1, 2, 5]] = 1
    p = np.array([0, 0.3, 0.9, 0.6, 0, 0, 0.4], np.float32).reshape(7, 1, 1)
    regions = {"low": np.arange(7).reshape(7, 1, 1) < 4}
    pair = Volume(reference, AFFINE), Volume(p, AFFINE)
    table = component_table(
        tabulate("a", *pair, LABELS, ScoreSettings(), [0.5, 0.35], regions=regions)
    )
    assert list(table.columns) == list(COLUMNS)
    at = table[table["threshold"] == 0.35].set_index(["side", "component"])
    region = at.loc[("prediction", 1)]
    assert (region["voxels"], region["region"]) == (2, "low")
    assert region["size_mm3"] == pytest.approx(6.0)
    assert region["mean_probability"] == pytest.approx(0.75)
    assert region["max_probability"] == pytest.approx(0.9)
    assert (region["matched"], region["overlap_voxels"], region["links"]) == (1, 1, "1:1")
    assert region["matched_size_mm3"] == pytest.approx(6.0)
    false = at.loc[("prediction", 2)]
    assert (false["matched"], false["links"], false["region"]) == (0, "", "none")
    lesion = at.loc[("reference", 1)]
    assert (lesion["matched"], lesion["mean_probability"]) == (1, pytest.approx(0.6))
    assert len(table[(table["threshold"] == 0.5) & (table["side"] == "prediction")]) == 1


def test_table_survives_parquet_and_csv(cohort, tmp_path):
    cases, table = cohort
    table.to_parquet(tmp_path / "t.parquet")
    table.to_csv(tmp_path / "t.csv", index=False)
    config = EvaluateConfig()
    expected = curve_of(table, config, cases)
    for back in (
        pd.read_parquet(tmp_path / "t.parquet"),
        pd.read_csv(tmp_path / "t.csv", keep_default_na=False),
    ):
        pd.testing.assert_frame_equal(curve_of(back, config, cases), expected)


def test_nothing_found_and_nothing_there():
    nothing = Volume(np.zeros((3, 3, 3), np.uint8), AFFINE)
    p = nothing.with_array(np.zeros((3, 3, 3), np.float32))
    views = tabulate("a", nothing, p, LABELS, ScoreSettings(), THRESHOLDS)
    assert list(component_table(views).columns) == list(COLUMNS)
    assert len(component_table(views)) == 0


@pytest.mark.parametrize("choose_by", ["f1", "sensitivity"])
def test_the_configured_minimum_size_is_always_among_what_is_chosen_from(choose_by):
    reference = np.zeros((9, 3, 3), np.uint8)
    reference[1:3, :2, :2] = 1  # 8 voxels of 3 mm³
    reference[6, 1, 1] = 1  # 1 voxel
    pair = Volume(reference, AFFINE), Volume(reference.astype(np.float32) * 0.9, AFFINE)
    config = EvaluateConfig(choose=choose_by, min_sizes_mm3=(0.0, 5.0))
    point = OperatingPoint(min_size_mm3=2.0)
    choice = chosen(table_of({"a": pair}), config, {"a": pair}, point)
    assert choice.operating_point.min_size_mm3 == 2.0
    assert choice.figures["lesion_f1"] == 1.0


def test_f1_choice_is_the_nearest_within_a_standard_error_of_the_best(cohort):
    cases, table = cohort
    config = EvaluateConfig(choose="f1")
    choice = chosen(table, config, cases)
    curve = curve_of(table, config, cases)
    tallies = validation_tallies(table, config, list(cases), OperatingPoint())
    f1 = tallies.f1[:3, 0].reshape(3, -1).T  # the three cases with lesions
    best = f1[np.argmax(f1.mean(axis=1))]
    error = (best - f1).std(axis=1, ddof=1) / np.sqrt(3)
    default = f1[curve[np.isclose(curve["threshold"], 0.5) & (curve["min_size_mm3"] == 0)].index[0]]
    good = (best.mean() - f1.mean(axis=1) <= error + 1e-9) & (f1.mean(axis=1) >= default.mean())
    away = (curve["threshold"] - 0.5).abs()
    assert away[good].min() == pytest.approx(abs(choice.operating_point.threshold - 0.5))
    assert choice.figures["lesion_f1"] <= curve["lesion_f1"].max()
    assert choice.chosen
    alone = choose(tallies, config, OperatingPoint(), dict.fromkeys(cases, "one"))
    assert (alone.chosen, alone.operating_point) == (False, OperatingPoint())
    assert alone.reason == "as configured: one patient says nothing about others"
    assert choice.operating_point.threshold == choice.figures["threshold"]
    if choice.figures["lesion_f1"] < curve["lesion_f1"].max():
        assert "within one standard error of the highest mean lesion F1" in choice.reason


def test_sensitivity_choice_has_fewest_false_positives_above_the_floor(cohort):
    cases, table = cohort
    config = EvaluateConfig(choose="sensitivity", sensitivity_floor=0.7)
    choice = chosen(table, config, cases)
    curve = curve_of(table, config, cases)
    allowed = curve[curve["lesion_sensitivity"] >= 0.7]
    assert choice.chosen
    assert choice.figures["lesion_sensitivity"] >= 0.7
    fewest = allowed["false_positive_regions"].min()
    assert choice.figures["false_positive_regions"] == fewest


def test_unreachable_floor_is_said(cohort):
    cases, table = cohort
    high = table[table["threshold"] > 0.85]
    config = EvaluateConfig(choose="sensitivity", sensitivity_floor=1.0)
    choice = chosen(high, config, cases)
    best = curve_of(high, config, cases)["lesion_sensitivity"].max()
    assert choice.figures["lesion_sensitivity"] == best < 1
    assert "not reached" in choice.reason


def test_fixed_choice_keeps_the_configured_point_and_its_figures(cohort):
    cases, table = cohort
    config, point = EvaluateConfig(choose="fixed"), OperatingPoint(threshold=0.6, min_size_mm3=9)
    choice = chosen(table, config, cases, point)
    rows = scored(cases, config, 0.6, 9)
    assert choice.operating_point == point
    assert not choice.chosen
    expected = np.mean([row["false_positive_regions"] for row in rows])
    assert choice.figures["false_positive_regions"] == pytest.approx(expected)
    elsewhere = chosen(table, config, cases, OperatingPoint(threshold=0.37))
    assert elsewhere.figures["lesion_f1"] is None


def test_without_lesions_the_configured_point_stays(cohort):
    _, table = cohort
    choice = chosen(table, EvaluateConfig(), ["free"], OperatingPoint(threshold=0.6))
    assert choice.operating_point.threshold == 0.6
    assert not choice.chosen
    assert choice.figures["false_positive_regions"] == 1.0
    assert choice.figures["lesion_f1"] is None


def test_a_size_that_a_rotated_affine_rounds_down_stays_in_its_bin():
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("x", 30, degrees=True).as_matrix()
    affine = turn.astype(np.float32).astype(float)  # as files store it
    reference, p = np.zeros((5, 3, 2), np.uint8), np.zeros((5, 3, 2), np.float32)
    reference[:], p[:] = 1, 0.65
    pair = Volume(reference, affine), Volume(p, affine)
    assert 29.9999 < 30 * pair[0].voxel_volume_mm3 < 30
    (score,) = score_labels("a", *pair, LABELS, ScoreSettings())
    found = {row["low_mm3"]: row["detected"] for row in score.detail["by_size"]}
    assert found == {0: 0, 10: 0, 30: 1, 100: 0, 300: 0, 1000: 0}
    wrong = Volume(0 * reference, affine), pair[1]
    (score,) = score_labels("a", *wrong, LABELS, ScoreSettings())
    found = {row["low_mm3"]: row["false_positive_regions"] for row in score.detail["by_size"]}
    assert found == {0: 0, 10: 0, 30: 1, 100: 0, 300: 0, 1000: 0}
    table = table_of({"a": pair})
    bins = false_positive_chance(table, OperatingPoint(), EvaluateConfig())
    (measured,) = [b for b in bins if b["components"]]
    assert (measured["low_mm3"], measured["low_probability"]) == (30, 0.6)
    validation = Validation(1, 1, {}, (), bins, 0.5, 0.0, counted_from_mm3=30.0)
    size = 30 * pair[0].voxel_volume_mm3
    assert chance_of_false_positive(validation, "lesion", size, 0.65) == Chance(0.0, 1, patients=1)
    lesions = found_lesions(table, ScoreSettings(), {"a": Point(0.5, 0.0)})
    groups = lesion_groups(pair_lesions(lesions, lesions, "lesion"), {})["by_size"]
    assert [g["low_mm3"] for g in groups if g["lesions"]] == [30]


def test_chance_counts_every_region_once(cohort):
    cases, table = cohort
    config, point = EvaluateConfig(), OperatingPoint(threshold=0.4)
    bins = false_positive_chance(table, point, config)
    rows = scored(cases, config, 0.4, 0)
    assert sum(b["components"] for b in bins) == sum(r["predicted_regions"] for r in rows)
    wrong = sum(r["false_positive_regions"] for r in rows)
    assert sum(b["false_positives"] for b in bins) == wrong > 0
    for b in bins:
        expected = b["false_positives"] / b["components"] if b["components"] else None
        assert b["chance"] == expected
    (free,) = [b for b in false_positive_chance(
        table[table["case"] == "free"], point, config) if b["components"]]  # fmt: skip
    assert (free["low_mm3"], free["high_mm3"]) == (0, 30)
    assert (free["low_probability"], free["high_probability"], free["chance"]) == (0.6, 0.7, 1)


def test_chance_knows_that_the_regions_of_a_patient_resemble_each_other():
    marks = np.zeros((11, 11, 3), np.uint8)
    marks[1::2, 1::2, 1] = 1  # 25 regions of one voxel
    p = marks.astype(np.float32) * 0.65
    cases = {
        "right": (Volume(marks, AFFINE), Volume(p, AFFINE)),
        "wrong": (Volume(0 * marks, AFFINE), Volume(p, AFFINE)),
    }
    table, point, config = table_of(cases), OperatingPoint(), EvaluateConfig()

    def measured(**more):
        bins = false_positive_chance(table, point, config, **more)
        (found,) = [b for b in bins if b["components"]]
        validation = Validation(2, 2, {}, (), bins, 0.5, 0.0)
        size = Volume(marks, AFFINE).voxel_volume_mm3
        return found, chance_of_false_positive(validation, "lesion", size, 0.65)

    found, chance = measured(bootstrap=200)
    assert (found["components"], found["chance"], found["chance_ci95"]) == (50, 0.5, [0.0, 1.0])
    assert found["patients"] == chance.patients == 2
    assert chance.interval == (0.0, 1.0)
    for more in ({}, {"bootstrap": 200, "patients": dict.fromkeys(cases, "one")}):
        found, chance = measured(**more)
        assert found["chance_ci95"] is None
        assert chance.patients == (1 if "patients" in more else 2)
        assert chance.interval == pytest.approx((0.3664, 0.6336), abs=1e-4)  # Wilson's of 25/50


def test_views_of_all_cases_are_those_of_each(cohort):
    cases, table = cohort
    views = views_of_cases(table, 0.6)
    assert list(views) == list(cases)
    for case, own in views.items():
        (alone,) = read_views(at_threshold(table[table["case"] == case], 0.6))
        assert list(own) == ["lesion"] == [alone.label]
        assert component_table([own["lesion"]]).equals(component_table([alone]))
    assert "free" not in views_of_cases(table, 0.65)  # its only component is at 0.62
    assert views_of_cases(table, 0.123) == {}
