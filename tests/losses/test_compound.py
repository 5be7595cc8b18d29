import numpy as np
import pytest
from keras import ops

from segpipe.config import LossConfig, VoxelCountConfig
from segpipe.losses import overlap
from segpipe.losses.compound import CompoundLoss


def numpy_of(terms):
    return {name: np.asarray(ops.convert_to_numpy(value)) for name, value in terms.items()}


def binary_case(seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (2, 4, 4, 4, 1)).astype(np.float32)
    index = (rng.random((2, 4, 4, 4, 1)) < 0.3).astype(np.float32)
    index[0, 0] = 255
    weight = np.where(index == 0, 2.0, 0.0)
    return logits, np.concatenate([index, weight], axis=-1).astype(np.float32)


def test_binary_terms_equal_numpy():
    logits, target = binary_case()
    terms = numpy_of(CompoundLoss(LossConfig(), 1, 8.0, 100).terms(logits, target, 100))
    p = 1 / (1 + np.exp(-logits[..., 0].astype(float)))
    y, valid = target[..., 0], target[..., 0] != 255
    per_voxel = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    expected = [per_voxel[i][valid[i]].mean() for i in range(2)]
    np.testing.assert_allclose(terms["bce"], expected, rtol=1e-5)
    overlap_ = (p * y)[valid].sum()
    dice = (2 * overlap_ + 1) / (p[valid].sum() + y[valid].sum() + 1)
    np.testing.assert_allclose(terms["dice"], [1 - dice] * 2, rtol=1e-5)
    hard = (2.0 * ((p > 0.5) & (y == 0))).reshape(2, -1).sum(1)
    np.testing.assert_allclose(terms["false_positive_voxels"], hard)
    lam = LossConfig().voxel_count.weight
    total = terms["bce"] + terms["dice"] + lam * terms["voxel_count"]
    np.testing.assert_allclose(terms["total"], total, rtol=1e-6)


def test_ignored_voxels_count_for_nobody():
    logits, target = binary_case()
    loss = CompoundLoss(LossConfig(), 1, 1.0, 1)
    before = numpy_of(loss.terms(logits, target, 1))
    logits[0, 0] = 17.0
    target[0, 0, ..., 1] = 5.0
    after = numpy_of(loss.terms(logits, target, 1))
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name])


def test_softmax_cross_entropy_equals_numpy():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (2, 6, 6, 3)).astype(np.float32)
    index = rng.integers(0, 3, (2, 6, 6))
    reference = np.stack([index == 1, index == 2], axis=-1).astype(np.float32)
    got = overlap.cross_entropy(logits, reference, np.ones((2, 6, 6, 1), np.float32))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    chosen = np.take_along_axis(p, index[..., None], axis=-1)
    np.testing.assert_allclose(
        ops.convert_to_numpy(got), -np.log(chosen).mean((1, 2, 3)), rtol=1e-5
    )


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (20, 0.0), (40, 0.5), (60, 1.0), (99, 1.0)])
def test_penalty_ramps_up(step, share):
    config = LossConfig(ramp_start=0.2, ramp_end=0.6, voxel_count=VoxelCountConfig(weight=0.3))
    logits, target = binary_case()
    terms = numpy_of(CompoundLoss(config, 1, 1.0, 100).terms(logits, target, step))
    assert terms["voxel_count_lambda"] == pytest.approx(0.3 * share)
    expected = terms["bce"] + terms["dice"] + 0.3 * share * terms["voxel_count"]
    np.testing.assert_allclose(terms["total"], expected, rtol=1e-6)


def test_deep_supervision_weighs_coarser_outputs_half():
    logits, target = binary_case()
    coarse = logits[:, ::2, ::2, ::2]
    loss = CompoundLoss(LossConfig(), 1, 1.0, 1)
    both = numpy_of(loss.terms([logits, coarse], target, 0))
    fine = numpy_of(loss.terms(logits, target, 0))
    small = numpy_of(loss.terms(coarse, target[:, ::2, ::2, ::2], 0))
    np.testing.assert_allclose(both["bce"], (2 * fine["bce"] + small["bce"]) / 3, rtol=1e-6)
    np.testing.assert_allclose(both["dice"], (2 * fine["dice"] + small["dice"]) / 3, rtol=1e-6)


def test_empty_reference_and_sure_background_cost_nothing():
    logits = np.full((1, 8, 8, 1), -30.0, np.float32)
    target = np.zeros((1, 8, 8, 2), np.float32)
    target[..., 1] = 1
    terms = numpy_of(CompoundLoss(LossConfig(), 1, 1.0, 1).terms(logits, target, 1))
    assert terms["total"] == pytest.approx([0.0], abs=1e-6)
