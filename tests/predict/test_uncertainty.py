"""What members disagree about, with numbers that can be had by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from segpipe.lesions.classes import class_map
from segpipe.predict.uncertainty import Spread, component_agreement, entropy_bits


def gather(members, threshold=0.5):
    spread = Spread(threshold)
    for member in members:
        spread.add(np.asarray(member, np.float32))
    return spread.uncertainty(np.mean(np.asarray(members, np.float32), axis=0))


def voxel(*labels):
    return np.array(labels, np.float32).reshape(1, 1, 1, -1)


def test_members_that_contradict_each_other_share_one_bit():
    made = gather([voxel(0.0), voxel(1.0)])
    assert made.entropy.item() == pytest.approx(1.0)
    assert made.mutual_information.item() == pytest.approx(1.0)
    assert made.std.item() == pytest.approx(0.5)


def test_members_that_are_undecided_alike_contradict_nobody():
    made = gather([voxel(0.5), voxel(0.5), voxel(0.5)])
    assert made.entropy.item() == pytest.approx(1.0)
    assert made.mutual_information.item() == 0.0
    assert made.std.item() == 0.0


def test_a_number_worked_out_by_hand():
    made = gather([voxel(0.75), voxel(0.25)])
    quarter = 0.75 * math.log2(4 / 3) + 0.25 * 2  # entropy of 1/4 and 3/4
    assert made.entropy.item() == pytest.approx(1.0)
    assert made.mutual_information.item() == pytest.approx(1.0 - quarter, abs=1e-6)
    assert made.std.item() == pytest.approx(0.25)


def test_several_labels_and_background_have_up_to_log2_of_their_number():
    third = voxel(1 / 3, 1 / 3)
    assert entropy_bits(third).item() == pytest.approx(math.log2(3), abs=1e-6)
    made = gather([voxel(1.0, 0.0), voxel(0.0, 1.0), voxel(0.0, 0.0)])
    assert made.entropy.item() == pytest.approx(math.log2(3), abs=1e-6)
    assert made.mutual_information.item() == pytest.approx(math.log2(3), abs=1e-6)


@pytest.mark.parametrize("labels", [1, 3])
def test_random_members_agree_with_scipy(labels):
    rng = np.random.default_rng(0)
    members = rng.dirichlet(np.ones(labels + 1), size=(5, 4, 3, 2)).astype(np.float32)
    made = gather(members[..., 1:])
    mean = members.astype(float).mean(axis=0)
    entropy = stats.entropy(mean, base=2, axis=-1)
    each = stats.entropy(members.astype(float), base=2, axis=-1).mean(axis=0)
    np.testing.assert_allclose(made.entropy, entropy, atol=1e-5)
    np.testing.assert_allclose(made.mutual_information, entropy - each, atol=1e-5)
    np.testing.assert_allclose(made.std, members[..., 1:].std(axis=0), atol=1e-6)
    assert made.entropy.dtype == made.std.dtype == np.float32


def test_components_tell_who_found_them_and_how_far_they_agree():
    shape = (6, 1, 1, 2)
    first, second, third = (np.zeros(shape, np.float32) for _ in range(3))
    first[1:3, 0, 0, 0] = 0.9  # both voxels of component 1
    second[1, 0, 0, 0] = 0.7  # one of them
    first[4, 0, 0, 1] = second[4, 0, 0, 1] = 0.8  # component 2, of the second label
    third[4, 0, 0, 0] = 0.9  # finds something there, of the other label
    third[5, 0, 0, 1] = 0.9  # finds something elsewhere
    components = np.zeros(shape[:3], np.int32)
    components[1:3], components[4] = 1, 2
    made = gather([first, second, third])
    (std_1, share_1), (std_2, share_2) = component_agreement(components, [1, 2], made)
    assert (share_1, share_2) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert std_1 == pytest.approx((np.std([0.9, 0.7, 0]) + np.std([0.9, 0, 0])) / 2, abs=1e-6)
    assert std_2 == pytest.approx(np.std([0.8, 0.8, 0]), abs=1e-6)
    assert component_agreement(np.zeros_like(components), [], made) == []


def test_who_finds_a_component_is_asked_at_the_threshold():
    member = np.full((2, 1, 1, 1), 0.4, np.float32)
    components = np.ones((2, 1, 1), np.int32)
    for threshold, share in ((0.3, 1.0), (0.4, 0.0)):
        made = gather([member, member], threshold)
        assert class_map(member, threshold).any() == bool(share)
        assert component_agreement(components, [1], made)[0][1] == share
