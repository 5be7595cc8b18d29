"""Which lesions only one of two runs found, against masks that are counted by hand."""

import numpy as np
import pandas as pd
import pytest

from segpipe.errors import DataError
from segpipe.evaluate.paired import (
    Point,
    false_positive_groups,
    found_lesions,
    lesion_groups,
    pair_lesions,
)
from segpipe.evaluate.score import tabulate
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.table import component_table
from segpipe.volume import Volume

SETTINGS = ScoreSettings()


def line(*values):
    """A volume of one row: lesions are runs of voxels."""
    return np.array(values, np.float32).reshape(-1, 1, 1)


REFERENCE = Volume(line(1, 1, 0, 1, 0, 1, 1, 1, 0, 0).astype(np.uint8), np.eye(4))
WEST = line(1, 1, 1, 1, 1, 0, 0, 0, 0, 0) > 0


def table(case, *probabilities):
    probability = Volume(line(*probabilities), np.eye(4))
    regions = {"west": WEST}
    views = tabulate(
        case, REFERENCE, probability, {"lesion": 1}, SETTINGS, (0.3, 0.5), regions=regions
    )
    return component_table(views)


FIRST = table("a", 0.9, 0.9, 0, 0.4, 0, 0, 0, 0, 0, 0)
SECOND = table("a", 0, 0, 0, 0.4, 0, 0.6, 0, 0, 0, 0)


def test_lesions_are_found_at_the_point_of_their_case():
    lower = found_lesions(FIRST, SETTINGS, {"a": Point(0.3, 0.0)})
    assert lower["found"].tolist() == [True, True, False]
    assert lower["size_mm3"].tolist() == [2.0, 1.0, 3.0]
    assert lower["region"].tolist() == ["west", "west", "none"]
    higher = found_lesions(FIRST, SETTINGS, {"a": Point(0.5, 0.0)})
    assert higher["found"].tolist() == [True, False, False]
    sized = found_lesions(FIRST, SETTINGS, {"a": Point(0.3, 2.0)})
    assert sized["found"].tolist() == [True, False, False]
    largest = found_lesions(FIRST, SETTINGS, {"a": Point(0.3, 0.0, largest_only=True)})
    assert largest["found"].tolist() == [True, False, False]
    assert found_lesions(FIRST, SETTINGS, {"a": Point(0.4, 0.0)}).empty
    assert found_lesions(FIRST, SETTINGS, {"b": Point(0.3, 0.0)}).empty
    assert found_lesions(component_table(()), SETTINGS, {"a": Point(0.3, 0.0)}).empty


def test_outcomes_of_paired_lesions():
    a = found_lesions(FIRST, SETTINGS, {"a": Point(0.3, 0.0)})
    b = found_lesions(SECOND, SETTINGS, {"a": Point(0.3, 0.0)})
    assert pair_lesions(a, b, "b")["outcome"].tolist() == ["only_a", "both", "only_b"]
    later = found_lesions(SECOND, SETTINGS, {"a": Point(0.5, 0.0)})
    assert pair_lesions(a, later, "b")["outcome"].tolist() == ["only_a", "only_a", "only_b"]
    with pytest.raises(DataError, match="lesion 2 of case a is another one"):
        pair_lesions(a, b.assign(size_mm3=[2.0, 7.0, 3.0]), "b")
    further = pd.concat([a, a.assign(label="edge")])  # b was scored for one label alone
    assert pair_lesions(further, b, "b").equals(pair_lesions(a, b, "b"))
    with pytest.raises(DataError, match="lesion 3 of case a is in the other run alone"):
        pair_lesions(a, b[:2], "b")


def test_groups_add_up_and_difference_is_that_of_the_sensitivities():
    lesions = pd.DataFrame(
        {
            "case": ["a", "a", "b", "b", "c"],
            "label": "lesion",
            "component": [1, 2, 1, 2, 1],
            "region": ["x", "y", "x", "x", "y"],
            "size_mm3": [5.0, 20.0, 5.0, 2000.0, 10.0],
            "outcome": ["only_b", "both", "only_b", "neither", "only_a"],
        }
    )
    groups = lesion_groups(lesions, {"b": "p", "c": "p"}, bootstrap=200, seed=0)
    (everything,) = groups["all"]
    assert everything["lesions"] == 5
    assert everything["difference"] == pytest.approx(1 / 5)  # found by b 3, by a 2
    # two patients: a (1 of 2 gained) and p (0 of 3)
    assert everything["ci95"] == [0.0, 0.5]
    assert everything["p"] == 1.0  # p gained and lost one: only a is flipped
    assert [g["lesions"] for g in groups["by_size"]] == [2, 2, 0, 0, 0, 1]
    assert groups["by_size"][2]["difference"] is groups["by_size"][2]["p"] is None
    assert groups["by_size"][-1]["high_mm3"] is None
    by_region = {g["name"]: (g["only_a"], g["only_b"]) for g in groups["by_region"]}
    assert by_region == {"x": (0, 2), "y": (1, 0)}


def detail(case, small, large, regions):
    sizes = ((0.0, 10.0, small), (10.0, None, large))
    return {
        "case": case,
        "by_size": [
            {"low_mm3": low, "high_mm3": high, "false_positive_regions": wrong}
            for low, high, wrong in sizes
        ],
        "regions": regions
        and {name: {"false_positive_regions": wrong} for name, wrong in regions.items()},
    }


def test_false_positives_are_paired_by_size_and_region():
    a = [detail("a", 3, 1, {"x": 4}), detail("b", 1, 1, {"x": 2}), detail("c", 9, 9, None)]
    b = [detail("a", 1, 1, {"x": 1, "y": 1}), detail("b", 0, 2, {"x": 2}), detail("d", 5, 5, None)]
    groups = false_positive_groups(a, b, {}, bootstrap=100, seed=0)
    small, large = groups["by_size"]
    assert (small["cases"], small["mean_a"], small["mean_b"]) == (2, 2.0, 0.5)
    assert small["difference"] == -1.5
    assert small["ci95"] == [-2.0, -1.0]
    assert small["p"] == 2 / 4
    assert large["difference"] == 0.5
    (region,) = groups["by_region"]
    assert (region["name"], region["difference"]) == ("x", -1.5)
    assert false_positive_groups(a, [], {}) == {"by_size": [], "by_region": []}
