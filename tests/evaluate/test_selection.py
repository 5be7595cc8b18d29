"""As good as the best, and nearest to the present setting."""

import math

import numpy as np
import pytest

from segpipe.config import EvaluateConfig, OperatingPoint
from segpipe.evaluate.operating_point import choose, operating_curve
from segpipe.evaluate.selection import mean_of, nearest_as_good, standard_error
from segpipe.evaluate.table import THRESHOLDS
from segpipe.evaluate.tallies import Tallies


def test_one_difference_a_patient_is_the_textbook_error():
    differences = np.random.default_rng(0).normal(size=7)
    expected = differences.std(ddof=1) / np.sqrt(7)
    assert standard_error(differences, list("abcdefg")) == pytest.approx(expected)


def test_scans_of_a_patient_are_no_further_patients():
    once = np.array([0.1, 0.4, -0.2])
    owners = ["a", "b", "c"]
    twice = standard_error(np.repeat(once, 2), [o for o in owners for _ in range(2)])
    assert twice == pytest.approx(standard_error(once, owners))
    alone = standard_error(np.repeat(once, 2), list("abcdef"))
    assert alone < twice


def test_a_patient_says_nothing_about_others_and_undefined_ones_say_nothing():
    assert standard_error(np.array([0.1, 0.4]), ["a", "a"]) == math.inf
    assert standard_error(np.array([0.1, np.nan]), ["a", "b"]) == math.inf
    some = standard_error(np.array([0.1, np.nan, 0.5]), ["a", "b", "c"])
    assert some == pytest.approx(0.2)
    assert np.isnan(mean_of(np.array([[np.nan, np.nan]]))).all()


@pytest.mark.parametrize(
    ("values", "patients", "expected"),
    [
        ([[0.5, 0.5], [0.6, 0.6]], "ab", 1),  # both gain alike: no doubt
        ([[0.5, 0.5], [0.9, 0.5]], "ab", 0),  # one gains: it may be luck
        ([[0.5, 0.5], [0.9, 0.9]], "aa", 0),  # one patient
        ([[0.5, 0.5], [0.4, 0.4], [0.6, 0.6]], "ab", 2),  # what lies between is no better
        ([[0.5, 0.5, 0.5], [0.7, 0.7, 0.7], [0.7, 0.8, 0.7]], "abc", 1),  # nearer, as good
        ([[0.5, 0.5], [0.5, 0.5]], "ab", 0),
        ([[0.5, np.nan, 0.5], [0.7, np.nan, 0.8]], "abc", 1),
    ],
)
def test_the_nearest_that_is_as_good_as_the_best(values, patients, expected):
    assert nearest_as_good(np.array(values), list(patients)) == expected


def test_a_noisy_candidate_that_is_worse_than_the_present_is_not_as_good():
    present, noisy, best = np.full(4, 0.5), np.array([1.0, 0.0, 1.0, 0.0]), np.full(4, 0.52)
    noisy = noisy - 0.01  # falls short of the best by less than its error, and of the present too
    assert nearest_as_good(np.array([present, noisy, best]), list("abcd")) == 2


def cohort(patients, rng):
    """Patients whose lesions and false components overlap in probability, best cut near 0.5."""
    lesions = 1 + rng.poisson(6, patients)
    false = rng.poisson(14 * rng.gamma(2, 0.5, patients))
    ease = rng.normal(0.3, 0.7, patients)
    counts = [np.zeros((patients, 1, len(THRESHOLDS), 1), int) for _ in range(2)]
    for i in range(patients):
        found = rng.normal(1.5 + ease[i], 2.0, lesions[i])
        wrong = rng.normal(-0.6, 1.6, false[i])
        for array, logits in zip(counts, (found, wrong), strict=True):
            p = 1 / (1 + np.exp(-logits))
            array[i, 0, :, 0] = (p[:, None] > np.array(THRESHOLDS)).sum(axis=0)
    found, wrong = counts
    missed = lesions[:, None, None, None] - found
    f1 = found / (found + (wrong + missed) / 2)
    names = tuple(f"p{i}" for i in range(patients))
    sizes = np.zeros(1)
    return Tallies(names, ("l",), np.array(THRESHOLDS), sizes, found, missed, found, wrong, f1, f1)


def test_with_few_patients_the_choice_swings_less_and_does_better_on_others():
    everybody = cohort(1500, rng := np.random.default_rng(1))
    truth = operating_curve(everybody)["lesion_f1"].to_numpy()
    config = EvaluateConfig(min_sizes_mm3=(0.0,))
    chosen, highest = [], []
    for _ in range(60):
        names = list(rng.choice(everybody.cases, 3, replace=False))
        few = everybody.of(names)
        point = choose(few, config, OperatingPoint(), {name: name for name in names})
        chosen.append(THRESHOLDS.index(round(point.operating_point.threshold, 2)))
        highest.append(int(operating_curve(few)["lesion_f1"].argmax()))
    assert np.std(chosen) < 0.6 * np.std(highest)
    assert truth[chosen].mean() > truth[highest].mean()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_a_tie_is_one_whatever_the_order_of_the_cases(order):
    found = np.array([[9, 7], [8, 8], [7, 9]])[list(order)][:, None, :, None]  # of 10 lesions
    f1 = found / (found + (10 - found) / 2)
    nothing = np.zeros_like(found)
    counted = Tallies(
        cases=("a", "b", "c"),
        labels=("l",),
        thresholds=np.array([0.35, 0.5]),
        min_sizes_mm3=np.zeros(1),
        detected=found,
        missed=10 - found,
        true_positives=found,
        false_positives=nothing,
        f1=f1,
        dice=f1,
    )
    config = EvaluateConfig(choose="sensitivity", sensitivity_floor=0.5, min_sizes_mm3=(0.0,))
    choice = choose(counted, config, OperatingPoint(), {c: c for c in "abc"})
    assert choice.operating_point.threshold == 0.5
