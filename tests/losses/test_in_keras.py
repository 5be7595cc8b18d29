"""The six losses in ``model.compile``, saved and loaded; the naive count teaches nothing."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import segpipe.losses
from segpipe.losses import (
    CountAboveThreshold,
    CountPlusCrossEntropy,
    FilteredLoss,
    HardCount,
    MaskedCount,
    MaskedMeanSquaredError,
    ThresholdedMeanAbsoluteError,
    counting,
)

pytestmark = pytest.mark.jax

ROOT = Path(__file__).parents[2]

RULES = [("prediction", ">", 0.3), ("confidence", ">", 0.5)]
LOSSES = {
    "count": CountAboveThreshold(0.4, fraction=False, form="soft", tau=1.0, delta=3.0),
    "count of logits": CountAboveThreshold(from_logits=True),
    "masked count": MaskedCount(0.3, reduction="sum", name="mine"),
    "count and cross-entropy": CountPlusCrossEntropy(0.4, 0.5, 2.0),
    "masked squared error": MaskedMeanSquaredError(from_logits=True),
    "absolute error": ThresholdedMeanAbsoluteError(0.2),
    "filtered": FilteredLoss(RULES, "binary_crossentropy", further=["confidence"]),
    "filtered and weighted": FilteredLoss(
        RULES,
        keras.losses.MeanAbsoluteError(reduction="none"),
        "importance",
        further=["confidence", "importance"],
        weight_in_mean=True,
    ),
}
BEHIND = {"masked count": 1, "masked squared error": 1, "filtered": 1, "filtered and weighted": 2}


def data(name, shape=(4, 6, 5), channels=1):
    """Target with what the loss wants behind the reference, image, probabilities."""
    rng = np.random.default_rng(0)
    image = rng.random((*shape, channels)).astype(np.float32)
    reference = (image > 0.7).astype(np.float32)
    behind = rng.random((*shape, BEHIND.get(name, 0))).astype(np.float32)
    target = np.concatenate([reference, behind], axis=-1)
    return target, image, rng.uniform(0.05, 0.95, (*shape, channels)).astype(np.float32)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_was_serialised_is_the_same_loss(name):
    loss = LOSSES[name]
    target, _, p = data(name)
    for again in (
        keras.losses.deserialize(keras.losses.serialize(loss)),
        type(loss).from_config(loss.get_config()),
    ):
        assert type(again) is type(loss)
        assert again.get_config() == loss.get_config()
        assert float(again(target, p)) == float(loss(target, p))
    assert float(loss(target, p)) > 0


def test_every_setting_is_in_the_configuration():
    import inspect

    for loss in LOSSES.values():
        settings = set(inspect.signature(type(loss).__init__).parameters) - {"self"}
        assert settings == set(loss.get_config())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(4, 6, 5), (3, 4, 5, 6), (2, 9)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_value_per_sample_in_any_dimension(name, shape, channels, compiled):
    loss = LOSSES[name]
    target, _, p = data(name, shape, channels)
    values = np.asarray(loss.call(ops.convert_to_tensor(target), ops.convert_to_tensor(p)))
    assert values.shape == shape[:1]
    tensors = [[ops.convert_to_tensor(a[i : i + 1]) for a in (target, p)] for i in range(shape[0])]
    alone = [float(loss.call(*pair)[0]) for pair in tensors]
    np.testing.assert_allclose(values, alone, rtol=1e-5)
    once = compiled(loss.call)
    for _ in range(2):
        np.testing.assert_allclose(np.asarray(once(target, p)), values, rtol=1e-5)
    assert once.traces == 1
    reduced = {"sum": values.sum()}.get(loss.reduction, values.mean())
    assert float(loss(target, p)) == pytest.approx(reduced, rel=1e-5)


def network(activation, policy="float32"):
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((6, 5, 1)),
        keras.layers.Conv2D(4, 3, padding="same", activation="relu", dtype=policy),
        keras.layers.Conv2D(1, 1, activation=activation, dtype=policy),
    ]
    return keras.Sequential(layers)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_stock_model_learns_from_each_loss(name, policy):
    loss = LOSSES[name]
    target, image, _ = data(name)
    activation = "linear" if getattr(loss, "from_logits", False) else "sigmoid"
    model = network(activation, policy)
    model.compile(keras.optimizers.Adam(0.05), loss=loss)
    history = model.fit(image, target, epochs=30, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < 0.9 * history[0]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own
def test_a_compiled_model_is_saved_and_loaded_with_its_loss(tmp_path):
    model = network("sigmoid")
    model.compile("sgd", loss=LOSSES["filtered and weighted"], metrics=[HardCount(0.4)])
    target, image, _ = data("filtered and weighted")
    before = model.evaluate(image, target, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == model.loss.get_config()
    np.testing.assert_allclose(loaded.evaluate(image, target, verbose=0), before, rtol=1e-6)


def values_of(model):
    return [np.array(ops.convert_to_numpy(weight + 0.0)) for weight in model.weights]


class NaiveCount(keras.losses.Loss):
    """What training on the hard count itself would be."""

    def call(self, y_true, y_pred):
        return counting.hard_count(y_pred, fraction=True) + 0.0 * ops.sum(y_pred)


def test_training_on_the_naive_count_changes_nothing_and_on_its_surrogate_it_does():
    target, image, _ = data("count")
    counts = {}
    for loss in (NaiveCount(), CountAboveThreshold()):
        model = network("sigmoid")
        model.layers[-1].bias.assign([0.5])
        before = values_of(model)
        model.compile(keras.optimizers.SGD(0.5), loss=loss, metrics=[HardCount()])
        history = model.fit(image, target, epochs=20, verbose=0).history
        counts[type(loss)] = history["hard_count"]
        same = [np.array_equal(a, b) for a, b in zip(before, values_of(model), strict=True)]
        assert all(same) == isinstance(loss, NaiveCount)
        n = image[0].size
        np.testing.assert_allclose(history["loss"], np.array(history["hard_count"]) / n, rtol=1e-5)
    assert len(set(counts[NaiveCount])) == 1
    assert counts[NaiveCount][0] > 20
    assert counts[CountAboveThreshold][-1] == 0


def test_the_hard_count_is_the_mean_over_all_samples_seen():
    rng = np.random.default_rng(1)
    every = rng.random((4, 4, 5, 1)).astype(np.float32)
    first, second = every[:3], every[3:]
    for metric, expected in (
        (HardCount(0.3), (every > 0.3).sum() / 4),
        (HardCount(0.6, fraction=True), (every > 0.6).mean()),
        (HardCount(0.6, from_logits=True), (every > np.log(0.6 / 0.4)).sum() / 4),
    ):
        again = HardCount.from_config(metric.get_config())
        for one in (metric, again):
            one.update_state(None, first)
            one.update_state(None, second)
            assert float(one.result()) == pytest.approx(expected, rel=1e-5)
        assert again.get_config() == metric.get_config()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CountAboveThreshold(1.0), r"threshold: expected a number in \(0, 1\); received 1"),
        (lambda: ThresholdedMeanAbsoluteError(0), "threshold: expected"),
        (lambda: MaskedCount(form="hard"), "form: expected one of straight_through, soft"),
        (lambda: MaskedCount(tau=0), "masked_count: expected tau above 0"),
        (lambda: HardCount(1.5), r"hard_count: threshold: expected .* \(0, 1\); received 1\.5"),
        (lambda: HardCount(0.0, from_logits=True), r"hard_count: threshold.* received 0\.0"),
        (lambda: CountAboveThreshold(delta=-1), "delta from 0; received 0.5 and -1"),
        (lambda: CountPlusCrossEntropy(bce_weight=-1), "received 1.0 and -1"),
        (lambda: FilteredLoss([("p", ">", 0)]), "p: expected one of prediction, reference"),
        (lambda: FilteredLoss([], weight="w"), "w: expected one of prediction, reference"),
        (lambda: FilteredLoss([("prediction", "~", 0)]), "relation: expected one of > >= <"),
    ],
)
def test_settings_out_of_range_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("name", BEHIND)
def test_what_is_missing_behind_the_reference_is_named(name):
    target, _, p = data(name)
    missing = {"filtered": "confidence", "filtered and weighted": "confidence, importance"}
    with pytest.raises(ValueError, match=f"{missing.get(name, 'mask')} is missing"):
        LOSSES[name](target[..., :1], p)
    with pytest.raises(ValueError, match="the channels do not fit"):
        LOSSES[name](np.concatenate([target, target], axis=-1), p)


def test_importing_the_losses_loads_keras_and_nothing_beyond():
    code = "import sys, keras; known = set(sys.modules); import segpipe.losses; "
    code += "print(*sorted(set(sys.modules) - known))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    inside = ("components", "counting", "counting_losses", "filtered", "filtered_losses")
    further = ("metrics", "odds", "penalties", "penalty_losses", "per_sample", "regions")
    further += ("selection", "voxels")
    assert done.stdout.split() == [
        "segpipe",
        "segpipe.losses",
        *(f"segpipe.losses.{name}" for name in (*inside, *further)),
    ]


def test_no_backend_is_named_in_the_losses():
    for path in Path(segpipe.losses.__file__).parent.glob("*.py"):
        named = re.findall(
            r"^\s*(?:import|from) (tensorflow|jax|torch)", path.read_text(), re.MULTILINE
        )
        assert named == [], path.name


def test_the_example_of_the_readme_runs_and_learns():
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len([line for line in snippet.splitlines() if line]) == 6
    names = {}
    exec(compile(snippet, "README.md", "exec"), names)
    network = names["network"]
    first = network.history.history["loss"][0]
    target = np.concatenate([names["lesions"], names["elsewhere"]], axis=-1)
    network.fit(names["scans"], target, epochs=30, verbose=0)
    assert network.history.history["loss"][-1] < first
