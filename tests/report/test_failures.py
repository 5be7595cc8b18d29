"""Failure and sensitivity analysis: sentences with exact numbers."""

import pandas as pd

from segpipe.report.failures import failure_analysis, robustness

SPACE = "\N{NO-BREAK SPACE}"


def row(case, lesions, missed, wrong):
    return {
        "case": case,
        "label": "lesion",
        "status": "scored",
        "reference_lesions": lesions,
        "detected_lesions": lesions - missed,
        "missed_lesions": missed,
        "false_positive_regions": wrong,
    }


def detail(case, small, large, wrong_small, wrong_large, region):
    sizes = ((0.0, 10.0, small, wrong_small), (10.0, None, large, wrong_large))
    return {
        "case": case,
        "label": "lesion",
        "by_size": [
            {"low_mm3": low, "high_mm3": high, "lesions": lost, "detected": 0,
             "sensitivity": 0.0, "false_positive_regions": wrong, "false_positive_volume_ml": 0.0}
            for low, high, lost, wrong in sizes
        ],
        "regions": {region: {"false_positive_regions": wrong_small + wrong_large}},
    }  # fmt: skip


def plain(lines):
    return [line.replace(SPACE, " ") for line in lines]


def test_failures_are_counted():
    rows = [
        row("patient_a", 4, 4, 6),
        row("patient_b", 2, 1, 1),
        row("patient_c", 0, 0, 1),
        {"case": "patient_d", "label": "lesion", "status": "failed", "error": "unreadable"},
    ]
    details = [
        detail("patient_a", 3, 1, 5, 1, "ventricles"),
        detail("patient_b", 1, 0, 1, 0, "none"),
        detail("patient_c", 0, 0, 0, 1, "none"),
    ]
    lines = plain(failure_analysis(rows, details, "lesion"))
    assert lines == [
        "1 of 4 scans failed and are in no figure.",
        "No lesion was found in 1 of 2 scans with one.",
        "5 of 6 lesions were missed; 4 of them measure 0 to 10 mm³.",
        "Half of the 8 false-positive regions lie in 1 of 3 scans; 0 have none.",
        "75 % of them measure 0 to 10 mm³.",
        "False-positive regions by anatomy: ventricles 75 %, outside all regions 25 %.",
    ]
    assert not any("patient_" in line for line in lines)


def test_nothing_scored_has_no_analysis_and_nothing_wrong_is_said():
    failed = {"case": "a", "label": "lesion", "status": "failed", "error": "x"}
    assert failure_analysis([failed], [], "lesion") == []
    assert plain(failure_analysis([row("a", 0, 0, 0)], [], "lesion")) == [
        "No scan had a lesion: what is missed is not measured.",
        "No false-positive region in 1 scan.",
    ]


def test_threshold_is_moved_both_ways():
    curve = pd.DataFrame(
        [(0.4, 10.0, 0.9, 5.0), (0.5, 10.0, 0.8, 3.0), (0.6, 10.0, 0.7, 2.0), (0.4, 0.0, 1.0, 9.0)],
        columns=["threshold", "min_size_mm3", "lesion_sensitivity", "false_positive_regions"],
    )
    lines = robustness(curve, (0.5, 10.0), {})
    assert lines[0] == (
        "Threshold moved by ±0.1: lesion sensitivity from 0.90 to 0.70, false-positive regions per "
        "scan from 5.00 to 2.00."
    )
    assert "not measured" in lines[1]
    assert robustness(curve, (0.6, 10.0), {})[0] == (  # 0.7 is not in the curve
        "Threshold moved by ±0.1: not measured; 0.6 at 10 mm³ is at the edge of what was counted, "
        "or not in it."
    )
    assert "not measured; no scan has a lesion." in robustness(
        curve.assign(lesion_sensitivity=float("nan")), (0.5, 10.0), {}
    )[0]  # fmt: skip


def test_groups_are_told_from_worst_to_best():
    sure = {"mean": 0.4, "ci95": [0.25, 0.6], "defined": 7}
    groups = {"site": {"x": {"lesion_f1": {"mean": 0.8, "ci95": None, "defined": 1}},
                       "y": {"lesion_f1": sure}, "z": {"lesion_f1": {"mean": None}}}}  # fmt: skip
    assert robustness(None, (0.5, 0.0), groups) == [
        "Threshold moved by ±0.1: not measured; there is no table of components with a lesion in "
        "it.",
        "By site: mean lesion F1 from 0.40 (y; 95 % interval 0.25 to 0.60, n = 7) to 0.80 "
        "(x; n = 1) over 2 groups.",
    ]
