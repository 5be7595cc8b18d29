"""The comparison loss against one lesion after the other, masked as its paper says."""

import numpy as np
import pytest
from keras import ops

from benchmarks.blob_loss import BlobLoss, blob_term

pytestmark = pytest.mark.jax


def scene(seed=0):
    """Three samples, the last without a lesion."""
    rng = np.random.default_rng([10, seed])
    z = rng.normal(-1, 2, (3, 6, 7, 5, 1)).astype(np.float32)
    y = rng.random(z.shape) < 0.04
    y[2] = False
    return z, y.astype(np.float32), (rng.random(z.shape) < 0.95).astype(np.float32)


def one_by_one(z, y, valid, oracle, cross_entropy):
    """Other lesions are masked out: probability 0 for Dice, logit 0 for cross-entropy."""
    samples = []
    for b in range(len(z)):
        lesions = oracle.parts_of(y[b, ..., 0] > 0)
        if not lesions:
            continue
        logits, taken = z[b, ..., 0].astype(float), valid[b, ..., 0] > 0
        losses = []
        for lesion in lesions:
            other = (y[b, ..., 0] > 0) & ~lesion
            domain = taken & ~other | lesion
            p = np.where(domain, 1 / (1 + np.exp(-logits)), 0)
            loss = 1 - (2 * p[lesion].sum() + 1e-5) / (p.sum() + lesion.sum() + 1e-5)
            if cross_entropy:
                masked = np.where(other, 0, logits)
                per_voxel = oracle.softplus(np.where(lesion, -masked, masked))
                loss += per_voxel[taken | other | lesion].mean()
            losses.append(loss)
        samples.append(np.mean(losses))
    return np.mean(samples) if samples else 0.0


@pytest.mark.parametrize("cross_entropy", [True, False])
@pytest.mark.parametrize("labelling", ["graph", "host"])
def test_it_is_the_mean_over_lesions_of_the_loss_without_the_others(
    cross_entropy, labelling, oracle
):
    for seed in range(3):
        z, y, valid = scene(seed)
        valid = np.maximum(valid, y)
        got = blob_term(
            *map(ops.convert_to_tensor, (z, y, valid)),
            cross_entropy=cross_entropy,
            labelling=labelling,
        )
        expected = one_by_one(z, y, valid, oracle, cross_entropy)
        assert float(got) == pytest.approx(expected, rel=1e-5)


def test_without_any_lesion_it_is_0():
    z, y, valid = scene()
    assert float(blob_term(*map(ops.convert_to_tensor, (z, 0 * y, valid)))) == 0


def test_small_lesions_pull_as_much_as_large_ones(gradient):
    """What it is for: the same certainty gives each lesion its own equal share of the Dice."""
    z = np.full((1, 16, 16, 1), -9.0, np.float32)
    y = np.zeros_like(z)
    y[0, 1:9, 1:9] = y[0, 12:14, 12:14] = 1
    z[y > 0] = 0.0
    one = ops.ones_like(ops.convert_to_tensor(z))
    slope = gradient(lambda t: blob_term(t, ops.convert_to_tensor(y), one, cross_entropy=False), z)
    large, small = slope[0, 1:9, 1:9].sum(), slope[0, 12:14, 12:14].sum()
    assert large < 0
    assert small / large == pytest.approx(1, abs=0.02)


def test_the_objective_weighs_main_and_blob_two_to_one():
    z, y, _ = scene()
    target = np.concatenate([y, np.ones_like(y)], axis=-1)
    loss = BlobLoss()
    terms = {n: float(v) for n, v in loss.terms(ops.convert_to_tensor(z), target, 0).items()}
    assert set(terms) == {*loss.names, "total"}
    assert terms["total"] == pytest.approx(2 * terms["main"] + terms["blob"], rel=1e-6)
