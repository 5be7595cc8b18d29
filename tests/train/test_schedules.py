import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.config import TrainConfig
from segpipe.train.schedules import WarmupDecay
from segpipe.train.trainer import make_optimizer


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def expected(step, peak, total, warmup, decay):
    rising = max(1.0, warmup * total)
    falling = max(1.0, total - rising)
    left = min(1.0, max(0.0, 1 - (step - rising) / falling))
    down = {
        "poly": left**0.9,
        "cosine": (1 - math.cos(math.pi * left)) / 2,
        "constant": 1.0,
    }[decay]
    up = min(1.0, (step + 1) / rising) if warmup else 1.0
    return peak * min(up, down)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["poly", "cosine", "constant"]),
    st.integers(1, 5000),
    st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    st.floats(0, 1.2),
)
def test_the_rate_is_the_formula(decay, total, warmup, share):
    schedule = WarmupDecay(0.01, total, warmup, decay)
    step = int(share * total)
    assert float(schedule(step)) == pytest.approx(
        expected(step, 0.01, total, warmup, decay), rel=1e-4, abs=1e-7
    )


def test_polynomial_decay_has_power_0_9():
    schedule = WarmupDecay(2.0, 101, 0.0, "poly")
    assert rates(schedule, (0, 1, 51, 101)) == pytest.approx([2, 2, 2 * 0.5**0.9, 0], rel=1e-5)


def test_warm_up_is_linear_and_ends_at_the_peak():
    schedule = WarmupDecay(1.0, 100, 0.1, "constant")
    assert rates(schedule, range(12)) == pytest.approx([*np.arange(1, 11) / 10, 1, 1])


@pytest.mark.parametrize("decay", ["poly", "cosine"])
def test_after_warm_up_it_falls_to_0_and_never_rises(decay):
    schedule = WarmupDecay(1.0, 40, 0.25, decay)
    values = np.array(rates(schedule, range(45)))
    assert values.argmax() <= 10
    assert values.max() == 1.0
    assert (np.diff(values[10:]) <= 0).all()
    assert (np.diff(values[10:40]) < 0).all()
    assert (values[40:] == 0).all()


def test_it_survives_serialisation_and_drives_an_optimizer():
    schedule = WarmupDecay(0.5, 10, 0.2, "cosine")
    copy = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert copy.get_config() == schedule.get_config()
    assert rates(copy, range(11)) == rates(schedule, range(11))
    optimizer = keras.optimizers.SGD(learning_rate=copy)
    weight = keras.Variable([1.0])
    optimizer.build([weight])
    optimizer.apply([keras.ops.convert_to_tensor([1.0])])
    assert float(weight[0]) == pytest.approx(1 - 0.25)  # step 0 of 2 rising ones


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_optimizers_compute_their_rate_once_a_step_and_are_those_of_keras(kind):
    class Counted(WarmupDecay):
        calls = 0

        def __call__(self, step):
            self.calls += self._held is None
            return super().__call__(step)

    config = TrainConfig(optimizer=kind, weight_decay=0.1, clip_norm=1.0)
    counted = Counted(0.1, 8, 0.2, "poly")
    own = make_optimizer(config, counted)
    options = {"weight_decay": 0.1, "global_clipnorm": 1.0}
    if kind == "adamw":
        peer = keras.optimizers.AdamW(WarmupDecay(0.1, 8, 0.2, "poly"), **options)
    else:
        options |= {"momentum": 0.99, "nesterov": True}
        peer = keras.optimizers.SGD(WarmupDecay(0.1, 8, 0.2, "poly"), **options)
    rng = np.random.default_rng(0)
    start = [rng.normal(size=(3, 2)).astype(np.float32) for _ in range(3)]
    weights = [[keras.Variable(array) for array in start] for _ in range(2)]
    for optimizer, mine in zip((own, peer), weights, strict=True):
        optimizer.build(mine)
    counted.calls = 0
    for _ in range(5):
        slopes = [rng.normal(size=(3, 2)).astype(np.float32) for _ in start]
        for optimizer in (own, peer):
            optimizer.apply([keras.ops.convert_to_tensor(slope) for slope in slopes])
    assert counted.calls == 5
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
