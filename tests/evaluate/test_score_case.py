"""Scores against a script of a few lines of scipy, and the promised fields and nulls."""

import json

import numpy as np
import pytest
from scipy import ndimage

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.errors import DataError, GeometryError
from segpipe.evaluate.compare import compare_rows
from segpipe.evaluate.rows import DETAIL_FIGURES, ROW_FIGURES
from segpipe.evaluate.score import score_case, score_labels
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.summary import NOT_SUMMARISED, score_document
from segpipe.volume import Volume

FIELDS = [
    *("case", "label", "status", "flags", "dice", "sensitivity", "precision", "hd95_mm"),
    *("surface_dice", "reference_volume_ml", "prediction_volume_ml", "reference_lesions"),
    *("predicted_regions", "detected_lesions", "missed_lesions", "true_positive_regions"),
    *("false_positive_regions", "false_positive_volume_ml", "lesion_sensitivity"),
    *("lesion_precision", "lesion_f1"),
]
SCIPY_RULES = ScoreSettings()


def oblique(rng):
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.4, 6, 3)
    affine[:3, 3] = rng.uniform(-90, 90, 3)
    return affine


def random_masks(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(8, 20, 3)
    masks = [rng.random(shape) < density for density in rng.uniform(0.01, 0.6, 2)]
    if seed % 2:
        masks = [ndimage.gaussian_filter(rng.random(shape), 1.2) > 0.54 for _ in masks]
    return *masks, oblique(rng)


def scipy_script(r, p, affine, min_mm3):
    mm3 = abs(np.linalg.det(affine[:3, :3]))
    (rl, n), (pl, m) = (ndimage.label(x, np.ones((3, 3, 3))) for x in (r, p))
    lesions = [k for k in range(1, n + 1) if (rl == k).sum() * mm3 >= min_mm3]
    regions = [k for k in range(1, m + 1) if (pl == k).sum() * mm3 >= min_mm3]
    found = [k for k in lesions if np.isin(pl[rl == k], regions).any()]
    wrong = [k for k in regions if not r[pl == k].any()]
    right = [k for k in regions if np.isin(rl[pl == k], lesions).any()]
    missed = len(lesions) - len(found)
    return {
        "dice": 2 * (r & p).sum() / (r.sum() + p.sum()),
        "sensitivity": (r & p).sum() / r.sum(),
        "precision": (r & p).sum() / p.sum(),
        "reference_volume_ml": r.sum() * mm3 / 1000,
        "prediction_volume_ml": p.sum() * mm3 / 1000,
        "reference_lesions": len(lesions),
        "predicted_regions": len(right) + len(wrong),
        "detected_lesions": len(found),
        "missed_lesions": missed,
        "true_positive_regions": len(right),
        "false_positive_regions": len(wrong),
        "false_positive_volume_ml": np.isin(pl, wrong).sum() * mm3 / 1000,
        "lesion_f1": len(found) / (len(found) + (len(wrong) + missed) / 2) if lesions else None,
    }


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("voxels", [0, 2.5])
def test_equals_scipy_on_random_volumes(seed, voxels):
    r, p, affine = random_masks(seed)
    limit = voxels * abs(np.linalg.det(affine[:3, :3]))
    settings = ScoreSettings(min_size_mm3=limit)
    reference, prediction = Volume(r.astype(np.uint8), affine), Volume(p.astype(np.uint8), affine)
    (row,) = score_case("c", reference, prediction, {"lesion": 1}, settings)
    for name, value in scipy_script(r, p, affine, limit).items():
        assert row[name] == pytest.approx(value, rel=1e-12, abs=0), name


def volume(values, affine=None):
    array = np.asarray(values)
    return Volume(array.reshape((*array.shape, 1, 1)), np.eye(4) if affine is None else affine)


def test_row_has_the_promised_fields_and_nulls():
    nothing = volume(np.zeros(5, np.uint8))
    (row,) = score_case("c", nothing, nothing, {"lesion": 1}, ScoreSettings())
    assert list(row) == FIELDS
    assert FIELDS[4:] == list(ROW_FIGURES)
    (score,) = score_labels("c", nothing, nothing, {"lesion": 1}, ScoreSettings())
    assert [name for name in score.detail if name not in NOT_SUMMARISED] == list(DETAIL_FIGURES)
    undefined = {name for name, value in row.items() if value is None}
    scores = {"dice", "sensitivity", "precision", "hd95_mm", "surface_dice"}
    assert undefined == scores | {"lesion_sensitivity", "lesion_precision", "lesion_f1"}
    assert row["false_positive_regions"] == row["reference_lesions"] == 0


def test_lesion_free_case_has_false_positives_and_no_f1():
    nothing, invented = volume(np.zeros(6, np.uint8)), volume(np.array([1, 0, 1, 1, 0, 0]))
    (row,) = score_case("c", nothing, invented, {"lesion": 1}, ScoreSettings())
    assert row["false_positive_regions"] == 2
    assert row["false_positive_volume_ml"] == 0.003
    assert (row["lesion_precision"], row["lesion_f1"], row["lesion_sensitivity"]) == (0, None, None)


def test_ignore_label_counts_for_nobody():
    reference = volume(np.array([1, 0, 9, 9, 0, 1, 9], np.uint8))
    prediction = volume(np.array([1, 0, 1, 1, 0, 0, 1], np.uint8))
    settings = ScoreSettings(ignore_label=9)
    (row,) = score_case("c", reference, prediction, {"lesion": 1}, settings)
    assert (row["predicted_regions"], row["false_positive_regions"]) == (1, 0)
    assert row["dice"] == pytest.approx(2 / 3)
    assert row["prediction_volume_ml"] == 0.001


def test_lesion_below_the_limit_is_neither_required_nor_a_false_positive():
    reference = volume(np.array([1, 0, 0, 1, 1, 1, 0, 0]))
    prediction = volume(np.array([1, 1, 0, 0, 1, 1, 0, 1]))
    settings = ScoreSettings(min_size_mm3=2)
    (score,) = score_labels("c", reference, prediction, {"lesion": 1}, settings)
    assert score.row["reference_lesions"] == score.row["detected_lesions"] == 1
    assert (score.row["predicted_regions"], score.row["false_positive_regions"]) == (1, 0)
    assert (score.detail["ignored_lesions"], score.detail["ignored_regions"]) == (1, 1)
    assert (score.detail["removed_regions"], score.detail["removed_volume_ml"]) == (1, 0.001)
    assert score.detail["recognition_quality"] == 1.0  # what is ignored is no error there either
    assert score.detail["panoptic_quality"] == pytest.approx(2 / 3)


def test_removal_changes_the_mask_and_says_what_died_by_it():
    reference, prediction = volume(np.array([1, 1, 0, 1, 1])), volume(np.array([1, 0, 0, 1, 1]))
    settings = ScoreSettings(removal_size_mm3=2)
    (score,) = score_labels("c", reference, prediction, {"lesion": 1}, settings)
    assert score.row["prediction_volume_ml"] == 0.002
    assert (score.row["detected_lesions"], score.detail["lesions_lost"]) == (1, 1)


@pytest.mark.parametrize(
    ("prediction", "most", "flagged"),
    [
        ([1] * 13, 7, True),
        ([1] * 9 + [0] * 4, 5, True),
        ([1] * 7 + [0] * 6, 4, False),  # few
        ([1, 0] * 6 + [1], 1, False),
        ([0] * 13, 0, False),
    ],
)
def test_a_region_that_finds_most_of_many_lesions_is_flagged(prediction, most, flagged):
    reference = volume(np.array([1, 0] * 6 + [1], np.uint8))
    (score,) = score_labels(
        "c", reference, volume(np.array(prediction, np.uint8)), {"lesion": 1}, ScoreSettings()
    )
    assert score.detail["most_lesions_by_one_region"] == most
    found = score.row["detected_lesions"]
    words = f"one predicted region found {most} of the {found} lesions found: see Dice as well"
    assert score.row["flags"] == ([words] if flagged else [])


def test_lesions_that_a_region_touches_and_does_not_find_are_not_flagged():
    reference, block = np.zeros((60, 12, 12), np.uint8), np.zeros((60, 12, 12), np.uint8)
    for start in range(0, 60, 6):
        reference[start : start + 3, :3, :3] = 1
    block[:57] = 1
    pair = Volume(reference, np.eye(4)), Volume(block, np.eye(4))
    (score,) = score_labels("c", *pair, {"lesion": 1}, ScoreSettings(rule="msseg"))
    assert score.row["detected_lesions"] == 0
    assert (score.row["flags"], score.detail["most_lesions_by_one_region"]) == ([], 0)


def test_half_of_the_lesions_found_by_one_region_is_not_most():
    reference = volume(np.array([1, 0] * 10, np.uint8))
    prediction = volume(np.array([1] * 9 + [0] + [1, 0] * 5, np.uint8))
    (row,) = score_case("c", reference, prediction, {"lesion": 1}, ScoreSettings())
    assert (row["detected_lesions"], row["flags"]) == (10, [])


def test_numbered_lesions_touch_without_merging():
    reference, prediction = volume(np.array([7, 7, 3, 3, 0])), volume(np.array([1, 0, 0, 0, 0]))
    settings = ScoreSettings(reference_instances=True)
    (row,) = score_case("c", reference, prediction, {"lesion": None}, settings)
    assert (row["reference_lesions"], row["detected_lesions"], row["missed_lesions"]) == (2, 1, 1)
    assert row["reference_volume_ml"] == 0.004


def test_several_labels_and_values_together():
    reference, prediction = volume(np.array([1, 2, 0, 2])), volume(np.array([1, 1, 0, 2]))
    labels = {"core": 1, "edge": 2, "whole": (1, 2)}
    rows = score_case("c", reference, prediction, labels, ScoreSettings())
    assert [row["label"] for row in rows] == ["core", "edge", "whole"]
    assert [row["dice"] for row in rows] == [pytest.approx(2 / 3), pytest.approx(2 / 3), 1.0]
    (only,) = score_case("c", reference, prediction, labels, ScoreSettings(), only=["edge"])
    assert only == rows[1]


def test_probabilities_are_cut_strictly_and_nan_is_flagged():
    reference = volume(np.array([1, 1, 0, 0], np.uint8))
    p = volume(np.array([0.5, 0.51, 0.2, np.nan], np.float32))
    (row,) = score_case("c", reference, p, {"lesion": 1}, ScoreSettings(), flags=["seen"])
    assert row["prediction_volume_ml"] == 0.001
    assert row["flags"] == ["seen", "1 NaN probabilities counted as 0"]
    (lower,) = score_case("c", reference, p, {"lesion": 1}, ScoreSettings(threshold=0.4))
    assert lower["dice"] == 1.0


def test_class_probabilities():
    p = np.array([[0.4, 0.2], [0.1, 0.3], [0.2, 0.5]], np.float32).reshape(3, 1, 1, 2)
    reference = volume(np.array([1, 2, 2], np.uint8))
    labels = {"a": 1, "b": 2}
    rows = score_case("c", reference, Volume(p, np.eye(4)), labels, ScoreSettings())
    assert [row["prediction_volume_ml"] for row in rows] == [0.001, 0.001]
    with pytest.raises(DataError, match=r"expected 1 maps \(a\); received 2 maps"):
        score_case("c", reference, Volume(p, np.eye(4)), {"a": 1}, ScoreSettings())


def test_values_that_are_nothing_are_refused():
    reference = volume(np.array([1, 0], np.uint8))
    with pytest.raises(DataError, match=r"received values from 0\.5 to 1\.5"):
        score_case("c", reference, volume(np.array([0.5, 1.5])), {"lesion": 1}, ScoreSettings())


def test_grids_must_agree():
    a = volume(np.array([1, 0], np.uint8))
    with pytest.raises(GeometryError, match="on one grid"):
        score_case("c", a, volume(a.array.ravel(), np.diag([2, 1, 1, 1])), {"l": 1}, SCIPY_RULES)


def test_regions_get_their_own_counts():
    reference, prediction = (
        volume(np.array([1, 0, 0, 0, 1, 0, 0])),
        volume(np.array([1, 0, 1, 0, 0, 0, 1])),
    )
    regions = {
        "left": np.array([1, 1, 1, 0, 0, 0, 0], bool).reshape(7, 1, 1),
        "right": np.array([0, 0, 0.2, 0, 0.9, 0, 0]).reshape(7, 1, 1),
    }
    (score,) = score_labels(
        "c", reference, prediction, {"lesion": 1}, ScoreSettings(), regions=regions
    )
    found = {
        name: (c["detected_lesions"], c["missed_lesions"], c["false_positive_regions"])
        for name, c in score.detail["regions"].items()
    }
    assert found == {"left": (1, 0, 1), "right": (0, 1, 0), "none": (0, 0, 1)}


def test_volume_errors_both_ways_do_not_cancel():
    masks = volume(np.array([1, 1, 1, 0])), volume(np.array([1, 0, 0, 0]))
    pairs = {name: masks[:: (-1) ** k] for k, name in enumerate("abcdef")}
    scores = [score_labels(n, *pair, {"lesion": 1}, SCIPY_RULES)[0] for n, pair in pairs.items()]
    document = score_document(SCIPY_RULES, [s.row for s in scores], [s.detail for s in scores])
    summary = document["summary"]["lesion"]
    assert summary["volume_error_ml"]["mean"] == 0
    assert summary["absolute_volume_error_ml"]["mean"] == pytest.approx(0.002)
    # small errors on one side are better, whichever their sign
    better = [{**s.row, "absolute_volume_error_ml": 0.0005 * (1 + k)} for k, s in enumerate(scores)]
    worse = [{**row, "absolute_volume_error_ml": 0.005} for row in better]
    compared = compare_rows(better, worse)["lesion"]
    assert compared["absolute_volume_error_ml"]["better"] == "a"


def test_missed_volume_is_told_for_every_region():
    reference = volume(np.array([1, 1, 0, 1, 0, 1, 1, 1]), np.diag([1.0, 2.0, 5.0, 1.0]))
    prediction = volume(np.array([1, 0, 0, 0, 0, 0, 0, 0]), reference.affine)
    left = (np.arange(8) < 5).reshape(8, 1, 1)
    scores = score_labels(
        "c", reference, prediction, {"lesion": 1}, SCIPY_RULES, regions={"left": left}
    )
    (detail,) = [score.detail for score in scores]
    assert detail["missed_volume_ml"] == pytest.approx(0.04)
    missed = {name: counts["missed_volume_ml"] for name, counts in detail["regions"].items()}
    assert missed == {"left": pytest.approx(0.01), "none": pytest.approx(0.03)}
    document = score_document(SCIPY_RULES, [score.row for score in scores], [detail])
    pooled = document["summary"]["lesion"]["regions"]
    assert pooled["none"]["missed_volume_ml"]["mean"] == pytest.approx(0.03)


def test_painted_map_lies_on_the_whole_volume():
    reference, prediction = np.zeros((2, 6, 6, 6), np.uint8)
    reference[4, 4, 4] = prediction[1, 2, 3] = 1
    (score,) = score_labels(
        "c", Volume(reference, np.eye(4)), Volume(prediction, np.eye(4)), {"l": 1}, SCIPY_RULES
    )
    painted = score.counts.painted((6, 6, 6))
    assert (painted[4, 4, 4], painted[1, 2, 3], painted.sum()) == (3, 2, 5)


def test_single_voxels_in_one_slice_of_many_keep_their_depth():
    reference = np.zeros((5, 5, 5), np.uint8)
    reference[2, 2, 2] = 1
    moved = np.roll(reference, 1, axis=0)
    affine = np.diag([2.0, 1, 1, 1])
    (row,) = score_case(
        "c", Volume(reference, affine), Volume(moved, affine), {"l": 1}, SCIPY_RULES
    )
    assert row["hd95_mm"] == 2.0


def test_settings_follow_the_configuration():
    settings = ScoreSettings.from_config(
        EvaluateConfig(rule="iou:0.5", min_size_mm3=3),
        OperatingPoint(threshold=0.3, min_size_mm3=7),
        ignore_label=4,
    )
    assert (settings.rule, settings.min_size_mm3, settings.removal_size_mm3) == ("iou:0.5", 3, 7)
    assert (settings.threshold, settings.ignore_label) == (0.3, 4)


def test_document_is_json_without_nan():
    nothing = volume(np.zeros(5, np.uint8))
    rows = score_case("c", nothing, nothing, {"lesion": 1}, SCIPY_RULES)
    document = score_document(SCIPY_RULES, rows)
    assert list(document) == ["schema", "settings", "rows", "summary", "details"]
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema"] == 1
    assert document["settings"]["rule"] == "any"
