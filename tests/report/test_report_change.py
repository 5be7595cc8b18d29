import numpy as np
import pytest

from segpipe.errors import GeometryError
from segpipe.report.change import compare_components
from segpipe.volume import Volume


def line(*runs, length=60):
    """A component map along x: (id, first, end) each."""
    array = np.zeros((length, 1, 1), np.uint8)
    for number, first, end in runs:
        array[first:end] = number
    return Volume(array, np.diag([2.0, 5.0, 10.0, 1.0]))  # 0.1 ml a voxel


def states(change):
    return {(g.prior_ids, g.ids): g.state for g in change.groups}


def test_each_state_by_overlap_and_volume():
    prior = line((1, 0, 8), (2, 10, 18), (3, 20, 28), (4, 30, 34))
    now = line((1, 0, 10), (2, 10, 21), (3, 22, 28), (4, 40, 44), (5, 25, 25))
    change = compare_components(now, prior)
    # 2 now reaches into prior 3: prior 2 and 3 and current 2 and 3 are one group, 16 -> 17 voxels
    assert states(change) == {
        ((1,), (1,)): "stable",
        ((2, 3), (2, 3)): "stable",
        ((), (4,)): "new",
        ((4,), ()): "gone",
    }
    assert change.of(1).relative == pytest.approx(0.25)
    assert change.of(4).relative is None
    assert change.volume_ml == pytest.approx(3.1)
    assert change.prior_volume_ml == pytest.approx(2.8)
    assert change.gone_volume_ml == {4: pytest.approx(0.4)}
    assert [change.lesions(s) for s in ("new", "grown", "stable", "gone")] == [1, 0, 3, 1]


@pytest.mark.parametrize(
    ("end", "state"), [(11, "grown"), (10, "stable"), (6, "stable"), (5, "shrunk")]
)
def test_limits_of_stable(end, state):
    assert compare_components(line((7, 0, end)), line((3, 0, 8))).of(7).state == state


def test_a_lesion_that_split_is_neither_new_nor_gone():
    change = compare_components(line((1, 0, 3), (2, 5, 8)), line((9, 0, 8)))
    assert states(change) == {((9,), (1, 2)): "stable"}
    assert change.lesions("stable") == 2


def test_lesions_of_two_labels_are_not_matched():
    prior, now = line((1, 0, 8), (2, 8, 12)), line((1, 0, 6), (2, 6, 12))
    labels = {1: "oedema", 2: "core"}
    change = compare_components(now, prior, labels=labels, prior_labels=labels)
    # core 2 grew into what was oedema; together, they would be one stable group
    assert states(change) == {((1,), (1,)): "stable", ((2,), (2,)): "grown"}
    swapped = {1: "core", 2: "oedema"}
    change = compare_components(prior, prior, labels=labels, prior_labels=swapped)
    assert [change.lesions(s) for s in ("new", "gone", "stable")] == [2, 2, 0]


def test_nothing_then_and_nothing_now():
    change = compare_components(line(), line())
    assert (change.groups, change.volume_ml, change.prior_volume_ml) == ((), 0.0, 0.0)


def test_other_grids_are_refused_with_both_printed():
    other = Volume(np.zeros((60, 1, 1), np.uint8), np.diag([2.5, 5.0, 10.0, 1.0]))
    with pytest.raises(GeometryError, match=r"spacing 2×5×10 mm.*spacing 2\.5×5×10 mm.*Register"):
        compare_components(line((1, 0, 3)), other)
