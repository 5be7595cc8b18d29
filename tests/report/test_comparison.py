"""Two runs as a page: what is told must be what was counted."""

import re
from dataclasses import replace

import pytest

from segpipe.report import comparison_figures as figures
from segpipe.report.comparison import (
    MOST_LESIONS,
    ComparisonInputs,
    comparison_report,
    comparison_view,
)

SPACE = "\N{NO-BREAK SPACE}"


def row(case, wrong, f1):
    return {
        "case": case,
        "label": "lesion",
        "status": "scored",
        "false_positive_regions": wrong,
        "lesion_f1": f1,
    }


def figure(difference, ci95, better=None, why=None):
    means = {"mean_a": 2.0, "mean_b": 2.0 + difference, "p": 0.03125}
    verdict = {"better": better, "no_verdict": why}
    return {"cases": 3, **means, "difference": difference, "ci95": ci95, **verdict}


def group(lesions=4, **name):
    counts = {"both": 1, "only_a": 0, "only_b": 2, "neither": 1}
    return {**name, "lesions": lesions, **counts, "difference": 0.5, "ci95": [0.1, 0.9], "p": 0.5}


@pytest.fixture
def inputs():
    block = {
        "pairs": 3,
        "unpaired": 1,
        "patients": 2,
        "false_positive_regions": figure(-1.5, [-2.0, -1.0], "b"),
        "lesion_f1": figure(0.0004, [-0.1, 0.1], why="the interval includes 0"),
        "volume_error_ml": figure(0.25, None),
        "dice": {"cases": 0, "difference": None, "no_verdict": "defined in B alone in 2 cases"},
        "hd95_mm": {"cases": 0, "difference": None, "ci95": None, "better": None},
    }
    differing = [
        {"case": "<a>", "component": n, "region": "white_matter", "size_mm3": 100.0 - n,
         "outcome": "only_b" if n % 2 else "only_a"}
        for n in range(1, MOST_LESIONS + 3)
    ]  # fmt: skip
    wrong = {"cases": 3, "mean_a": 2.0, "mean_b": 0.5, "difference": -1.5, "ci95": None, "p": 1.0}
    document = {
        "a": "/home/jane/scans/one/runs/samples/aaa",
        "b": "runs/samples/bbb",
        "points": {
            "a": [{"threshold": 0.5, "removal_size_mm3": 10.0, "core_threshold": None}],
            "b": [
                {"threshold": t, "removal_size_mm3": 0.0, "core_threshold": None}
                for t in (0.3, 0.4)
            ],
        },
        "labels": {"lesion": block},
        "lesions": {
            "lesion": {
                "all": [group(name="all")],
                "by_size": [group(low_mm3=0.0, high_mm3=30.0)],
                "by_region": [group(name="white_matter"), group(name="none")],
                "differing": differing,
            }
        },
        "false_positives": {
            "lesion": {
                "by_size": [{"low_mm3": 0.0, "high_mm3": None, **wrong}],
                "by_region": [{"name": "none", **wrong}],
            }
        },
    }
    first = [row("<a>", 3, 0.5), row("b", 2, None), row("c", 1, 0.7)]
    second = [row("<a>", 0, 0.4), row("b", 2, 0.9), row("c", 2, 0.7)]
    return ComparisonInputs("2026-02-01", document, first, second)


def text(html):
    body = re.sub(r"(?s)<style>.*?</style>|<title>.*?</title>", "", html)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).replace(SPACE, " ")


def test_differences_are_told_in_words(inputs):
    words = text(comparison_report(inputs))
    assert "Research use only. Not a medical device." in words
    assert (
        "False-positive regions per scan: -1.50 (95 % interval -2.00 to -1.00, p = 0.031). "
        "In this, run B is better." in words
    )
    assert "Lesion F1: <0.001 (95 % interval -0.100 to 0.100, p = 0.031). No verdict: the " in (
        words.replace("&lt;", "<")
    )
    assert "3 cases of 2 patients scored in both runs; 1 in one only, or failed, and" in words
    assert "False-positive regions per scan 3 2.00 0.50 -1.50 -2.00 to -1.00 0.031 B" in words
    assert "-0.100 to 0.100 0.031 no verdict: the interval includes 0" in words
    assert "+0.25 not computed 0.031 not judged" in words
    assert "Few patients: intervals over 2 patients are too narrow to be trusted." in words
    assert "Dice: not computed. No verdict: defined in B alone in 2 cases." in words
    assert "HD95" not in words  # defined in no pair


def test_lesions_and_false_positives_are_told_by_size_and_region(inputs):
    words = text(comparison_report(inputs))
    assert "all lesions 4 1 0 2 1 +0.500 0.100 to 0.900 0.500" in words
    assert "0 to 30 mm³ 4 1 0 2 1" in words
    assert "white matter 4 1 0 2 1" in words
    assert f"17 lesions found by one run only; the {MOST_LESIONS} largest" in words
    assert "&lt;a&gt; 1 white matter 99 B &lt;a&gt; 2 white matter 98 A" in words
    assert "0 mm³ and more 2.00 0.50 -1.50 not computed 1.000" in words
    assert "outside all regions 2.00 0.50 -1.50 not computed" in words
    assert "&lt;a&gt; 3 0 -3 c 1 2 +1" in words  # the largest change first; b did not change


def test_without_regions_no_lesion_lies_outside_them(inputs):
    wrong = {"lesion": {**inputs.document["false_positives"]["lesion"], "by_region": []}}
    bare = replace(inputs, document={**inputs.document, "false_positives": wrong})
    words = text(comparison_report(bare))
    assert "outside all regions" not in words.split("found by one run only")[1]
    assert "&lt;a&gt; 1 99 B &lt;a&gt; 2 98 A" in words


def test_a_page_names_no_folder_above_the_run(inputs):
    html = comparison_report(inputs)
    assert "jane" not in html
    assert "one/runs/samples/aaa" in html
    assert "threshold 0.5, minimum size 10 mm³" in html
    assert (
        "2 operating points among the folds: threshold 0.3, minimum size 0 mm³; threshold 0.4"
        in html
    )
    assert "<script" not in html


def test_without_tables_or_pairs_it_says_so(inputs):
    document = {**inputs.document, "lesions": {"lesion": None}}
    bare = ComparisonInputs("2026-02-01", document, inputs.rows_a, inputs.rows_b)
    assert "Not computed: a run has no table of components" in text(comparison_report(bare))
    none = {
        **document,
        "labels": {"lesion": {"pairs": 0, "unpaired": 2, "patients": 0}},
        "false_positives": {"lesion": {"by_size": [], "by_region": []}},
    }
    words = text(comparison_report(ComparisonInputs("2026-02-01", none, [], [])))
    assert "Not computed: no case was scored in both runs." in words


def test_charts_say_what_they_show(inputs):
    (label,) = comparison_view(inputs)["compared"]
    charts = {title: chart for title, _, chart in label.charts}
    wrong = charts["False-positive regions per scan, case by case"].alt.replace(SPACE, " ")
    assert wrong.endswith("3 cases: better in B in 1, equal in 1, better in A in 1.")
    f1 = charts["Lesion F1, case by case"].alt.replace(SPACE, " ")
    assert f1.endswith("2 cases: better in B in 0, equal in 1, better in A in 1.")
    assert charts["Dice, case by case"] is None
    assert "Lesion F1: <0.01 (-0.10 to 0.10)" in charts["Differences of the scores"].alt
    assert figures.differences([], [], [], "score") is None


def test_structure_is_that_of_a_document(check_structure, inputs):
    check_structure(comparison_report(inputs))


@pytest.mark.browser
def test_opens_quietly_and_is_legible(check_in_browser, inputs):
    check_in_browser(comparison_report(inputs))
