"""Steps of post-processing: adopted where they help, and what they gain and cost."""

import numpy as np
import pytest

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.evaluate.decision import decide
from segpipe.evaluate.outcome import FIGURES, compare_outcomes, outcomes
from segpipe.evaluate.score import score_case, tabulate
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.table import THRESHOLDS, component_table
from segpipe.volume import Volume

LABELS = {"organ": 1}


def table_of(pairs, labels=LABELS):
    return component_table(
        view
        for name, pair in pairs.items()
        for view in tabulate(name, *pair, labels, ScoreSettings(), THRESHOLDS)
    )


def scan(lesions, regions, shape=(24, 6, 6)):
    """Boxes along the first axis: (start, stop) of lesions; (start, stop, p, peak) of regions."""
    reference, p = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    for start, stop in lesions:
        reference[start:stop, 2:4, 2:4] = 1
    for start, stop, probability, peak in regions:
        p[start:stop, 2:4, 2:4] = probability
        p[start, 2, 2] = peak
    return Volume(reference, np.eye(4)), Volume(p, np.eye(4))


def organs(count, stray=2):
    """One organ each, found; a stray region of 8 mm³, as certain as the organ itself."""
    return {
        f"p{i}": scan([(2, 8)], [(2, 8, 0.9, 0.9), *[(12 + 5 * k, 14 + 5 * k, 0.9, 0.9)
                                                     for k in range(stray)]])
        for i in range(count)
    }  # fmt: skip


def decided(pairs, point=None, **settings):
    config = EvaluateConfig(min_sizes_mm3=(0.0,), **settings)
    return decide(
        table_of(pairs), config, {name: name for name in pairs}, point or OperatingPoint()
    )


def step(choice, name):
    return next(row for row in choice.steps if row["step"] == name)


def test_the_largest_region_only_is_kept_where_strays_are_false_and_lesions_single():
    choice = decided(organs(4))
    assert choice.operating_point == OperatingPoint(largest_only=True)
    row = step(choice, "largest_only")
    assert (row["from"], row["to"], row["adopted"]) == (False, True, True)
    effect = row["labels"]["organ"]
    assert (effect["lesions_lost"], effect["lesions_gained"]) == (0, 0)
    assert (effect["false_positives_removed"], effect["false_positives_added"]) == (8, 0)
    assert effect["lesion_f1"]["before"] == pytest.approx(1 / (1 + 2 / 2))
    assert effect["lesion_f1"]["after"] == 1.0
    assert effect["dice"]["before"] == pytest.approx(2 * 24 / (24 + 40))
    assert effect["dice"]["after"] == 1.0
    assert effect["false_positive_regions"]["difference"] == -2
    assert effect["false_positive_regions"]["ci95"] == [-2, -2]
    assert choice.figures["lesion_f1"] == 1.0
    assert choice.figures["false_positive_regions"] == 0.0
    assert choice.reason.endswith("; with the largest region only")


def test_the_largest_region_only_is_never_kept_where_a_scan_has_several_lesions():
    pairs = organs(4)
    pairs["two"] = scan([(2, 8), (12, 14)], [(2, 8, 0.9, 0.9), (12, 14, 0.9, 0.9)])
    choice = decided(pairs)
    assert not choice.operating_point.largest_only
    row = step(choice, "largest_only")
    assert not row["adopted"]
    assert row["reason"].startswith("a case has 2 lesions of a label")
    assert row["labels"]["organ"]["lesions_lost"] == 1
    assert row["labels"]["organ"]["false_positives_removed"] == 8


def test_hysteresis_is_adopted_at_the_lowest_core_that_does():
    # the peaks lie beside the lesions: a higher threshold would lose them
    pair = scan([(3, 5), (8, 10)], [(2, 5, 0.6, 0.97), (7, 10, 0.6, 0.93), (12, 14, 0.6, 0.72)])
    pairs = {f"p{i}": pair for i in range(3)}
    choice = decided(pairs)
    assert choice.operating_point == OperatingPoint(core_threshold=0.75)
    row = step(choice, "core_threshold")
    assert (row["from"], row["to"], row["adopted"]) == (None, 0.75, True)
    assert row["labels"]["organ"]["false_positives_removed"] == 3
    assert row["labels"]["organ"]["lesions_lost"] == 0


def test_what_does_not_help_is_not_adopted_and_its_cost_is_stated():
    pairs = {
        f"p{i}": scan([(2, 5), (7, 9)], [(2, 5, 0.6, 0.6), (7, 9, 0.6, 0.8)]) for i in range(3)
    }
    choice = decided(pairs)
    assert choice.operating_point == OperatingPoint()
    assert not any(row["adopted"] for row in choice.steps)
    assert [row["step"] for row in choice.steps] == ["threshold", "core_threshold", "largest_only"]
    assert step(choice, "core_threshold")["labels"]["organ"]["lesions_lost"] == 0
    assert step(choice, "largest_only")["labels"]["organ"]["lesions_lost"] == 3
    assert step(choice, "largest_only")["labels"]["organ"]["lesion_sensitivity"]["ci95"] == [
        -0.5,
        -0.5,
    ]


def test_help_in_one_patient_of_several_is_within_the_error():
    pairs = {**organs(1, stray=1), **{f"q{i}": organs(1, stray=0)["p0"] for i in range(3)}}
    choice = decided(pairs)
    assert choice.operating_point == OperatingPoint()
    row = step(choice, "largest_only")
    assert row["labels"]["organ"]["false_positives_removed"] == 1
    assert "mean lesion F1 0.917 → 1, difference +0.083, standard error 0.083" in row["reason"]


def test_a_single_patient_decides_nothing():
    choice = decided(organs(1))
    assert choice.operating_point == OperatingPoint()
    assert "standard error not known: one patient" in step(choice, "largest_only")["reason"]
    assert step(choice, "largest_only")["labels"]["organ"]["dice"]["ci95"] is None


def test_under_a_floor_steps_remove_false_positives_and_keep_the_sensitivity():
    pair = scan([(3, 5), (8, 10)], [(2, 5, 0.6, 0.97), (7, 10, 0.6, 0.73), (12, 14, 0.6, 0.68)])
    pairs = {f"p{i}": pair for i in range(3)}
    choice = decided(pairs, choose="sensitivity", sensitivity_floor=0.9)
    assert choice.operating_point.core_threshold == 0.7
    assert choice.figures["lesion_sensitivity"] == 1.0
    assert choice.figures["false_positive_regions"] == 0.0
    assert "false-positive regions per scan 1 → 0" in step(choice, "core_threshold")["reason"]


def test_fixed_and_certified_points_and_steps_not_asked_for_stay_as_they_are():
    pairs = organs(4)
    assert decided(pairs, choose="fixed").steps == ()
    none = decided(pairs, try_steps=())
    assert [row["step"] for row in none.steps] == ["threshold"]
    own = decided(pairs, OperatingPoint(largest_only=True, core_threshold=0.6))
    assert own.operating_point == OperatingPoint(largest_only=True, core_threshold=0.6)
    assert [row["step"] for row in own.steps] == ["threshold"]


def test_a_threshold_that_is_adopted_is_accounted_for():
    pairs = {
        f"p{i}": scan([(2, 5), (7, 9)], [(2, 5, 0.9, 0.9), (7, 9, 0.42, 0.42)]) for i in range(3)
    }
    choice = decided(pairs)
    assert choice.operating_point.threshold == 0.4
    row = step(choice, "threshold")
    assert (row["from"], row["to"], row["adopted"]) == (0.5, pytest.approx(0.4), True)
    assert row["labels"]["organ"]["lesions_gained"] == 3
    assert row["labels"]["organ"]["lesion_sensitivity"]["before"] == 0.5


def test_outcomes_are_the_scores_of_the_same_point():
    rng = np.random.default_rng(0)
    pairs = {}
    for i in range(3):
        reference = (rng.random((9, 8, 7)) > 0.9).astype(np.uint8)
        p = np.clip(0.5 * reference + rng.random((9, 8, 7)) * 0.7, 0, 1).astype(np.float32)
        pairs[f"c{i}"] = Volume(reference, np.eye(4)), Volume(p, np.eye(4))
    pairs["free"] = scan([], [(2, 5, 0.62, 0.7)])
    config, table = EvaluateConfig(), table_of(pairs)
    points = [
        OperatingPoint(threshold=0.6),
        OperatingPoint(threshold=0.6, min_size_mm3=3, core_threshold=0.8),
        OperatingPoint(threshold=0.6, largest_only=True),
    ]
    made = outcomes(table, config, points, list(pairs), ["organ"])
    for point, outcome in zip(points, made, strict=True):
        settings = ScoreSettings.from_config(config, point)
        for row in outcome.rows():
            (scored,) = score_case(row["case"], *pairs[row["case"]], LABELS, settings)
            assert {n: row[n] for n in FIGURES} == pytest.approx({n: scored[n] for n in FIGURES})


def test_a_point_above_all_probabilities_finds_nothing_and_loses_all():
    pairs = {"a": scan([(2, 5)], [(2, 5, 0.6, 0.6)]), "b": scan([], [(2, 5, 0.6, 0.6)])}
    config, table = EvaluateConfig(bootstrap=20), table_of(pairs)
    before, after = (
        outcomes(table, config, [OperatingPoint(threshold=t)], list(pairs), ["organ"])
        for t in (0.5, 0.95)
    )
    effect = compare_outcomes(before, after, {"a": "a", "b": "b"}, 20)["organ"]
    assert (effect["lesions_lost"], effect["false_positives_removed"]) == (1, 1)
    assert effect["dice"]["cases"] == 1  # of the scan without lesion it became undefined
    assert effect["lesion_f1"]["after"] == 0.0
    gone = outcomes(table[table["case"] == "b"], config, [OperatingPoint(threshold=0.9)],
                    ["b"], ["organ"])  # fmt: skip
    assert gone[0].false_positives.tolist() == [[0]]
