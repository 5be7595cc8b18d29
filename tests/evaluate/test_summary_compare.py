import numpy as np
import pytest

from segpipe.evaluate.bootstrap import mean_interval
from segpipe.evaluate.compare import compare_rows
from segpipe.evaluate.permutation import DRAWS, sign_flip_p
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
    nothing = {"mean": None, "median": None, "iqr": None, "ci95": None, "defined": 0}
    assert block["dice"] == block["panoptic_quality"] == nothing
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
    assert (f1["better"], f1["no_verdict"], f1["p"]) == ("b", None, 2 / 2**12)
    assert block["false_positive_regions"]["better"] == "a"
    undirected = block["reference_lesions"]
    assert (undirected["better"], undirected["no_verdict"]) == (None, None)


def trade(finds, wrong):
    """Scores of a run that finds so much and is so often wrong, in 8 patients."""
    return [
        {**row(f"c{i}", 0.5, wrong + i % 2), "lesion_sensitivity": finds + 0.001 * (i % 3)}
        for i in range(8)
    ]


def test_fewer_false_positives_for_fewer_lesions_are_no_gain():
    strict, keen, both = trade(0.4, 1), trade(0.6, 5), trade(0.6, 1)
    block = compare_rows(keen, strict)["lesion"]
    assert block["false_positive_regions"]["ci95"][1] < 0
    for name, why in (
        ("false_positive_regions", "a trade, as run A finds more lesions"),
        ("false_positive_volume_ml", "a trade, as run A finds more lesions"),
        ("lesion_sensitivity", "a trade, as run B has fewer false positives"),
    ):
        assert (block[name]["better"], block[name]["no_verdict"]) == (None, why)
    gain = compare_rows(keen, both)["lesion"]
    assert gain["false_positive_regions"]["better"] == "b"
    finding = compare_rows(strict, both)["lesion"]
    assert finding["lesion_sensitivity"]["better"] == "b"
    lesion_free = [{**one, "lesion_sensitivity": None} for one in keen[:1]] + keen[1:]
    few = compare_rows(lesion_free[:6], strict[:6])["lesion"]  # 5 patients have a sensitivity
    assert few["false_positive_regions"]["better"] is None


def test_comparison_leaves_out_what_one_side_lacks():
    first = [row("a", None, 1, lesions=0), row("b", 0.5, 1), failed_row("c", "lesion", "x")]
    second = [row("a", 0.9, 1), row("b", 0.5, 1), row("c", 0.5, 1)]
    block = compare_rows(first, second)["lesion"]
    assert (block["pairs"], block["unpaired"]) == (2, 1)
    f1 = block["lesion_f1"]
    assert (f1["cases"], f1["only_a"], f1["only_b"]) == (1, 0, 2)  # c failed in A
    assert f1["no_verdict"] == "defined in B alone in 2 cases"
    assert (block["failed_a"], block["failed_b"]) == (1, 0)
    assert block["false_positive_regions"]["better"] is None


def test_who_fails_on_hard_cases_is_not_better_for_it():
    hard, easy = [f"h{i}" for i in range(3)], [f"e{i}" for i in range(9)]
    failing = [failed_row(c, "lesion", "x") for c in hard] + [row(c, 0.9, 1) for c in easy]
    whole = [row(c, 0.2, 5) for c in hard] + [row(c, 0.8, 2) for c in easy]
    block = compare_rows(failing, whole)["lesion"]
    assert (block["pairs"], block["unpaired"], block["failed_a"]) == (9, 3, 3)
    assert block["lesion_f1"]["difference"] == pytest.approx(-0.1)
    for name in ("lesion_f1", "false_positive_regions"):
        assert block[name]["better"] is None
        assert block[name]["no_verdict"] == "defined in B alone in 3 cases"
    alike = compare_rows(failing, [*whole[3:], *failing[:3]])["lesion"]  # both fail on them
    assert alike["lesion_f1"]["better"] == "a"
    missing = compare_rows(failing[3:], whole)["lesion"]  # nobody asked A
    assert missing["lesion_f1"]["better"] == "a"


def test_a_figure_that_some_rows_lack_is_not_compared():
    """A run may be folds that were scored by several versions."""
    whole = [{**row(case, 0.5, 1), "newer": 1} for case in "abc"]
    mixed = [whole[0], row("b", 0.5, 1), row("c", 0.5, 1)]
    block = compare_rows(whole, mixed)["lesion"]
    assert "newer" not in block
    assert block["false_positive_regions"]["cases"] == 3


def test_p_is_the_share_of_sign_flips_that_are_as_extreme():
    # totals of ±1 ±2 ±3 ±4: 10, 8, 6, 4, 4, 2, 2, 0 and their opposites; 8 (of -1) is reached by 4
    assert sign_flip_p([-1, 2, 3, 4], list("abcd")) == 4 / 16
    assert sign_flip_p([-1, 2, 3, 4, 0], list("abcde")) == 4 / 16  # exchanged, it is the same
    assert sign_flip_p([1, 1, 1, 1, -4], ["a", "a", "a", "a", "b"]) == 1.0  # 4 and -4
    assert sign_flip_p([0.1] * 6, list("abcdef")) == 2 / 2**6
    assert sign_flip_p([], []) == sign_flip_p([0.0], ["a"]) == 1.0
    many = [str(i) for i in range(40)]
    assert sign_flip_p([1.0] * 40, many) == 1 / (1 + DRAWS)
    values = np.random.default_rng(0).normal(0.2, 1, 17)
    assert sign_flip_p(values, many[:17]) == sign_flip_p(values, many[:17])
    assert sign_flip_p(values, many[:17]) != sign_flip_p(values, many[:17], seed=1)
    exact = sign_flip_p(values[:16], many[:16])
    assert sign_flip_p([*values[:16], 1e-9], many[:17]) == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize(("patients", "most"), [(2, 0.0), (5, 0.0), (6, 0.05), (10, 0.07)])
def test_equal_runs_are_seldom_told_apart(patients, most):
    rng = np.random.default_rng(patients)
    verdicts = 0
    for _ in range(200):
        change = rng.normal(size=patients)
        first = [row(f"c{i}", 0.5, 1) for i in range(patients)]
        second = [row(f"c{i}", 0.5 + d, 1) for i, d in enumerate(change)]
        f1 = compare_rows(first, second, bootstrap=200)["lesion"]["lesion_f1"]
        verdicts += f1["better"] is not None
        assert (f1["better"] is None) == (f1["no_verdict"] is not None)
    assert verdicts / 200 <= most


def test_few_patients_are_the_reason_for_no_verdict():
    first = [row(f"c{i}", 0.5, 9) for i in range(12)]
    second = [row(f"c{i}", 0.6, 9) for i in range(12)]
    owners = {f"c{i}": f"p{i % 5}" for i in range(12)}
    f1 = compare_rows(first, second, patients=owners)["lesion"]["lesion_f1"]
    assert (f1["better"], f1["p"]) == (None, 2 / 2**5)
    assert f1["no_verdict"] == "fewer than 6 patients"


def test_a_run_that_invents_regions_in_healthy_scans_does_not_win_on_the_others():
    first = [row(f"c{i}", None if i < 8 else 0.5, 0) for i in range(16)]
    second = [row(f"c{i}", 0.0 if i < 8 else 0.6, 1) for i in range(16)]
    f1 = compare_rows(first, second)["lesion"]["lesion_f1"]
    assert (f1["cases"], f1["only_a"], f1["only_b"]) == (8, 0, 8)
    assert f1["ci95"][0] > 0
    assert f1["p"] < 0.05
    assert (f1["better"], f1["no_verdict"]) == (None, "defined in B alone in 8 cases")
    healthy = compare_rows(second[:8], first[:8])["lesion"]["lesion_f1"]
    assert (healthy["difference"], healthy["p"], healthy["better"]) == (None, None, None)
    assert healthy["no_verdict"] == "defined in A alone in 8 cases"
    assert compare_rows(first[:8], first[:8])["lesion"]["lesion_f1"]["no_verdict"] is None
