import sys

import keras
import numpy as np
import pytest

from segpipe.backend.openvino import import_openvino
from segpipe.config import ModelConfig
from segpipe.errors import ConfigError
from segpipe.model.unet import build_unet
from segpipe.predict.engines import choose_engine, make_engine
from segpipe.predict.window import foreground_probabilities

PATCH = (16, 16, 8)


def make_network(precision, outputs=2, **model):
    """A U-Net with random weights whose probabilities spread over [0, 1]."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(3)
    network = build_unet(ModelConfig(features=(8, 16), **model), PATCH, (1, 1, 1), 2, outputs)
    keras.config.set_dtype_policy(policy)
    rng = np.random.default_rng(4)
    network.set_weights([w + rng.normal(0, 0.05, w.shape) for w in network.get_weights()])
    return network


def make_tiles(batch=2):
    return np.random.default_rng(5).normal(size=(batch, *PATCH, 2)).astype(np.float32)


def probabilities(network, engine, tiles):
    return foreground_probabilities(make_engine(engine, network, len(tiles))(tiles))


@pytest.fixture
def openvino():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("OpenVINO converts from TensorFlow")
    try:
        module = import_openvino()
    except ConfigError:
        pytest.skip("OpenVINO is not installed")
    assert sys.modules["openvino_telemetry"] is None  # nothing is sent from here
    return module


@pytest.mark.parametrize(
    ("outputs", "model"),
    [
        (1, {}),
        (3, {}),
        (2, {"norm": "batch", "block": "residual", "activation": "silu"}),
        (2, {"norm": "none", "activation": "relu"}),
    ],
)
def test_openvino_computes_what_keras_computes(openvino, outputs, model):
    network, tiles = make_network("float32", outputs, **model), make_tiles()
    expected = probabilities(network, "keras", tiles)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(probabilities(network, "openvino", tiles), expected, atol=1e-4)


def test_a_bfloat16_network_converts_and_stays_close_to_float32(openvino):
    exact, tiles = make_network("float32"), make_tiles()
    rounded = make_network("mixed_bfloat16")
    rounded.set_weights(exact.get_weights())
    expected = probabilities(exact, "keras", tiles)
    got = probabilities(rounded, "openvino", tiles)
    assert np.abs(got - expected).max() < 0.1
    assert np.abs(got - expected).mean() < 0.01


def test_conversion_leaves_the_network_as_it_was(openvino):
    network, tiles = make_network("mixed_bfloat16"), make_tiles()
    policies = [layer.dtype_policy.name for layer in network.layers]
    before = probabilities(network, "keras", tiles)
    make_engine("openvino", network, 2)
    assert [layer.dtype_policy.name for layer in network.layers] == policies
    np.testing.assert_array_equal(probabilities(network, "keras", tiles), before)


def test_openvino_gives_results_that_later_calls_do_not_overwrite(openvino):
    engine, tiles = make_engine("openvino", make_network("float32"), 2), make_tiles()
    first = engine(tiles)
    kept = first.copy()
    engine(-tiles)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("wanted", "kind", "backend", "installed", "expected"),
    [
        ("auto", "cpu", "tensorflow", True, "openvino"),
        ("auto", "cpu", "tensorflow", False, "keras"),
        ("auto", "gpu", "tensorflow", True, "keras"),
        ("auto", "cpu", "jax", True, "keras"),
        ("keras", "cpu", "tensorflow", True, "keras"),
    ],
)
def test_auto_is_openvino_only_where_it_works(
    monkeypatch, wanted, kind, backend, installed, expected
):
    found = object() if installed else None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    assert choose_engine(wanted, kind, backend) == expected


def test_an_engine_that_cannot_work_is_refused_when_it_is_chosen(monkeypatch):
    monkeypatch.setattr("segpipe.backend.openvino.import_openvino", lambda: None)
    assert choose_engine("openvino", "gpu", "tensorflow") == "openvino"
    with pytest.raises(ConfigError, match="from backend tensorflow; received jax"):
        choose_engine("openvino", "cpu", "jax")
