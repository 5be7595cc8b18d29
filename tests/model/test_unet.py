import keras
import numpy as np
import pytest
from keras import ops

from segpipe.config import ModelConfig
from segpipe.errors import ConfigError
from segpipe.model.blocks import InstanceNorm, residual_block
from segpipe.model.levels import plan_levels
from segpipe.model.unet import build_unet


def test_instance_norm_has_zero_mean_and_unit_variance():
    x = np.random.default_rng(0).normal(5, 3, (2, 6, 7, 8, 4)).astype(np.float32)
    y = ops.convert_to_numpy(InstanceNorm(epsilon=0.0)(x))
    np.testing.assert_allclose(y.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((1, 2, 3)), 1, atol=1e-5)


def test_instance_norm_survives_serialisation():
    layer = InstanceNorm.from_config(InstanceNorm(epsilon=1e-3).get_config())
    assert layer.epsilon == 1e-3


@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("patch", [(16, 16), (16, 16, 16)])
def test_output_has_the_patch_shape(block, norm, patch):
    config = ModelConfig(dimensions=len(patch), block=block, norm=norm, features=(4, 8, 8))
    network = build_unet(config, patch, (1.0,) * len(patch), channels=2, outputs=3)
    x = np.random.default_rng(0).normal(size=(2, *patch, 2)).astype(np.float32)
    y = ops.convert_to_numpy(network(x))
    assert y.shape == (2, *patch, 3)
    assert y.dtype == np.float32
    assert np.isfinite(y).all()


def test_deep_supervision_adds_coarser_outputs():
    config = ModelConfig(features=(4, 8, 8), deep_supervision=True)
    network = build_unet(config, (16, 16, 16), (1, 1, 1), channels=1, outputs=1)
    assert [tuple(o.shape[1:-1]) for o in network.outputs] == [(16,) * 3, (8,) * 3]


def test_anisotropic_axes_wait_until_the_others_caught_up():
    config = ModelConfig(features=(4, 8, 16, 32))
    levels = plan_levels(config, (64, 64, 16), (1, 1, 4))
    assert [level.stride for level in levels] == [(1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2)]
    assert [level.kernel for level in levels] == [(3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3)]


def test_an_axis_too_short_to_be_halved_keeps_no_other_from_it():
    config = ModelConfig(features=(4, 8, 16, 32))
    levels = plan_levels(config, (96, 96, 6), (1, 1, 1))
    assert [level.stride for level in levels] == [(1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 1)]
    assert {level.kernel for level in levels} == {(3, 3, 3)}
    levels = plan_levels(config, (24, 36, 20), (1, 1, 1))  # 3, 9, 5 cannot be halved
    assert [level.stride for level in levels[2:]] == [(2, 2, 2), (1, 1, 1)]
    assert {level.kernel for level in levels} == {(3, 3, 3)}


def test_strides_that_do_not_divide_the_patch_are_refused():
    config = ModelConfig(features=(4, 8), strides=((2, 2, 2),))
    with pytest.raises(ConfigError, match=r"train\.patch: expected \(15, 16, 16\)"):
        plan_levels(config, (15, 16, 16), (1, 1, 1))


@pytest.mark.parametrize(("shape", "stride"), [((7, 6), (2, 2)), ((8, 5), (2, 1)), ((5, 6, 4), 2)])
def test_the_shortcut_is_a_strided_convolution(shape, stride):
    rank = len(shape)
    stride = (stride,) * rank if isinstance(stride, int) else stride
    inputs = keras.Input((*shape, 3))
    made = residual_block(inputs, 4, 3, stride, 2, "none", "relu", "b")
    network = keras.Model(
        inputs, [made, keras.Model(inputs, made).get_layer("b_shortcut_conv").output]
    )
    x = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32)
    kernel, bias = network.get_layer("b_shortcut_conv").get_weights()
    expected = ops.conv(x, kernel, strides=stride, padding="same", data_format="channels_last")
    np.testing.assert_allclose(network(x)[1], expected + bias, atol=1e-5)


def test_first_predictions_say_background():
    network = build_unet(ModelConfig(features=(4, 8)), (8, 8, 8), (1, 1, 1), 1, 1)
    p = ops.convert_to_numpy(ops.sigmoid(network(np.zeros((1, 8, 8, 8, 1), np.float32))))
    assert p.max() < 0.06


def test_same_seed_same_weights():
    networks = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        networks.append(build_unet(ModelConfig(features=(4, 8)), (8, 8), (1, 1), 1, 1))
    for a, b in zip(networks[0].weights, networks[1].weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
