import keras
import numpy as np
import pytest
from keras import ops

from segpipe.config import LossConfig, MissedConfig, RegionCountConfig, VoxelCountConfig
from segpipe.losses import overlap
from segpipe.losses.compound import CompoundLoss

pytestmark = pytest.mark.jax

ALL = LossConfig(
    region_count=RegionCountConfig(weight=0.2), missed=MissedConfig(weight=0.4), ramp_start=0.2,
    ramp_end=0.6,
)  # fmt: skip


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
    terms = numpy_of(CompoundLoss(LossConfig(), 1, 8.0).terms(logits, target, 1.0))
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
    loss = CompoundLoss(LossConfig(), 1, 1.0)
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
    terms = numpy_of(CompoundLoss(config, 1, 1.0).terms(logits, target, step / 100))
    assert terms["voxel_count_lambda"] == pytest.approx(0.3 * share)
    expected = terms["bce"] + terms["dice"] + 0.3 * share * terms["voxel_count"]
    np.testing.assert_allclose(terms["total"], expected, rtol=1e-6)


def test_deep_supervision_weighs_coarser_outputs_half():
    logits, target = binary_case()
    coarse = logits[:, ::2, ::2, ::2]
    loss = CompoundLoss(LossConfig(), 1, 1.0)
    both = numpy_of(loss.terms([logits, coarse], target, 0))
    fine = numpy_of(loss.terms(logits, target, 0))
    small = numpy_of(loss.terms(coarse, target[:, 1::2, 1::2, 1::2], 0))
    np.testing.assert_allclose(both["bce"], (2 * fine["bce"] + small["bce"]) / 3, rtol=1e-6)
    np.testing.assert_allclose(both["dice"], (2 * fine["dice"] + small["dice"]) / 3, rtol=1e-6)


def test_empty_reference_and_sure_background_cost_nothing():
    logits = np.full((1, 8, 8, 1), -30.0, np.float32)
    target = np.zeros((1, 8, 8, 2), np.float32)
    target[..., 1] = 1
    terms = numpy_of(CompoundLoss(LossConfig(), 1, 1.0).terms(logits, target, 1))
    assert terms["total"] == pytest.approx([0.0], abs=1e-6)


def blocks():
    """A lesion that is missed, a found one, and two regions found wrongly; 2 × 2 × 2 each."""
    logits = np.full((1, 20, 12, 12, 1), -9.0, np.float32)
    index = np.zeros(logits.shape, np.float32)
    index[0, 2:4, 2:4, 2:4] = index[0, 2:4, 7:9, 7:9] = 1
    index[0, 1:5, 6:10, 6:10] = np.where(index[0, 1:5, 6:10, 6:10] == 1, 1, 254)
    logits[0, 3:5, 8:10, 8:10] = 2.0  # found: it overlaps
    logits[0, 8:10, 2:4, 2:4] = 3.0
    logits[0, 18:20, 2:4, 2:4] = 1.0  # cut by the border
    weight = np.full(logits.shape, 2.0, np.float32)
    return logits, np.concatenate([index, weight], axis=-1)


def test_penalties_on_regions_and_lesions_as_by_hand():
    logits, target = blocks()
    terms = numpy_of(CompoundLoss(ALL, 1, 1.0).terms(logits, target, 1.0))
    wrong = 2.0 * np.log1p(np.exp(3.0)) + 0.5 * 2.0 * np.log1p(np.exp(1.0))
    assert terms["region_count"][0] == pytest.approx(np.log1p(wrong), rel=1e-5)
    assert terms["missed"][0] == pytest.approx(np.log1p(np.log1p(np.exp(9.0))), rel=1e-5)
    assert (terms["false_positive_regions"][0], terms["missed_lesions"][0]) == (2, 1)
    assert terms["false_positive_voxels"][0] == 2.0 * 16
    assert terms["component_threshold"] == pytest.approx(0.5)
    total = terms["bce"] + terms["dice"] + 0.05 * terms["voxel_count"]
    total += 0.2 * terms["region_count"] + 0.4 * terms["missed"]
    np.testing.assert_allclose(terms["total"], total, rtol=1e-6)


@pytest.mark.parametrize(("size", "regions"), [(0.0, 2), (8.0, 2), (8.1, 1)])
def test_the_smallest_region_is_given_in_mm3(size, regions):
    logits, target = blocks()
    settings = RegionCountConfig(weight=1.0, min_size_mm3=size)
    loss = CompoundLoss(ALL.model_copy(update={"region_count": settings}), 1, 1.0)
    found = numpy_of(loss.terms(logits, target, 1))["false_positive_regions"]
    assert found[0] == regions  # the one at the border has no known size
    doubled = CompoundLoss(loss.config, 1, 2.0)
    assert numpy_of(doubled.terms(logits, target, 1))["false_positive_regions"][0] == 2


@pytest.mark.parametrize(
    ("step", "threshold", "regions"), [(0, 0.7, 1), (20, 0.7, 1), (40, 0.6, 1), (60, 0.5, 2)]
)
def test_the_threshold_of_regions_falls_along_the_ramp(step, threshold, regions):
    logits, target = blocks()
    logits[logits == 1.0] = 0.3  # p = 0.574
    terms = numpy_of(CompoundLoss(ALL, 1, 1.0).terms(logits, target, step / 100))
    assert terms["component_threshold"] == pytest.approx(threshold)
    assert terms["false_positive_regions"][0] == regions
    assert terms["region_count_lambda"] == pytest.approx(0.2 * np.clip((step - 20) / 40, 0, 1))


def test_both_engines_give_the_same_bits():
    graph, host = (
        numpy_of(CompoundLoss(ALL, 3, 1.0, engine).terms(*several_labels(), 1))
        for engine in ("graph", "host")
    )
    assert graph["false_positive_regions"].min() > 0
    for name, value in graph.items():
        np.testing.assert_array_equal(value, host[name])


def test_the_band_takes_no_penalty_but_is_background():
    logits, target = blocks()
    band = target[..., 0] == 254
    loss = CompoundLoss(ALL, 1, 1.0)
    logits[band] = 5.0
    terms = numpy_of(loss.terms(logits, target, 1))
    assert terms["false_positive_voxels"][0] == 2.0 * 16
    assert terms["false_positive_regions"][0] == 2
    logits[band] = -9.0
    assert terms["bce"] > numpy_of(loss.terms(logits, target, 1))["bce"]


@pytest.mark.parametrize("regions", [0.0, 0.3])
@pytest.mark.parametrize("missed", [None, 0.0, 0.2])
def test_a_penalty_of_weight_0_is_not_there_and_missed_goes_with_regions(regions, missed):
    config = LossConfig(
        region_count=RegionCountConfig(weight=regions),
        missed=MissedConfig(weight=missed),
        voxel_count=VoxelCountConfig(weight=0),
    )
    loss = CompoundLoss(config, 1, 1.0)
    terms = numpy_of(loss.terms(*blocks(), 1.0))
    assert set(terms) == {"total", *loss.names}
    assert ("region_count" in terms) == ("false_positive_regions" in terms) == (regions > 0)
    expected = regions if missed is None else missed
    assert terms.get("missed_lambda", 0) == pytest.approx(expected)
    assert ("missed" in terms) == ("missed_lesions" in terms) == (expected > 0)
    assert "voxel_count" not in terms
    assert terms["false_positive_voxels"] == 32


def test_the_terms_are_named_in_the_order_of_the_log():
    assert CompoundLoss(ALL, 1, 1.0).names == (
        *("bce", "dice", "voxel_count", "region_count", "missed"),
        *("voxel_count_lambda", "region_count_lambda", "missed_lambda"),
        *("false_positive_voxels", "false_positive_regions", "missed_lesions"),
        "component_threshold",
    )


def test_penalties_act_on_the_finest_output_alone():
    logits, target = blocks()
    loss = CompoundLoss(ALL, 1, 1.0)
    both = numpy_of(loss.terms([logits, 0 * logits[:, ::2, ::2, ::2]], target, 1))
    fine = numpy_of(loss.terms(logits, target, 1))
    for name in ("voxel_count", "region_count", "missed", "false_positive_voxels"):
        np.testing.assert_array_equal(both[name], fine[name])


def test_several_classes_are_counted_each_on_its_own():
    """Softmax: a region of class 1 on a lesion of class 2 is no false positive, as it lies on
    the reference; the lesion is missed all the same."""
    index = np.zeros((1, 12, 12, 1), np.float32)
    index[0, 2:4, 2:4] = 2
    logits = np.zeros((1, 12, 12, 3), np.float32)
    logits[..., 0] = 9.0
    logits[0, 2:4, 2:4, 1] = 20.0
    logits[0, 8:10, 8:10, 2] = 20.0
    target = np.concatenate([index, np.ones_like(index)], axis=-1)
    terms = numpy_of(CompoundLoss(ALL, 2, 1.0).terms(logits, target, 1))
    assert (terms["false_positive_regions"][0], terms["missed_lesions"][0]) == (1, 1)
    assert terms["false_positive_voxels"][0] == 4
    z = 20 - np.log(np.exp(9.0) + 1)
    assert terms["region_count"][0] == pytest.approx(np.log1p(np.log1p(np.exp(z))), rel=1e-5)
    z = 0 - np.log(np.exp(20.0) + np.exp(9.0))
    assert terms["missed"][0] == pytest.approx(np.log1p(np.log1p(np.exp(-z))), rel=1e-5)


def several_labels(seed=0):
    """Softmax logits of three labels with band and ignored voxels."""
    rng = np.random.default_rng([6, seed])
    logits = rng.normal(-1, 2, (2, 7, 6, 5, 4)).astype(np.float32)
    index = rng.choice(6, (2, 7, 6, 5, 1), p=[0.6, 0.1, 0.1, 0.1, 0.05, 0.05])
    index = np.array([0, 1, 2, 3, 254, 255])[index]
    weight = rng.random(index.shape) * 3
    return logits, np.concatenate([index, weight], axis=-1).astype(np.float32)


def test_penalties_equal_float64_numpy_whatever_the_backend(oracle):
    logits, target = several_labels()
    config = ALL.model_copy(
        update={"region_count": RegionCountConfig(weight=0.2, overlap=0.4, min_size_mm3=4.0)}
    )
    terms = numpy_of(CompoundLoss(config, 3, 2.0).terms(logits, target, 0.3))
    wide, index = logits.astype(float), target[..., :1]
    z = np.stack(
        [wide[..., c] - np.log(np.exp(np.delete(wide, c, -1)).sum(-1)) for c in range(1, 4)],
        axis=-1,
    )
    weight, spared = target[..., 1:].astype(float), index != 0
    n = oracle.voxel_count(z, weight * ~spared, threshold=0.5, tau=0.5, delta=2.0)
    rules = {"min_voxels": 2, "overlap": 0.4, "cut": 0.5}
    threshold = 0.7 - 0.2 * 0.25
    existence, wrong = oracle.region_count(z, weight, spared, threshold, **rules)
    distance, lost = oracle.missed_lesions(z, index == [1, 2, 3], threshold)
    expected = {
        "voxel_count": np.log1p(n / 50.0),
        "region_count": np.log1p(existence),
        "missed": np.log1p(distance),
        "false_positive_regions": wrong,
        "missed_lesions": lost,
    }
    assert wrong.min() > 2
    assert lost.min() > 2
    for name, values in expected.items():
        np.testing.assert_allclose(terms[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("engine", ["graph", "host"])
def test_all_steps_are_traced_once_and_equal_the_eager_ones(engine, compiled):
    loss = CompoundLoss(ALL, 3, 1.0, engine)
    once = compiled(loss.terms)
    for step in (0, 30, 50, 99):
        arrays = (*several_labels(step), np.float32(step / 100))
        fast, slow = numpy_of(once(*arrays)), numpy_of(loss.terms(*arrays))
        for name, values in slow.items():
            np.testing.assert_allclose(fast[name], values, rtol=2e-5, err_msg=name)
    assert once.traces == 1


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX is compiled by XLA anyway")
def test_xla_takes_the_loop_whose_end_the_data_decide():
    import tensorflow as tf

    loss = CompoundLoss(ALL, 3, 1.0)
    arrays = (*several_labels(), np.float32(0.99))
    compiled = tf.function(loss.terms, jit_compile=True)
    fast, slow = numpy_of(compiled(*map(tf.constant, arrays))), numpy_of(loss.terms(*arrays))
    assert slow["false_positive_regions"].min() > 0
    for name, values in slow.items():
        np.testing.assert_allclose(fast[name], values, rtol=2e-5, err_msg=name)
