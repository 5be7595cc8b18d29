import base64
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from segpipe.evaluate.compare import compare_rows
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.summary import failed_row, score_document
from segpipe.report import figures
from segpipe.report.card import Entry, Section
from segpipe.report.cohort import CasePicture, CohortInputs, cohort_report, pick_cases
from segpipe.report.comparison import ComparisonInputs
from segpipe.report.gallery import paint_case

SPACE = "\N{NO-BREAK SPACE}"
POINT = {"threshold": 0.5, "min_size_mm3": 10.0, "core_threshold": None, "largest_only": False}


def row(case, wrong, missed, f1, dice, reference=10.0, prediction=11.0):
    return {
        "case": case,
        "label": "lesion",
        "status": "scored",
        "flags": [],
        "dice": dice,
        "reference_volume_ml": reference,
        "prediction_volume_ml": prediction,
        "reference_lesions": 5,
        "detected_lesions": 5 - missed,
        "missed_lesions": missed,
        "false_positive_regions": wrong,
        "false_positive_volume_ml": wrong / 10,
        "lesion_sensitivity": 1 - missed / 5,
        "lesion_f1": f1,
        "hd95_mm": None,
    }


ROWS = [
    row("a", 1, 1, 0.8, 0.7, 10, 12),
    row("b", 4, 0, 0.6, 0.5, 20, 21),
    row("c", 0, 0, 1.0, 0.9, 30, 30),
    row("d", 4, 2, 0.4, 0.3, 5, 6),
    failed_row("e", "lesion", "/data/Muster Anna 1970/e.nii.gz: the file ends early"),
]


def details(case, wrong, sized=True):
    return {
        "case": case,
        "label": "lesion",
        "volume_error_ml": 1.0,
        "by_size": [
            {"low_mm3": 0.0, "high_mm3": 30.0, "lesions": 2, "detected": 1, "sensitivity": 0.5,
             "false_positive_regions": wrong, "false_positive_volume_ml": 0.1},
            {"low_mm3": 30.0, "high_mm3": None, "lesions": 0, "detected": 0, "sensitivity": None,
             "false_positive_regions": 0, "false_positive_volume_ml": 0.0},
        ],
        "regions": {
            "ventricles": {"false_positive_regions": wrong, "false_positive_volume_ml": 0.1,
                           "missed_lesions": 1, "missed_volume_ml": 0.2},
            "none": {"false_positive_regions": 0, "false_positive_volume_ml": 0.0,
                     "missed_lesions": 0, "missed_volume_ml": 0.0},
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def inputs(scan):
    image, components = scan
    shown = paint_case(image, components, "FLAIR")
    document = score_document(
        ScoreSettings(bootstrap=50),
        ROWS,
        [details(c, w) for c, w in zip("abcd", (1, 4, 0, 4), strict=True)],
    )
    curve = pd.DataFrame(
        [(0.3, 0.0, 0.9, 0.5, 9.0), (0.3, 10.0, 0.8, 0.6, 5.0), (0.5, 10.0, 0.7, 0.7, 2.0)],
        columns=["threshold", "min_size_mm3", "lesion_sensitivity", "lesion_f1",
                 "false_positive_regions"],
    )  # fmt: skip
    return CohortInputs(
        name="ms",
        reported="2026-02-01",
        found=7,
        excluded=[("x", "no FLAIR"), ("y", "duplicate of <script>")],
        document=document,
        curve=curve,
        point=POINT,
        chosen_by="highest mean lesion F1",
        pictures=[
            CasePicture("d", "lesion", "worst", shown, "maps/d.nii.gz"),
            CasePicture("c", "lesion", "best", None, "maps/c.nii.gz"),
        ],
        card=[
            Section(
                "Training data",
                (Entry("Data", facts=(("Name", "MS"),)), Entry("Reference standard")),
            )
        ],
    )


def text(html):
    body = re.sub(r"(?s)<style>.*?</style>|<title>.*?</title>", "", html)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).replace(SPACE, " ")


def test_flow_table_and_cases_in_words(inputs):
    words = text(cohort_report(inputs))
    assert "Research use only. Not a medical device." in words
    assert "7 found 2 excluded x: no FLAIR y: duplicate of &lt;script&gt;" in words
    assert "1 failed e: e.nii.gz: the file ends early 4 evaluated" in words
    assert "Over 4 scored cases; 1 failed and are in no figure." in words
    assert "False-positive regions per scan 2.50 0.75 to 4.00 2.25" in words
    assert "HD95 (mm) not computed not computed not computed not computed 0" in words
    assert "No scan without a lesion was evaluated" in words
    assert "95 % interval: the wider of Wilson’s over lesions and the bootstrap over" in words
    assert "0 to 30 mm³ 4 of 8 50 % (22 to 78) 2.25" in words
    assert "30 mm³ and more 0 of 0 not measured 0.00" in words
    assert "ventricles 2.25" in words
    assert "outside all regions 0.00" in words
    assert "Threshold 0.5, minimum size 10 mm³: highest mean lesion F1." in words
    assert "d worst 4 false positive, 2 missed, 3 of 5 found; F1 0.40, Dice 0.30" in words
    assert "Picture not computed: the scan could not be read." in words
    assert "Training data Data Name MS Reference standard Not recorded." in words
    assert "Against the baseline" not in words


def test_a_case_with_more_than_its_slices_show_says_where_they_are(inputs):
    d, c = inputs.pictures
    assert d.slices.complete
    assert "More false-positive regions" not in text(cohort_report(inputs))
    short = replace(d, slices=replace(d.slices, complete=False))
    words = text(cohort_report(replace(inputs, pictures=[short, c])))
    assert "More false-positive regions lie on other slices. All are in maps/d.nii.gz." in words


def test_cases_excluded_in_numbers_add_up(inputs):
    flow = [(8, "trained the model"), (1, "kept"), ("z", "no reference")]
    words = text(cohort_report(replace(inputs, found=15, excluded=flow)))
    assert "15 found 10 excluded 8 cases: trained the model 1 case: kept z: no reference" in words


def test_a_baseline_is_compared_case_by_case(inputs):
    better = [row(c, w, 0, 0.9, 0.8) for c, w in zip("abcd", (0, 1, 0, 1), strict=True)]
    at = [{"threshold": t, "removal_size_mm3": 0.0, "core_threshold": None} for t in (0.2, 0.9)]
    document = {
        "a": "runs/base/aaa",
        "b": "this evaluation",
        "points": {"a": at[:1], "b": at[1:]},
        "labels": compare_rows(ROWS, better),
        "lesions": {"lesion": None},
        "false_positives": {"lesion": {"by_size": [], "by_region": []}},
    }
    against = ComparisonInputs("2026-02-01", document, ROWS, better)
    words = text(cohort_report(replace(inputs, baseline=against)))
    assert (
        "Against the baseline A is the baseline, B is this evaluation. Run A runs/base/aaa" in words
    )
    assert "The operating points differ" in words
    alike = replace(against, document={**document, "points": {"a": at[:1], "b": at[:1]}})
    page = text(cohort_report(replace(inputs, baseline=alike)))
    assert "The operating points differ" not in page
    assert "False-positive regions per scan 4 2.25 0.50 -1.75" in words
    assert "No verdict: fewer than 6 patients." in words
    assert (
        "4 cases of 4 patients scored in both runs; 1 in one only, or failed, and left out."
        in words
    )


def test_certificate_curve_and_groups_are_told(inputs):
    said = "expected missed-lesion fraction ≤ 0.1"
    certificate = {"threshold": 0.5, "min_size_mm3": 10.0, "statement": said}
    curve = {"points": [], "cpm": [{"min_size_mm3": 10.0, "value": 0.45, "ci95": [0.4, 0.5]}]}
    summary = score_document(
        ScoreSettings(bootstrap=50), ROWS, groups={"site": {"a": "<b>", "b": "south", "c": "south"}}
    )["summary"]
    document = {**inputs.document, "froc": {"lesion": curve}, "summary": summary}
    told = replace(inputs, document=document, certificate={**certificate, "adopted": True})
    words = text(cohort_report(told))
    assert "Certificate: expected missed-lesion fraction ≤ 0.1." in words
    assert "CPM 0.450 (95 % interval 0.400 to 0.500)" in words
    assert "site &lt;b&gt; 1 1.00 n = 1 0.800 n = 1 0.800 n = 1 0.700 n = 1" in words
    f1 = summary["lesion"]["groups"]["site"]["south"]["lesion_f1"]["ci95"]
    assert f1[0] < 0.8 < f1[1]
    assert f"0.800 {f1[0]:.3f} to {f1[1]:.3f}, n = 2" in words
    offered = replace(inputs, certificate={**certificate, "adopted": False})
    assert "none for this operating point. At threshold 0.5" in text(cohort_report(offered))
    refused = {**certificate, "threshold": None, "statement": "not certified: 6 are too few"}
    words = text(cohort_report(replace(inputs, certificate={**refused, "adopted": False})))
    assert "Certificate: not certified: 6 are too few." in words
    assert "CPM" not in words


def test_steps_of_post_processing_tell_gain_cost_and_verdict(inputs):
    figure = {
        "before": 0.5,
        "after": 0.75,
        "difference": 0.25,
        "ci95": [0.1, 0.4],
        "p": 0.25,
        "cases": 3,
    }
    undefined = {**dict.fromkeys(figure), "cases": 0}
    effect = {
        "lesion_f1": figure,
        "lesion_sensitivity": {**figure, "ci95": None},
        "false_positive_regions": figure,
        "dice": undefined,
        "lesions_lost": 2,
        "lesions_gained": 1,
        "false_positives_removed": 9,
        "false_positives_added": 0,
    }
    step = {
        "step": "core_threshold",
        "from": None,
        "to": 0.75,
        "adopted": True,
        "reason": "mean lesion F1 0.5 → 0.75",
        "labels": {"<b>": effect},
    }
    other = {**step, "step": "largest_only", "from": False, "to": True, "adopted": False}
    told = text(cohort_report(replace(inputs, steps=[step, other], gain={"<b>": effect})))
    assert "Core threshold none → 0.75" in told
    assert "Largest region only no → yes" in told
    assert "not adopted: mean lesion F1 0.5 → 0.75" in told
    assert told.count("0.50 → 0.75 (+0.10 to +0.40) p = 0.250") == 2 * 3
    assert told.count("2 lost, 1 gained; 9 removed, 0 added") == 3
    assert "no case had a say in its own" in told
    assert "not computed" in told
    assert "Post-processing" not in text(cohort_report(inputs))


def test_charts_say_in_words_what_they_show(inputs):
    html = cohort_report(inputs)
    alts = re.findall(r'<img src="data:image/svg\+xml;base64,[^"]+" alt="([^"]+)"', html)
    assert len(alts) == 5
    words = " ".join(alts).replace(SPACE, " ")
    assert "Bland–Altman plot of 4 scans: bias 1.00 ml" in words
    assert "0 to 30 mm³: 4 of 8; 30 mm³ and more: no lesion" in words
    assert "The operating point, threshold 0.5, has 0.70 sensitivity with 2.0 false" in words
    assert (
        "from 0.70 sensitivity with 2.0 false-positive regions per scan at threshold 0.5" in words
    )
    assert "to 0.80 with 5.0 at threshold 0.3." in words  # of the chosen minimum size only
    assert "http://" not in html
    assert "https://" not in html
    assert "<script" not in html


def test_nothing_scored_is_said_and_shows_no_figure(inputs):
    document = score_document(ScoreSettings(bootstrap=10), [ROWS[-1]])
    words = text(cohort_report(CohortInputs("ms", "2026-02-01", 1, (), document, None, POINT)))
    assert "Not computed: no case could be scored." in words
    assert "Curve not computed" in words
    assert "0 evaluated" in words


def test_points_of_folds_are_told_apart_from_the_one_of_all(inputs):
    words = text(cohort_report(inputs))
    assert words.count("hreshold 0.5, minimum size 10 mm³") == 2  # in the head and below
    assert "other folds" not in words
    points = [{**POINT, "threshold": t, "largest_only": True} for t in (0.3, 0.3, 0.4)]
    core = {**POINT, "core_threshold": 0.8}
    pooled = replace(inputs, document={**inputs.document, "folds": points}, point=core)
    words = text(cohort_report(pooled))
    assert "Operating point 2 among the folds, see below" in words
    assert "Threshold 0.5, minimum size 10 mm³, core 0.8: highest mean lesion F1." in words
    assert (
        "threshold 0.3, minimum size 10 mm³, largest region only (2 folds); "
        "threshold 0.4, minimum size 10 mm³, largest region only (1 fold)."
    ) in words


def test_pictures_of_several_labels_name_theirs(inputs):
    assert "d worst 4 false" in text(cohort_report(inputs))
    document = {**inputs.document, "summary": {**inputs.document["summary"]}}
    document["summary"]["other"] = document["summary"]["lesion"]
    words = text(cohort_report(replace(inputs, document=document)))
    assert "d worst, lesion 4 false" in words
    assert "means run over scans and labels" in words


def test_worst_have_most_false_positives_and_best_the_highest_f1():
    assert pick_cases(ROWS, "lesion", 1) == [("d", "worst"), ("c", "best")]
    assert pick_cases(ROWS, "lesion") == [
        ("d", "worst"),
        ("b", "worst"),
        ("c", "best"),
        ("a", "best"),
    ]
    assert pick_cases([ROWS[2], ROWS[-1]], "lesion") == [("c", "best")]


def test_agreement_needs_three_scans_and_reports_bias_and_limits():
    assert figures.bland_altman([(1, 2), (2, 2)]) is None
    chart = figures.bland_altman([(1.0, 2.0), (2.0, 2.0), (3.0, 5.0)])
    assert chart.alt.replace(SPACE, " ") == (
        "Bland–Altman plot of 3 scans: bias 1.00 ml, 95 % limits of agreement -0.96 ml to 2.96 ml."
    )


def test_charts_are_well_formed_repeatable_and_hold_their_labels():
    args = (["cortical & deep", "none"], [1.5, None], [(1.0, 2.0), None])
    first, second = figures.false_positives(*args), figures.false_positives(*args)
    assert first == second
    assert (
        first.alt
        == "Mean false-positive regions per scan. cortical & deep: 1.50; none: not computed."
    )
    svg = base64.b64decode(first.image.removeprefix("data:image/svg+xml;base64,")).decode()
    words = " ".join(ET.fromstring(svg).itertext())
    assert "cortical & deep" in words
    assert "not computed" in words
    assert figures.false_positives(["a"], [None], [None]) is None
    assert figures.froc([(0.5, 1.0, float("nan"))], None) is None
    assert figures.sensitivity_by_size([{"lesions": 0, "detected": 0}]) is None


def test_labels_of_near_thresholds_do_not_lie_on_each_other():
    at = [(0, 0), (9, 2), (30, 2), (31, 13), (38, 4)]
    assert figures._apart(np.array(at, float), (20.0, 10.0)) == [0, 2, 3]
    near = [(0.05 * i, 20 - 0.1 * i, 0.8 - 0.001 * i) for i in range(1, 20)]
    drawn = base64.b64decode(figures.froc(near, None).image.split(",")[1]).decode()
    labels = re.findall(r">(0\.\d+)</text>", drawn)
    assert [t for t in ("0.95", "0.9", "0.85", "0.75", "0.05") if t in labels] == ["0.95", "0.05"]


def test_the_chart_of_sensitivity_draws_the_wider_interval():
    cell = {"low_mm3": 0.0, "high_mm3": 30.0, "lesions": 10, "detected": 8}
    over_lesions = figures.sensitivity_by_size([cell]).image
    narrower = figures.sensitivity_by_size([{**cell, "sensitivity_ci95": [0.6, 0.9]}]).image
    wider = figures.sensitivity_by_size([{**cell, "sensitivity_ci95": [0.2, 0.9]}]).image
    assert over_lesions == narrower
    assert over_lesions != wider


def test_structure_is_that_of_a_document(check_structure, inputs):
    check_structure(cohort_report(inputs))


@pytest.mark.browser
def test_opens_quietly_and_is_legible(check_in_browser, inputs):
    check_in_browser(cohort_report(inputs))
