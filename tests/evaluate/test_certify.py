"""Conformal risk control: exact on small arrays, and valid on average where the risk is known."""

import numpy as np
import pytest

from segpipe.config import CertifyConfig, EvaluateConfig, OperatingPoint
from segpipe.evaluate.certify import (
    certify,
    controlled,
    corrected_risk,
    patient_losses,
    patients_needed,
    split_patients,
)
from segpipe.evaluate.decision import decide
from segpipe.evaluate.score import tabulate
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.table import THRESHOLDS, component_table
from segpipe.evaluate.tallies import Tallies
from segpipe.volume import Volume


def tallies(missed, false_positives, lesions, thresholds=THRESHOLDS):
    """Of one label and one minimum size; (C, T) counts."""
    missed, wrong = np.asarray(missed), np.asarray(false_positives)
    found = np.asarray(lesions)[:, None] - missed
    shaped = [a[:, None, :, None] for a in (found, missed, found, wrong)]
    cases = tuple(f"c{i:03d}" for i in range(len(missed)))
    f1 = np.full(shaped[0].shape, np.nan)
    return Tallies(cases, ("l",), np.array(thresholds), np.zeros(1), *shaped, f1, f1)


def patients_of(counts):
    return {case: case for case in counts.cases}


def test_patients_needed_are_those_of_the_formula():
    needed = [patients_needed(a, 1.0) for a in (0.05, 0.1, 0.2, 0.3)]
    assert needed == [19, 9, 4, 3]
    assert patients_needed(5.0, 20.0) == 3
    for alpha in (0.05, 0.1, 0.2):
        enough = patients_needed(alpha, 1.0)
        perfect = np.zeros((enough, 1))
        assert controlled(perfect, alpha, 1.0) == 0
        assert controlled(perfect[1:], alpha, 1.0) is None


def test_correction_is_that_of_the_formula():
    losses = np.array([[0.0, 0.5], [0.2, 1.0], [0.1, 0.0]])
    expected = 3 / 4 * losses.mean(axis=0) + 1 / 4
    assert corrected_risk(losses, 1.0) == pytest.approx(expected)


def test_losses_that_fall_are_made_monotone():
    losses = np.repeat([[0.0, 0.9, 0.0]], 19, axis=0)
    assert controlled(losses, 0.5, 1.0) == 0


def test_six_patients_are_refused_at_five_percent_with_the_number_that_would_do():
    counts = tallies(np.zeros((6, 19), int), np.zeros((6, 19), int), np.full(6, 4))
    config = CertifyConfig(alpha=0.05)
    certificate = certify(counts, patients_of(counts), 0.0, config)
    assert certificate.threshold is None
    assert (certificate.patients, certificate.needed) == (6, 19)
    assert "6 calibration patients with lesions are too few" in certificate.statement
    assert "at least 19 are needed" in certificate.statement


def test_missed_lesions_take_the_highest_threshold_that_holds():
    missed = np.zeros((19, 4), int)
    missed[:, 3], missed[0, 2], missed[:2, 1] = 4, 4, [1, 0]
    counts = tallies(missed, np.zeros((19, 4), int), np.full(19, 4), (0.1, 0.3, 0.5, 0.7))
    certificate = certify(counts, patients_of(counts), 0.0, CertifyConfig(alpha=0.1))
    assert certificate.threshold == 0.5
    assert certificate.empirical == pytest.approx(1 / 19)
    assert certificate.corrected == pytest.approx(2 / 20)
    assert "≤ 0.1 for patients with lesions exchangeable with the 19" in certificate.statement
    strict = certify(counts, patients_of(counts), 0.0, CertifyConfig(alpha=0.09))
    assert strict.threshold == 0.3


def test_false_positives_take_the_lowest_threshold_that_holds_and_are_capped():
    wrong = np.tile([50, 9, 2, 0], (9, 1))
    counts = tallies(np.zeros((9, 4), int), wrong, np.zeros(9, int), (0.1, 0.3, 0.5, 0.7))
    config = CertifyConfig(risk="false_positive_regions", alpha=4.0, cap=20.0)
    certificate = certify(counts, patients_of(counts), 0.0, config)
    assert certificate.threshold == 0.5
    assert certificate.corrected == pytest.approx((9 * 2 + 20) / 10)
    losses = patient_losses(counts, patients_of(counts), 0, config)
    assert losses[0].tolist() == [20, 9, 2, 0]


def test_scans_of_a_patient_are_one_loss_and_patients_without_lesions_are_left_out():
    counts = tallies([[1, 2], [0, 2], [0, 0]], [[3, 1], [5, 0], [7, 7]], [2, 2, 0], (0.2, 0.4))
    patients = {"c000": "p", "c001": "p", "c002": "q"}
    missed = patient_losses(counts, patients, 0, CertifyConfig())
    assert missed.tolist() == [[0.25, 1.0]]
    wrong = patient_losses(counts, patients, 0, CertifyConfig(risk="false_positive_regions"))
    assert wrong.tolist() == [[4.0, 0.5], [7.0, 7.0]]


def population(rng, size, lesions=3):
    """Highest probability of every lesion; patients differ, lesions of a patient are alike."""
    ease = rng.uniform(0.5, 1.0, (size, 1))
    return ease * rng.uniform(0, 1, (size, lesions)) ** 0.2


def true_risk():
    """Expected missed fraction at every threshold, over ten thousand times the patients."""
    many = population(np.random.default_rng(99), 400_000)
    return np.array([(many <= t).mean() for t in THRESHOLDS])


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_mean_true_risk_over_a_thousand_draws_is_at_most_alpha(alpha):
    risk, rng = true_risk(), np.random.default_rng(round(alpha * 100))
    nothing, config = np.zeros((40, len(THRESHOLDS)), int), CertifyConfig(alpha=alpha)
    incurred = []
    for _ in range(1000):
        scores = population(rng, 40)
        missed = (scores[:, :, None] <= np.array(THRESHOLDS)).sum(axis=1)
        counts = tallies(missed, nothing, np.full(40, 3))
        certificate = certify(counts, patients_of(counts), 0.0, config)
        # nothing certified: everything is called a lesion, and nothing is missed
        at = certificate.threshold
        incurred.append(0.0 if at is None else risk[THRESHOLDS.index(at)])
    error = np.std(incurred) / np.sqrt(len(incurred))
    assert np.mean(incurred) <= alpha + 3 * error
    assert np.mean(incurred) >= alpha / 3  # not by refusing everything


def test_a_refusal_counts_as_no_loss_where_no_threshold_finds_enough():
    rng, risks, issued = np.random.default_rng(7), np.array([0.15, 0.2, 0.4]), []
    for _ in range(2000):  # one lesion a patient; 15 % are found at no threshold
        losses = (rng.random((12, 1)) < risks).astype(float)
        index = controlled(losses, 0.1, 1.0)
        issued.append(np.nan if index is None else risks[index])
    assert np.nanmin(issued) > 0.1  # whoever has one, is worse off than it seems to say
    assert np.nansum(issued) / len(issued) < 0.1  # which is why it says what it counts
    certificate = certify(
        tallies(np.zeros((19, 19), int), np.zeros((19, 19), int), np.full(19, 4)),
        {f"c{i:03d}": str(i) for i in range(19)},
        0.0,
        CertifyConfig(alpha=0.1),
    )
    assert "one that certifies nothing counts as no loss" in certificate.statement


@pytest.mark.parametrize("lesion", [False, True])
def test_thresholds_above_the_last_component_are_offered_without_a_lesion_too(lesion):
    views = []
    for i in range(25):
        reference, p = np.zeros((6, 6, 6), np.uint8), np.zeros((6, 6, 6), np.float32)
        p[::2, 0, 0] = 0.62
        reference[5, 5, 5] = lesion and i == 24
        volumes = (Volume(a, np.eye(4)) for a in (reference, p))
        views += tabulate(f"c{i:02}", *volumes, {"l": 1}, ScoreSettings(), THRESHOLDS)
    certified = {"risk": "false_positive_regions", "alpha": 1.0, "cap": 10.0}
    config = EvaluateConfig(choose="certified", certify=certified, bootstrap=0)
    owners = {f"c{i:02}": str(i) for i in range(25)}
    choice = decide(component_table(views), config, owners, OperatingPoint())
    assert choice.operating_point.threshold == 0.65


def test_patients_are_divided_whole_and_repeatably():
    names = [f"p{i}" for i in range(10)] * 2
    tuning, calibration = split_patients(names, 0.3, 1)
    assert (len(tuning), len(calibration)) == (3, 7)
    assert sorted([*tuning, *calibration]) == sorted(set(names))
    assert split_patients(names[::-1], 0.3, 1) == (tuning, calibration)
    assert split_patients(names, 0.3, 2) != (tuning, calibration)
    assert split_patients(names, 0.0, 1)[0] == ()


def cohort(size):
    """Cases of one found lesion each, with a faint false component."""
    views, affine = [], np.eye(4)
    for i in range(size):
        reference, p = np.zeros((9, 9, 9), np.uint8), np.zeros((9, 9, 9), np.float32)
        reference[1:3, 1:3, 1:3] = 1
        p[1:3, 1:3, 1:3], p[6, 6, 6] = 0.62 if i else 0.31, 0.22
        pair = Volume(reference, affine), Volume(p, affine)
        views += tabulate(f"c{i}", *pair, {"l": 1}, ScoreSettings(), THRESHOLDS)
    return component_table(views), {f"c{i}": f"c{i}" for i in range(size)}


def test_certified_choice_adopts_the_threshold_and_says_so():
    table, patients = cohort(20)
    config = EvaluateConfig(choose="certified", certify=CertifyConfig(alpha=0.1))
    choice = decide(table, config, patients, OperatingPoint(min_size_mm3=2.0))
    assert choice.operating_point == OperatingPoint(threshold=0.6, min_size_mm3=2.0)
    assert choice.certified
    assert choice.chosen
    assert choice.reason.startswith("certified: expected missed-lesion fraction ≤ 0.1")
    assert choice.figures["lesion_sensitivity"] == pytest.approx(0.95)
    assert choice.certificate_document["adopted"] is True


def test_other_choices_only_say_what_could_be_certified():
    table, patients = cohort(20)
    choice = decide(table, EvaluateConfig(), patients, OperatingPoint())
    assert not choice.certified
    assert choice.certificate.threshold == 0.6
    assert "highest mean lesion F1 on 20 validation cases" in choice.reason


@pytest.mark.parametrize(
    ("size", "settings", "obstacle", "said"),
    [
        (6, {}, None, "at least 9 are needed"),
        (20, {"rule": "iou:0.5"}, None, "expected rule any"),
        (20, {}, "not certified: because", "not certified: because"),
    ],
)
def test_what_cannot_be_certified_falls_back_and_says_why(size, settings, obstacle, said):
    table, patients = cohort(size)
    config = EvaluateConfig(choose="certified", **settings)
    choice = decide(table, config, patients, OperatingPoint(), obstacle=obstacle)
    assert not choice.certified
    assert choice.certificate.threshold is None
    assert said in choice.certificate.statement
    assert "highest mean lesion F1" in choice.reason
    assert choice.reason.endswith("as nothing can be certified")


@pytest.mark.parametrize("choose", ["f1", "sensitivity", "fixed", "certified"])
@pytest.mark.parametrize("patients", [{}, {"a": "p", "b": "q"}])
def test_where_nothing_was_tabulated_the_configured_point_stays(choose, patients):
    """All cases failed; or they are free of lesions, and nothing was found in them."""
    point = OperatingPoint(threshold=0.4, min_size_mm3=3.0)
    choice = decide(component_table([]), EvaluateConfig(choose=choose), patients, point)
    assert choice.operating_point == point
    assert not choice.chosen
    assert not choice.certified
    assert choice.certificate.threshold is None


def test_tuning_patients_choose_the_size_and_do_not_calibrate():
    table, patients = cohort(20)
    config = EvaluateConfig(
        choose="certified", certify=CertifyConfig(alpha=0.2, tuning_share=0.5), min_sizes_mm3=(2.0,)
    )
    blind = OperatingPoint(min_size_mm3=500.0)  # finds nothing
    choice = decide(table, config, patients, blind, seed=3)
    assert choice.certificate.patients == 10
    assert choice.operating_point.min_size_mm3 == 2.0
