"""Random masks, counted by segpipe and by slow judges that share nothing with it."""

import numpy as np
import pytest

from benchmarks.oracle import ours, rules
from benchmarks.oracle.compare import (
    COUNTS,
    FOUND,
    LESIONWISE,
    QUALITIES,
    RATIOS,
    VOLUMES,
    VOXELS,
    alike,
)
from benchmarks.oracle.peers import partition
from benchmarks.oracle.volumes import random_pair
from segpipe.metrics.surface import hausdorff95_mm, surface_distances

INDICES = range(60)


@pytest.fixture(scope="module")
def pairs():
    return [random_pair(index, low=6, high=15) for index in INDICES]


def both(pair):
    return pair.reference, pair.prediction


def voxel_mm3(pair):
    return float(np.prod(pair.spacing_mm))


def assert_alike(expected, received, names, pair):
    wrong = {
        n: (expected[n], received[n]) for n in names if not alike(expected[n], received[n], 1e-6)
    }
    assert not wrong, f"{pair.name}: judge, segpipe: {wrong}"


def test_the_random_pairs_hold_what_they_promise(pairs):
    shares = [pair.reference.mean() for pair in pairs if pair.reference.any()]
    assert min(shares) < 0.02
    assert max(shares) > 0.4
    assert sum(not pair.reference.any() for pair in pairs) >= 1
    assert sum(not pair.prediction.any() for pair in pairs) >= 1
    assert any(1 in pair.reference.shape for pair in pairs)
    again = random_pair(11, low=6, high=15)
    np.testing.assert_array_equal(again.prediction, pairs[11].prediction)
    np.testing.assert_array_equal(again.affine, pairs[11].affine)


def test_components_are_those_of_scipy(pairs):
    for pair in pairs:
        for name, found in ours.partitions(pair).items():
            side, _, connectivity = name.partition("_")
            expected = partition(getattr(pair, side), int(connectivity))
            assert found == expected, f"{pair.name}: {name}"


def test_any_counts_as_isles22_does(pairs):
    for pair in pairs:
        found = ours.figures(pair, "any")
        assert_alike(rules.at_least_a_voxel(*both(pair)), found, [*COUNTS, *RATIOS], pair)
        assert_alike(rules.voxelwise(*both(pair)), found, VOXELS, pair)


@pytest.mark.parametrize("rule", ["iou:0.3", "iou:0.5", "overlap:0.1", "overlap:0.6"])
def test_one_to_one_rules_find_as_many_pairs_as_there_can_be(pairs, rule):
    kind, _, minimum = rule.partition(":")
    for pair in pairs:
        expected = rules.most_pairs(*both(pair), kind, float(minimum))
        assert_alike(expected, ours.figures(pair, rule), COUNTS[2:], pair)


def test_autopet_adds_up_what_overlaps_nothing(pairs):
    for pair in pairs:
        expected = rules.autopet(*both(pair), voxel_mm3(pair) / 1000)
        assert_alike(expected, ours.figures(pair, "autopet"), [*FOUND[1:], *VOLUMES], pair)


def test_panoptic_takes_the_best_pairs_first(pairs):
    for pair in pairs:
        expected = rules.panoptic(*both(pair))
        assert_alike(expected, ours.figures(pair, "panoptic"), [*FOUND, *QUALITIES], pair)


@pytest.mark.parametrize("preset", sorted(ours.BRATS))
def test_brats23_merges_lesions_and_pools_regions(pairs, preset):
    iterations, limit_mm3 = ours.BRATS[preset]
    for pair in pairs:

        def hausdorff(lesion, pooled, affine=pair.affine):
            return hausdorff95_mm(surface_distances(lesion, pooled, affine))

        expected = rules.brats23(*both(pair), voxel_mm3(pair), hausdorff, iterations, limit_mm3)
        names = [COUNTS[0], *FOUND, *LESIONWISE]
        assert_alike(expected, ours.figures(pair, preset), names, pair)


def test_msseg_asks_for_cover_on_both_sides(pairs):
    for pair in pairs:
        expected = rules.msseg(*both(pair), voxel_mm3(pair))
        assert_alike(expected, ours.figures(pair, "msseg"), [*COUNTS, *RATIOS], pair)
