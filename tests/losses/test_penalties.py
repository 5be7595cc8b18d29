"""The penalties of the pipeline in any Keras model: exact values, and the pipeline's own terms."""

import inspect
import math

import keras
import numpy as np
import pytest
from keras import ops

from segpipe import losses
from segpipe.config import LossConfig
from segpipe.losses import (
    FalsePositiveRegions,
    MissedLesionCount,
    MissedLesions,
    RegionCount,
    VoxelCount,
    penalties,
)
from segpipe.losses.compound import CompoundLoss

pytestmark = pytest.mark.jax

LOSSES = [
    VoxelCount(0.4, tau=1.0, delta=3.0, budget=20.0, border=2, name="mine", reduction="sum"),
    RegionCount(0.6, min_voxels=2, overlap=0.3, cut=0.0, border=0, labelling="host"),
    MissedLesions(0.7, labelling="host"),
]
METRICS = [
    FalsePositiveRegions(0.6, min_voxels=2, overlap=0.3, border=0, labelling="host"),
    MissedLesionCount(0.7),
]


def softplus(z):
    return math.log1p(math.exp(z))


def line(*values):
    """(1, N, 1, 1) float32."""
    return np.array(values, np.float32).reshape(1, -1, 1, 1)


LESION = line(1, 0, 0, 0, 0, 0, 0, 0)
LOGITS = line(4, -9, -9, 4, 4, -9, -9, -9)
"""A lesion found at voxel 0, and a false-positive region of voxels 3 and 4."""


def value(function, *arguments, **settings):
    (found,) = np.asarray(function(*arguments, **settings))
    return pytest.approx(float(found), rel=1e-5)


@pytest.mark.parametrize(
    ("weight", "border", "overlap", "expected"),
    [
        (None, 1, 0.0, softplus(4)),
        (line(9, 9, 9, 2, 0, 9, 9, 9), 1, 0.0, softplus(4)),  # the mean over the region is 1
        (line(9, 9, 9, 0, 0, 9, 9, 9), 1, 0.0, 0.0),
        (None, 3, 0.0, 0.0),  # voxel 3 lies on the border of the lesion: found rightly
        (None, 3, 0.5, softplus(4)),
    ],
)
def test_a_false_positive_region_counts_by_its_weight_outside_the_border(
    weight, border, overlap, expected
):
    settings = {"border": border, "overlap": overlap}
    got = value(penalties.region_count, LESION, LOGITS, weight, **settings)
    assert math.log1p(expected) == got
    count = value(penalties.false_positive_regions, LESION, LOGITS, **settings)
    assert float(border == 1 or overlap > 0) == count


def test_a_region_cut_by_the_border_of_the_array_counts_as_configured_and_small_ones_do_not():
    z = line(-9, -9, -9, -9, -9, -9, 4, 4)
    for cut in (0.0, 0.5, 1.0):
        got = value(penalties.region_count, 0 * LESION, z, cut=cut)
        assert math.log1p(cut * softplus(4)) == got
    for smallest, expected in ((2, 1.0), (3, 0.0)):
        found = value(penalties.false_positive_regions, LESION, LOGITS, min_voxels=smallest)
        assert expected == found


def test_the_border_lies_around_the_lesion_whatever_keras_calls_the_first_axis():
    reference, z = np.zeros((1, 9, 9, 9, 1)), np.full((1, 9, 9, 9, 1), -9.0)
    reference[0, 4, 4, 4] = 1
    z[0, 4, 4, 5] = 3  # beside the lesion
    usual = keras.config.image_data_format()
    try:
        for order in ("channels_last", "channels_first"):
            keras.config.set_image_data_format(order)
            assert float(VoxelCount(border=1)(reference, z)) == 0
    finally:
        keras.config.set_image_data_format(usual)


def test_voxels_above_the_threshold_count_outside_the_border():
    each = math.log2(1 + math.exp(4 / 0.5))
    for border, voxels in ((0, 2), (1, 2), (3, 1), (4, 0)):
        got = value(penalties.voxel_count, LESION, LOGITS, border=border, budget=50.0)
        assert math.log1p(voxels * each / 50) == got
    got = value(penalties.voxel_count, LESION, LOGITS, line(0, 0, 0, 3, 0.5, 0, 0, 0))
    assert math.log1p(3.5 * each / 100) == got


def test_a_lesion_is_missed_while_no_voxel_of_it_is_found():
    assert value(penalties.missed_lesions, LESION, LOGITS) == 0.0
    assert math.log1p(softplus(-4)) == value(
        penalties.missed_lesions, LESION, LOGITS, threshold=0.99
    )
    two = LESION + line(0, 0, 0, 0, 0, 0, 1, 1)
    assert math.log1p(softplus(9)) == value(penalties.missed_lesions, two, LOGITS)
    assert value(penalties.missed_lesion_count, two, LOGITS) == 1.0
    assert value(penalties.missed_lesion_count, two, LOGITS, threshold=0.99) == 2.0


@pytest.mark.parametrize("classes", [1, 2])
def test_they_are_the_terms_that_the_pipeline_trains_on(classes):
    rng = np.random.default_rng(classes)
    shape = (2, 7, 6, 5)
    z = rng.normal(-1, 3, (*shape, classes + (classes > 1))).astype(np.float32)
    index = rng.integers(0, classes + 1, shape) * (rng.random(shape) < 0.03)
    weight = rng.random((*shape, 1)).astype(np.float32)
    config = LossConfig.model_validate(
        {"region_count": {"weight": 1, "min_size_mm3": 6, "overlap": 0.3}, "threshold_end": 0.6}
    )
    target = np.concatenate([index[..., None], weight], axis=-1).astype(np.float32)
    terms = CompoundLoss(config, classes, 3.0).terms(z, ops.convert_to_tensor(target), 1.0)
    one_hot = (index[..., None] == np.arange(classes + 1)).astype(np.float32)
    reference = one_hot[..., 1:] if classes == 1 else one_hot
    carried = np.concatenate([reference, weight], axis=-1)
    voxel = VoxelCount(budget=100 / 3, border=0)
    region = RegionCount(0.6, min_voxels=2, overlap=0.3, border=0)
    for loss, name in ((voxel, "voxel_count"), (region, "region_count")):
        got = np.asarray(loss.call(carried, ops.convert_to_tensor(z)))
        np.testing.assert_allclose(got, np.asarray(terms[name]), rtol=1e-5)
        assert (got > 0).all()
    for y_true in (reference, carried):
        got = np.asarray(MissedLesions(0.6).call(y_true, ops.convert_to_tensor(z)))
        np.testing.assert_allclose(got, np.asarray(terms["missed"]), rtol=1e-5)
        got = np.asarray(penalties.missed_lesion_count(y_true, z, threshold=0.6))
        np.testing.assert_array_equal(got, np.asarray(terms["missed_lesions"]))


@pytest.mark.parametrize("one", [*LOSSES, *METRICS])
def test_settings_survive_serialisation_and_are_attributes(one):
    settings = set(inspect.signature(type(one).__init__).parameters) - {"self"}
    config = one.get_config()
    assert settings == set(config)
    assert type(one).from_config(config).get_config() == config
    for name in settings - {"reduction", "name", "dtype"}:
        assert getattr(one, name) == config[name]


def network(activation="linear"):
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(1, 1, activation=activation),
    ]
    return keras.Sequential(layers)


def scenes():
    """Lesions of 2×2, and decoys that are less bright."""
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.1, (8, 8, 8, 1)).astype(np.float32)
    reference = np.zeros_like(image)
    image[:, 1:3, 1:3] += 1.0
    reference[:, 1:3, 1:3] = 1.0
    image[:, 5:7, 5:7] += 0.6
    return image, reference


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own
def test_a_stock_model_trains_on_cross_entropy_and_a_penalty_that_rises(tmp_path):
    image, reference = scenes()
    target = np.concatenate([reference, np.full_like(reference, 2.0)], axis=-1)
    model = network()
    model.share = keras.Variable(0.0, trainable=False)
    terms = RegionCount(labelling="host"), MissedLesions(labelling="host")

    def loss(y_true, z):
        cross_entropy = keras.losses.binary_crossentropy(y_true[..., :1], z, from_logits=True)
        return ops.mean(cross_entropy) + model.share * sum(term(y_true, z) for term in terms)

    ramp = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, _: model.share.assign(min(epoch / 5, 1.0))
    )
    metrics = [FalsePositiveRegions(border=0), MissedLesionCount()]
    model.compile(keras.optimizers.Adam(0.1), loss, metrics=metrics)
    z = model.predict(image, verbose=0)
    without = model.evaluate(image, target, verbose=0)[0]
    model.share.assign(1.0)
    penalty = sum(float(term(target, ops.convert_to_tensor(z))) for term in terms)
    assert model.evaluate(image, target, verbose=0)[0] == pytest.approx(without + penalty, rel=1e-5)
    assert penalty > 0.01
    history = model.fit(image, target, epochs=25, verbose=0, callbacks=[ramp]).history
    assert history["false_positive_regions"][-1] < 0.2
    assert history["missed_lesion_count"][-1] < 0.2
    keras.Model(model.inputs, model.outputs).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(image, verbose=0), model.predict(image, verbose=0))


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64:UserWarning")  # by JAX
@pytest.mark.parametrize("shape", [(2, 8, 7, 1), (2, 8, 7, 6, 1)])
def test_numpy_s_own_precision_gives_the_same_penalties(shape):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 3, shape).astype(np.float32)
    reference, weight = (rng.random(shape) < 0.1) * 1.0, rng.random(shape)
    assert reference.dtype == weight.dtype == np.float64
    for term in (losses.voxel_count, losses.region_count, losses.missed_lesions):
        given = {} if term is losses.missed_lesions else {"weight": weight}
        single = {name: value.astype(np.float32) for name, value in given.items()}
        found = term(reference, ops.convert_to_tensor(z), **given)
        expected = term(reference.astype(np.float32), ops.convert_to_tensor(z), **single)
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-6)
    counts = []
    for target in (reference, reference.astype(np.float32)):
        metric = FalsePositiveRegions(border=0)
        metric.update_state(target, ops.convert_to_tensor(z))
        counts.append(float(metric.result()))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_voxels_are_no_sample_weight(loss):
    inside = np.zeros((1, 10, 10, 10, 1), bool)
    inside[0, 1:3, 1:3, 1:3] = True  # a lesion that is missed
    wrong = inside[:, ::-1, ::-1, ::-1]
    z, reference = ops.convert_to_tensor(np.where(wrong, 4.0, -4.0)), inside.astype(np.float32)
    assert float(loss(reference, z)) > 0.01
    assert float(loss(reference, z, np.array([2.0]))) == pytest.approx(
        2 * float(loss(reference, z))
    )
    with pytest.raises(ValueError, match="one number for each sample; received shape"):
        loss(reference, z, np.ones((1, 10, 10, 10)))


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64])
@pytest.mark.parametrize(
    "term",
    [
        losses.voxel_count,
        losses.region_count,
        losses.missed_lesions,
        penalties.false_positive_regions,
        penalties.missed_lesion_count,
    ],
)
def test_masks_of_any_type_are_references(term, kind):
    reference, z = np.concatenate([LESION] * 2), ops.convert_to_tensor(np.concatenate([LOGITS] * 2))
    expected = np.asarray(term(reference, z))
    given = ops.convert_to_tensor(reference.astype(kind))
    np.testing.assert_array_equal(np.asarray(term(given, z)), expected)


def test_metrics_count_in_masks_of_whole_numbers():
    for metric, expected in ((FalsePositiveRegions(border=0), 1), (MissedLesionCount(), 0)):
        metric.update_state(LESION.astype(np.uint8), ops.convert_to_tensor(LOGITS))
        assert float(metric.result()) == expected


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own
def test_a_compiled_model_is_saved_with_its_penalty_and_metrics(tmp_path):
    image, reference = scenes()
    model = network()
    model.compile("sgd", RegionCount(0.45), metrics=[FalsePositiveRegions(), MissedLesionCount()])
    before = model.evaluate(image, reference, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == model.loss.get_config()
    np.testing.assert_allclose(loaded.evaluate(image, reference, verbose=0), before, rtol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_compiled_values_are_the_eager_ones_and_nothing_is_traced_twice(loss, compiled):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 3, (2, 5, 6, 4, 1)).astype(np.float32)
    reference = (rng.random(z.shape) < 0.1).astype(np.float32)
    eager = np.asarray(loss.call(ops.convert_to_tensor(reference), ops.convert_to_tensor(z)))
    assert eager.shape == (2,)
    once = compiled(loss.call)
    for _ in range(2):
        np.testing.assert_allclose(np.asarray(once(reference, z)), eager, rtol=1e-5)
    assert once.traces == 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: VoxelCount(1.0), r"voxel_count: threshold: expected a number in \(0, 1\)"),
        (lambda: VoxelCount(tau=0), "tau: expected above 0; received 0"),
        (lambda: VoxelCount(budget=-1), "budget: expected above 0; received -1"),
        (lambda: VoxelCount(border=0.5), "border: expected a whole number from 0; received 0.5"),
        (lambda: RegionCount(overlap=1), r"overlap: expected in \[0, 1\); received 1"),
        (lambda: RegionCount(cut=2), r"cut: expected in \[0, 1\]; received 2"),
        (lambda: RegionCount(min_voxels=0), "min_voxels: expected from 1; received 0"),
        (lambda: MissedLesions(labelling="here"), "labelling: expected one of graph, host"),
        (lambda: FalsePositiveRegions(0), "false_positive_regions: threshold: expected"),
    ],
)
def test_settings_out_of_range_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_channels_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="region_count: the channels do not fit"):
        RegionCount()(np.concatenate([LESION] * 3, axis=-1), LOGITS)
    with pytest.raises(ValueError, match="voxel_count: weight does not fit"):
        penalties.voxel_count(LESION, LOGITS, np.concatenate([LESION] * 2, axis=-1))
    three = np.concatenate([LOGITS] * 3, axis=-1)
    said = (
        "missed_lesions: channels of the reference are missing. Expected y_true to be reference, "
        r"or concatenate\(\[reference, weight\], axis=-1\), with 3 or 4 channels"
    )
    with pytest.raises(ValueError, match=said):
        MissedLesions()(LESION, three)
    with pytest.raises(ValueError, match=r"missed_lesions: the channels do not fit.*3 or 4 ch"):
        MissedLesions()(np.concatenate([LESION] * 6, axis=-1), three)


def test_a_number_of_channels_that_is_not_known_in_time_is_told():
    target, logits = keras.KerasTensor((2, 4, 4, None)), keras.KerasTensor((2, 4, 4, 1))
    with pytest.raises(ValueError, match=r"not known before the step runs.*Compile the model anew"):
        VoxelCount().call(target, logits)
