import keras
import numpy as np
import pytest

from segpipe.config import (
    LossConfig,
    ModelConfig,
    RegionCountConfig,
    TrainConfig,
    VoxelCountConfig,
)
from segpipe.losses.compound import CompoundLoss
from segpipe.model.unet import build_unet
from segpipe.train.trainer import Trainer

pytestmark = pytest.mark.jax


def unet():
    keras.utils.set_random_seed(0)
    return build_unet(ModelConfig(features=(4, 8)), (8, 8, 8), (1, 1, 1), 1, 1)


def handed_through():
    """A network whose logits are its image."""
    image = keras.Input((8, 8, 8, 1))
    return keras.Model(image, keras.layers.Conv3D(1, 1, kernel_initializer="ones")(image))


def make_trainer(steps, weight=0.3, regions=0.0, labelling="graph", build=unet, ema=0.0):
    network = build()
    config = LossConfig(
        voxel_count=VoxelCountConfig(weight=weight, budget_mm3=1.0),
        region_count=RegionCountConfig(weight=regions),
        ramp_start=0.25,
        ramp_end=0.75,
    )
    trainer = Trainer(network, CompoundLoss(config, 1, 1.0, labelling), steps, ema)
    trainer.prepare(TrainConfig(learning_rate=0.02), steps, jit=False)
    return trainer


def batches(count):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(count * 2, 8, 8, 8, 1)).astype(np.float32)
    target = np.concatenate([image > 1.0, image <= 1.0], axis=-1).astype(np.float32)
    return image, target


def test_counts_its_steps_and_ramps_the_penalty():
    trainer = make_trainer(steps=8)
    image, target = batches(2)
    lambdas = []
    for _ in range(4):
        logs = trainer.fit(image, target, batch_size=2, shuffle=False, verbose=0).history
        lambdas.append(logs["voxel_count_lambda"][0])
    assert int(trainer.step) == 8
    # Steps 0..7 of 8: shares 0, 0, 0, 0.25, 0.5, 0.75, 1, 1; the mean of each pair.
    assert lambdas == pytest.approx([0.0, 0.3 * 0.125, 0.3 * 0.625, 0.3], abs=1e-6)


def test_learns_a_threshold():
    trainer = make_trainer(steps=120, weight=0.0)
    image, target = batches(4)
    first = trainer.fit(image, target, batch_size=2, verbose=0).history["loss"][0]
    for _ in range(28):
        last = trainer.fit(image, target, batch_size=2, verbose=0).history["loss"][0]
    assert last < 0.35 * first


@pytest.mark.parametrize("labelling", ["graph", "host"])
def test_reports_every_term_of_the_total(labelling):
    trainer = make_trainer(1, regions=0.2, labelling=labelling, build=handed_through)
    logits = np.full((2, 8, 8, 8, 1), -4.0, np.float32)
    logits[0, 2:4, 2:4, 2:4] = logits[0, 6, 6, 6] = logits[1, 1, 1, 1] = 3.0
    target = np.zeros((2, 8, 8, 8, 2), np.float32)
    target[..., 1] = 1.0
    target[1, 4:6, 4:6, 4:6, 0] = 1.0
    trainer.step.assign(5)
    logs = trainer.fit(logits, target, batch_size=2, verbose=0).history
    assert set(logs) == {"loss", *trainer.objective.names}
    total = logs["bce"][0] + logs["dice"][0]
    for name in ("voxel_count", "region_count", "missed"):
        total += logs[f"{name}_lambda"][0] * logs[name][0]
    assert logs["loss"][0] == pytest.approx(total, rel=1e-5)
    found, lost = np.log1p(np.exp(3.0)), np.log1p(np.exp(4.0))
    assert logs["region_count"][0] == pytest.approx(
        (np.log1p(2 * found) + np.log1p(found)) / 2, rel=1e-5
    )
    assert logs["missed"][0] == pytest.approx(np.log1p(lost) / 2, rel=1e-5)
    assert logs["false_positive_regions"][0] == 1.5  # per patch
    assert logs["missed_lesions"][0] == 0.5
    assert logs["false_positive_voxels"][0] == 5


def weights(trainer):
    return [np.asarray(v) for v in trainer.network.variables]


def normalised():
    """A network with statistics beside its weights."""
    keras.utils.set_random_seed(0)
    return build_unet(ModelConfig(features=(4, 8), norm="batch"), (8, 8, 8), (1, 1, 1), 1, 1)


def test_the_average_is_that_of_the_weights_before_every_step():
    trainer = make_trainer(steps=24, build=normalised, ema=0.6)
    image, target = batches(1)
    expected = weights(trainer)
    for done in range(24):
        before = weights(trainer)
        decay = min(0.6, done / (done + 9))
        trainer.fit(image, target, batch_size=2, verbose=0)
        moving = [
            v.path.endswith(("moving_mean", "moving_variance")) for v in trainer.network.variables
        ]
        now = [
            after if statistic else own
            for own, after, statistic in zip(before, weights(trainer), moving, strict=True)
        ]
        expected = [decay * a + (1 - decay) * w for a, w in zip(expected, now, strict=True)]
    assert decay == 0.6
    for average, array in zip(trainer.averages, expected, strict=True):
        np.testing.assert_allclose(np.asarray(average), array, rtol=1e-4, atol=1e-6)
    own = weights(trainer)
    with trainer.averaged():
        for average, array in zip(trainer.averages, weights(trainer), strict=True):
            np.testing.assert_array_equal(np.asarray(average), array)
    for before, after in zip(own, weights(trainer), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_new_pace_reaches_the_compiled_step():
    """Rate and ramp of a schedule that was shortened after its 4th step of 8, to 6."""
    trainer = make_trainer(steps=8)
    image, target = batches(2)
    trainer.fit(image, target, batch_size=2, shuffle=False, verbose=0)
    trainer.fit(image, target, batch_size=2, shuffle=False, verbose=0)
    trainer.set_pace((2.0, 4.0))  # progress 0.5 at step 4, 1 at step 6
    logs = trainer.fit(image, target, batch_size=2, shuffle=False, verbose=0).history
    # Shares of the ramp from 0.25 to 0.75: 0.5 at step 4, 1 at step 5 (progress 0.75).
    assert logs["voxel_count_lambda"][0] == pytest.approx(0.3 * 0.75, abs=1e-6)
    assert float(trainer.optimizer.learning_rate) == pytest.approx(0.0, abs=1e-9)
    before = weights(trainer)
    trainer.fit(image, target, batch_size=2, shuffle=False, verbose=0)  # at a rate of 0
    for own, after in zip(before, weights(trainer), strict=True):
        np.testing.assert_array_equal(own, after)
