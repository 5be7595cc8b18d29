"""Fitting a tiny network: a budget on a clock that the tests turn, averaged weights, resuming."""

import threading
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from segpipe.backend import select
from segpipe.config import parse
from segpipe.errors import ModelError
from segpipe.model.arrays import network_arrays
from segpipe.model.unet import build_unet
from segpipe.observer import Silent
from segpipe.train.checkpoints import load_checkpoint
from segpipe.train.fit import fit

CASE = SimpleNamespace(id="c")


class Clock(Silent):
    """A clock that a step of training moves on, and an observer that remembers."""

    def __init__(self, step=lambda number: 1.0, stop_after=None):
        self.now = 0.0
        self.step = step
        self.stop_after = stop_after
        self.lines, self.told, self.rates, self.network = [], {}, [], None

    def __call__(self):
        return self.now

    def progress(self, done, total, text=""):
        self.now += self.step(done)

    def message(self, text):
        self.lines.append(text)

    def params(self, values):
        self.told |= values

    def metrics(self, values, step):
        self.rates += [values[name] for name in ("learning_rate",) if name in values]
        if step == self.stop_after:
            raise KeyboardInterrupt

    def draw(self, number):
        rng = np.random.default_rng([8, number])
        image = rng.normal(size=(8, 8, 8, 1)).astype(np.float32)
        return image, np.concatenate([image > 1.0, image <= 1.0], axis=-1).astype(np.float32)


class Validate:
    """Takes 3 s, half of them for the sample."""

    def __init__(self, clock):
        self.clock = clock
        self.seen = []

    def __call__(self, network, epoch):
        self.clock.now += 3.0
        self.seen.append(arrays(network))
        return {"dice": 0.1 * len(self.seen)}

    def sample(self, network):
        self.clock.now += 1.5
        return 0.5


class Falling(Validate):
    """Finds every network worse than the one before."""

    def __call__(self, network, epoch):
        return {"dice": 1.0 - super().__call__(network, epoch)["dice"]}


def arrays(network):
    return np.concatenate([a.ravel() for a in network_arrays(network).values()])


def train(folder, clock, *, validate=None, resume=False, objective=None, cases=(CASE,), **settings):
    values = {"epochs": 4, "steps_per_epoch": 5, "batch": 1, "patch": [8, 8, 8], "workers": 0}
    config = parse(
        {
            "name": "x",
            "data": {"root": "d"},
            "model": {"features": [2, 4], "block": "plain"},
            "train": {**values, **settings},
        }
    )
    device = select(device="cpu", precision="float32")  # the network is built in it
    keras.utils.set_random_seed(0)
    clock.network = network = build_unet(config.model, (8, 8, 8), (1, 1, 1), 1, 1)
    sampler = SimpleNamespace(
        draw=clock.draw,
        spacing_mm=(1, 1, 1),
        cases=cases,
        case_index=lambda number: number % len(cases),
    )
    progress = fit(
        network,
        sampler,
        config=config,
        classes=1,
        device=device,
        folder=folder,
        validate=validate,
        observer=clock,
        resume=resume,
        objective=objective,
        clock=clock,
    )
    return arrays(network), progress


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training with a budget, never interrupted: weights, progress and clock."""
    clock = Clock()
    weights, progress = train(tmp_path_factory.mktemp("whole"), clock, budget="60s", ema=0.7)
    return weights, progress, clock


def test_a_budget_fixes_a_number_of_steps_and_gives_the_weights_of_that_number(tmp_path, whole):
    weights, progress, clock = whole
    assert not progress.shortened
    assert clock.told == {"budget.steps": progress.steps}
    assert progress.steps == 52  # 6 of 58.2 s went into measuring
    assert clock.now == progress.seconds == 58
    assert any(f"train.steps={progress.steps}" in line for line in clock.lines)
    again, repeated = train(tmp_path, Clock(), steps=52, ema=0.7)
    np.testing.assert_array_equal(again, weights)
    assert repeated.seconds is None
    assert len(repeated.history) == 11  # the last epoch has 2 steps


def test_a_step_costs_at_least_what_its_batch_takes_to_load(tmp_path):
    """The batches of the steps that are measured may have been loaded while the first compiled."""

    class Loading(Clock):
        def draw(self, number):
            if threading.current_thread() is threading.main_thread():
                self.now += 4.0
            return super().draw(number)

    clock = Loading(stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, clock, budget="300s", workers=2)
    assert any("2 s a step" in line for line in clock.lines)  # of 1 batch, by 2 threads


def test_an_epoch_tells_how_long_its_steps_waited_for_their_batches(tmp_path):
    class Slow(Clock):
        def draw(self, number):
            time.sleep(0.15 if number >= 8 else 0.0)
            return super().draw(number)

    _, progress = train(tmp_path, Slow(), epochs=2, steps_per_epoch=8)
    quick, slow = (epoch["waiting_share"] for epoch in progress.history)
    assert quick < 0.3 < slow <= 1


def test_a_resumed_training_remembers_the_time_used_and_gives_the_same(tmp_path, whole):
    weights, progress, _ = whole
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Clock(stop_after=1), budget="60s", ema=0.7)
    state = load_checkpoint(tmp_path / "checkpoints", Silent())
    assert (state.epoch, int(state.arrays["step"])) == (0, 0)
    assert state.state["budget"]["total"] == progress.steps  # planned before the first step
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Clock(stop_after=4), budget="60s", ema=0.7, resume=True)
    clock = Clock()
    again, resumed = train(tmp_path, clock, budget="60s", ema=0.7, resume=True)
    np.testing.assert_array_equal(again, weights)
    assert resumed.steps == progress.steps
    assert resumed.seconds == pytest.approx(progress.seconds)
    assert clock.now == pytest.approx(58 - 6 - 15)  # measured, and 3 epochs saved
    assert clock.told == {}


def slower(number):
    """Seconds of a step on a machine that somebody else begins to use."""
    return 1.0 if number < 25 else 3.0


def test_a_machine_that_slows_down_ends_in_time_annealed_and_can_be_resumed(tmp_path):
    whole = Clock(slower)
    weights, progress = train(tmp_path / "a", whole, budget="100s")
    assert progress.shortened
    assert whole.now <= 103
    assert any(line.startswith("slower than measured") for line in whole.lines)
    rates = np.array(whole.rates)
    assert (np.diff(rates[3:]) < 0).all()
    assert rates[-1] < 0.05 * rates.max()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", Clock(slower, stop_after=len(rates)), budget="100s")
    again, resumed = train(tmp_path / "b", Clock(slower), budget="100s", resume=True)
    np.testing.assert_array_equal(again, weights)
    assert (resumed.steps, resumed.shortened) == (progress.steps, True)


def test_validations_between_epochs_are_planned_for_and_the_last_comes_on_top(tmp_path):
    clock = Clock()
    validate = Validate(clock)
    _, progress = train(tmp_path, clock, budget="100s", validate_every=2, validate=validate)
    assert not progress.shortened
    # 6 steps and two samples of 1.5 s are measured: 88 s are left of 97, for 70 steps and the 6
    # validations between 14 epochs. Another epoch would bring another validation.
    assert progress.steps == 70
    assert len(validate.seen) == 7
    assert clock.now == 9 + 70 + 7 * 3


class Stalling(Clock):
    """Stands still before the checkpoint of epoch 9."""

    def metrics(self, values, step):
        super().metrics(values, step)
        self.now += 8.0 * (step == 9 and "learning_rate" in values)


def test_a_delay_after_the_last_step_that_was_left_still_ends_with_a_validation(tmp_path):
    clock = Stalling()
    validate = Validate(clock)
    options = {"budget": "60s", "validate_every": 0, "keep": "best"}
    weights, progress = train(tmp_path, clock, validate=validate, **options)
    assert (progress.steps, len(progress.history)) == (45, 9)
    assert len(validate.seen) == 1
    np.testing.assert_array_equal(weights, validate.seen[0])
    assert progress.history[-1]["val_dice"] == progress.best == 0.1
    assert any("52 steps become 45" in line and "the time is up" in line for line in clock.lines)
    validate = Validate(clock)
    _, resumed = train(tmp_path, clock, validate=validate, resume=True, **options)
    assert resumed.history[-1]["val_dice"] == 0.1


def test_early_stopping_ends_a_training_with_a_budget(tmp_path):
    clock = Clock()
    validate = Falling(clock)
    _, progress = train(
        tmp_path, clock, budget="100s", validate_every=1, patience=2, validate=validate
    )
    assert (progress.steps, progress.planned > 15) == (15, True)


class Unknown(Validate):
    """A figure that is undefined, as lesion F1 is where no held-out case has a lesion."""

    def __call__(self, network, epoch):
        return {"dice": float("nan") * super().__call__(network, epoch)["dice"]}


def test_what_is_undefined_ends_no_training(tmp_path):
    options = {"steps": 20, "validate_every": 1, "patience": 1, "keep": "best"}
    _, progress = train(tmp_path, Clock(), validate=Unknown(Clock()), **options)
    assert progress.steps == 20


@pytest.mark.parametrize(
    ("options", "validates", "said"),
    [
        ({"keep": "best", "patience": 1}, False, "and train.patience changes nothing, as the fold"),
        ({"keep": "best", "validate_every": 0}, True, "nothing, as train.validate_every is 0"),
        ({"keep": "best", "validate_every": 1, "steps": 10}, True, None),
        ({"keep": "best", "validate_every": 2, "steps": 10}, True, "=2 leaves the last validation"),
        ({}, False, None),
    ],
)
def test_it_is_said_where_nothing_can_be_chosen(tmp_path, options, validates, said):
    clock = Clock()
    options = {"steps": 5, **options}
    train(tmp_path, clock, validate=Validate(clock) if validates else None, **options)
    found = [line for line in clock.lines if "changes nothing" in line]
    assert len(found) == (said is not None)
    assert all(said in line for line in found)


def test_averaged_weights_are_validated_and_kept_and_disturb_no_step(tmp_path):
    validate = Validate(Clock())
    options = {"steps": 20, "ema": 0.7}
    weights, _ = train(tmp_path / "a", Clock(), validate=validate, validate_every=1, **options)
    np.testing.assert_array_equal(validate.seen[-1], weights)
    quiet, _ = train(tmp_path / "b", Clock(), **options)
    np.testing.assert_array_equal(quiet, weights)
    best, _ = train(
        tmp_path / "c",
        Clock(),
        validate=Validate(Clock()),
        validate_every=2,
        keep="best",
        **options,
    )
    np.testing.assert_array_equal(best, weights)  # the last is the best of these


def test_another_objective_takes_over_from_the_configured_loss(tmp_path):
    class Still:
        """Pulls nowhere."""

        names = ("own",)

        def terms(self, logits, target, progress):
            return {"own": 3.0 + 0.0 * ops.mean(logits), "total": 0.0 * ops.mean(logits)}

    options = {"weight_decay": 0.0}
    before, _ = train(tmp_path, Clock(), epochs=2, **options)
    after, progress = train(tmp_path, Clock(), resume=True, objective=Still(), **options)
    assert [epoch.get("own") for epoch in progress.history] == [None, None, 3.0, 3.0]
    assert [epoch["loss"] for epoch in progress.history[2:]] == [0.0, 0.0]
    np.testing.assert_allclose(after, before, atol=0.1)  # Adam's momentum dies away


def test_weights_that_the_last_step_of_an_epoch_spoils_are_never_saved(tmp_path):
    clock = Clock()

    def spoil(done):
        if done == 10:  # the loss of this step was that of the weights before it
            last = clock.network.variables[-1]
            last.assign(np.full(last.shape, np.inf))
        return 1.0

    clock.step = spoil
    with pytest.raises(ModelError, match="finite weights; received others at step 4 of the epoch"):
        train(tmp_path, clock)
    assert load_checkpoint(tmp_path / "checkpoints", Silent()).epoch == 1


def test_what_breaks_in_a_step_and_shows_in_the_next_names_the_cases_of_both(tmp_path):
    clock = Clock()

    def spoil(done):
        if done == 7:
            last = clock.network.variables[-1]
            last.assign(np.full(last.shape, np.inf))
        return 1.0

    clock.step = spoil
    cases = [SimpleNamespace(id=f"c{n}") for n in range(10)]
    with pytest.raises(ModelError, match=r"finite loss.* with patches from c6, c7\. Look at"):
        train(tmp_path, clock, cases=cases)


def test_a_single_step_that_diverges_names_its_cases(tmp_path):
    settings = {"epochs": 1, "steps_per_epoch": 1, "warmup": 0}
    settings |= {"learning_rate": 3e38, "weight_decay": 10.0}  # their product is infinite
    with pytest.raises(ModelError, match=r"finite weights.* with patches from c\. Look at"):
        train(tmp_path, Clock(), **settings)
    assert load_checkpoint(tmp_path / "checkpoints", Silent()) is None
