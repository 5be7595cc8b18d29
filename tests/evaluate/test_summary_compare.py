import numpy as np
import pytest

from segpipe.evaluate.bootstrap import mean_interval
from segpipe.evaluate.compare import compare_rows
from segpipe.evaluate.summary import failed_row, summarise


def row(case, f1, wrong, lesions=1, label="lesion"):
    return {
        "case": case,
        "label": label,
        "status": "scored",
        "flags": [],
        "lesion_f1": f1,
        "reference_lesions": lesions,
        "detected_lesions": lesions // 2,
        "false_positive_regions": wrong,
        "false_positive_volume_ml": wrong / 10,
    }


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for draw in range(200):
        values = rng.normal(3, 1, 40)
        low, high = mean_interval(values, [str(i) for i in range(40)], 300, draw)
        hits += low <= 3 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_interval_draws_whole_patients():
    values, patients = [0.0] * 50 + [1.0] * 50, ["a"] * 50 + ["b"] * 50
    assert mean_interval(values, patients, 500, 0) == (0.0, 1.0)
    low, high = mean_interval(values, [str(i) for i in range(100)], 500, 0)
    assert 0.3 < low < 0.5 < high < 0.7


def test_interval_is_seeded_and_undefined_without_draws_or_patients():
    values, patients = list(range(10)), list("abcdefghij")
    assert mean_interval(values, patients, 99, 1) == mean_interval(values, patients, 99, 1)
    assert mean_interval(values, patients, 99, 1) != mean_interval(values, patients, 99, 2)
    assert mean_interval(values, patients, 0, 1) is None
    assert mean_interval(values, ["a"] * 10, 99, 1) is None


def test_summary_counts_failures_and_keeps_lesion_free_cases_apart():
    rows = [
        row("a", 0.5, 2),
        row("b", 1.0, 4),
        row("c", None, 9, lesions=0),
        failed_row("d", "lesion", "unreadable"),
    ]
    block = summarise(rows, 200, 0)["lesion"]
    assert (block["cases"], block["failed"]) == (3, 1)
    assert (block["lesion_f1"]["mean"], block["lesion_f1"]["defined"]) == (0.75, 2)
    wrong = block["false_positive_regions"]
    assert (wrong["mean"], wrong["median"], wrong["iqr"]) == (5.0, 4.0, [3.0, 6.5])
    assert wrong["ci95"][0] < 5 < wrong["ci95"][1]
    assert block["lesion_free"]["cases"] == 1
    assert block["lesion_free"]["false_positive_regions"]["mean"] == 9


def test_pooled_sensitivity_adds_lesions_up_and_groups_are_summarised_apart():
    rows = [row("a", 0.5, 2, lesions=2), row("b", 1.0, 4, lesions=7), row("c", 0.1, 0, lesions=1)]
    sites = {"site": {"a": "north", "b": "south"}}
    block = summarise([*rows, failed_row("d", "lesion", "x")], 100, 0, groups=sites)["lesion"]
    assert block["pooled_sensitivity"]["value"] == (1 + 3 + 0) / 10
    low, high = block["pooled_sensitivity"]["ci95"]
    assert 0 <= low < 0.4 < high <= 0.5
    assert list(block["groups"]["site"]) == ["north", "south"]
    assert block["groups"]["site"]["south"]["lesion_f1"]["mean"] == 1.0
    assert block["groups"]["site"]["north"]["cases"] == 1


def test_summary_of_nothing_is_undefined():
    block = summarise([failed_row("d", "x", "unreadable")])["x"]
    assert (block["cases"], block["failed"]) == (0, 1)
    assert block["lesion_free"]["false_positive_regions"]["mean"] is None
    (undefined,) = [summarise([row("c", None, 1, lesions=0)])["lesion"]["lesion_f1"]]
    assert undefined == {"mean": None, "median": None, "iqr": None, "ci95": None, "defined": 0}


def test_labels_are_summarised_apart():
    summary = summarise([row("a", 0.2, 1, label="x"), row("a", 0.6, 3, label="y")])
    assert summary["x"]["lesion_f1"]["mean"] == 0.2
    assert summary["y"]["lesion_f1"]["mean"] == 0.6


def test_comparison_is_paired_and_knows_directions():
    rng = np.random.default_rng(0)
    difficulty = rng.uniform(0.2, 0.7, 12)
    first = [row(f"c{i}", d, 10) for i, d in enumerate(difficulty)]
    second = [row(f"c{i}", d + 0.1, 10 + i % 3) for i, d in enumerate(difficulty)]
    block = compare_rows(first, [*second, row("new", 1, 0)], bootstrap=300, seed=1)["lesion"]
    assert (block["pairs"], block["unpaired"]) == (12, 1)
    f1 = block["lesion_f1"]
    assert f1["difference"] == pytest.approx(0.1)
    assert f1["mean_b"] - f1["mean_a"] == pytest.approx(0.1)
    assert f1["ci95"] == [pytest.approx(0.1), pytest.approx(0.1)]
    assert f1["better"] == "b"
    assert block["false_positive_regions"]["better"] == "a"
    assert block["reference_lesions"]["better"] is None


def test_comparison_leaves_out_what_one_side_lacks():
    first = [row("a", None, 1, lesions=0), row("b", 0.5, 1), failed_row("c", "lesion", "x")]
    second = [row("a", 0.9, 1), row("b", 0.5, 1), row("c", 0.5, 1)]
    block = compare_rows(first, second)["lesion"]
    assert (block["pairs"], block["unpaired"]) == (2, 1)
    assert block["lesion_f1"]["cases"] == 1
    assert block["false_positive_regions"]["better"] is None
