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
from segpipe.train.trainer import Trainer, make_optimizer

pytestmark = pytest.mark.jax


def unet():
    keras.utils.set_random_seed(0)
    return build_unet(ModelConfig(features=(4, 8)), (8, 8, 8), (1, 1, 1), 1, 1)


def handed_through():
    """A network whose logits are its image."""
    image = keras.Input((8, 8, 8, 1))
    return keras.Model(image, keras.layers.Conv3D(1, 1, kernel_initializer="ones")(image))


def make_trainer(steps, weight=0.3, regions=0.0, labelling="graph", build=unet):
    network = build()
    config = LossConfig(
        voxel_count=VoxelCountConfig(weight=weight, budget_mm3=1.0),
        region_count=RegionCountConfig(weight=regions),
        ramp_start=0.25,
        ramp_end=0.75,
    )
    trainer = Trainer(network, CompoundLoss(config, 1, 1.0, steps, labelling))
    trainer.compile(optimizer=make_optimizer(TrainConfig(learning_rate=0.02), steps))
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
