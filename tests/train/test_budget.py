"""A budget is kept on a clock that the tests turn: machines of any speed, and changing ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.config import parse
from segpipe.config.durations import parse_duration, write_duration
from segpipe.errors import ConfigError, ModelError
from segpipe.train.budget import AIM, Budget, Costs, shortened_pace


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Machine:
    """Trains as :func:`segpipe.train.fit.fit` does, with steps that take ``step(number)``."""

    def __init__(self, seconds, step, *, epoch=10, every=0, checkpoint=0.0, validation=0.0):
        self.clock = Clock()
        self.budget = Budget(seconds, epoch, every, self.clock)
        self.step, self.epoch, self.every = step, epoch, every
        self.checkpoint, self.validation = checkpoint, validation
        self.shortened = 0

    def plan(self, step=None):
        self.budget.plan(Costs(step or self.step(0), self.checkpoint, self.validation))
        return self.budget.total

    def run(self):
        done = epochs = 0
        self.keep(epochs, done)
        while done < self.budget.total:
            for _ in range(min(self.epoch, self.budget.total - done)):
                self.clock.now += self.step(done)
                done += 1
                self.budget.tick(done)
                if self.budget.late(done):
                    break
            epochs += 1
            self.keep(None, done)
            if done < self.budget.total and self.every and epochs % self.every == 0:
                self.clock.now += self.validation
            self.clock.now += self.checkpoint
            self.keep(epochs, done)
        return done

    def keep(self, epochs, done):
        if done >= self.budget.total:
            return
        if epochs is not None:
            self.budget.begin(epochs, done)
        if self.budget.late(done):
            self.budget.shorten(done)
            self.shortened += 1


def progress(budget, step):
    origin, length = budget.pace
    return (step - origin) / length


def test_the_number_of_steps_is_what_the_time_holds():
    machine = Machine(100.0, lambda n: 0.5, epoch=10, every=4, checkpoint=0.25, validation=3.0)
    machine.clock.now += 2.0  # measured and compiled
    # 95 s left of 97: 16 epochs take 80 s, their checkpoints 4 s, 3 validations between them 9 s;
    # another step would need another checkpoint, and a validation after 16 epochs.
    assert machine.plan() == 160
    assert machine.run() == 160
    assert machine.budget.elapsed == pytest.approx(2 + 80 + 4 + 9)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.01, 5.0),
    st.integers(1, 60),
    st.integers(0, 5),
    st.floats(0.0, 3.0),
    st.floats(0.0, 20.0),
)
def test_a_steady_machine_shortens_nothing_and_fills_the_time(step, epoch, every, saving, scoring):
    machine = Machine(
        600.0, lambda n: step, epoch=epoch, every=every, checkpoint=saving, validation=scoring
    )
    total = machine.plan()
    assert machine.run() == total
    assert machine.shortened == 0
    assert machine.budget.elapsed <= AIM * 600 * (1 + 1e-9)  # sums of steps are rounded
    assert machine.budget.elapsed > AIM * 600 - step - saving - (scoring if every else 0) - 1e-6
    assert progress(machine.budget, total) == 1


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.3, 12.0)), min_size=1, max_size=4),
    st.integers(5, 80),
    st.integers(0, 3),
)
def test_a_machine_that_changes_its_speed_keeps_to_the_budget(changes, epoch, every):
    """The last step that began in time, and its checkpoint, are all that may come on top."""
    known = sorted(changes)

    def step(number):
        now = machine.budget.elapsed / 600
        return [1.0, *(factor for when, factor in known if now >= when)][-1]

    machine = Machine(600.0, step, epoch=epoch, every=every, checkpoint=0.5, validation=4.0)
    machine.plan(1.0)
    machine.run()
    slowest = max(1.0, *(factor for _, factor in known))
    assert machine.budget.elapsed <= 600 + slowest + 0.5 + 4.0 + 1e-6


@pytest.mark.parametrize("factor", [1.3, 2.0, 4.0])
@pytest.mark.parametrize("when", [0.0, 0.3, 0.6, 0.9])
def test_a_shortened_training_ends_in_time_and_with_its_schedule(factor, when):
    machine = Machine(
        1800.0,
        lambda n: factor if machine.budget.elapsed >= when * 1800 else 1.0,
        epoch=50,
        checkpoint=0.5,
    )
    planned = machine.plan(1.0)
    done = machine.run()
    assert (done < planned) is (machine.shortened > 0)
    assert machine.shortened or (when, factor) == (0.9, 1.3)  # what the reserve makes up for
    assert machine.shortened <= 12
    assert 0.96 * 1800 <= machine.budget.elapsed <= 1800
    assert progress(machine.budget, done) == pytest.approx(1)
    assert done == machine.budget.total


def test_a_slow_moment_shortens_nothing():
    machine = Machine(1800.0, lambda n: 3.0 if 200 <= n < 220 else 1.0, epoch=50)
    total = machine.plan(1.0)
    assert machine.run() == total
    assert machine.shortened == 0
    longer = Machine(1800.0, lambda n: 3.0 if 200 <= n < 260 else 1.0, epoch=50)
    assert longer.plan(1.0) == total
    assert 0.6 * total < longer.run() < total  # the moment is not taken for the machine's speed


@pytest.mark.parametrize("at", [250, 251, 264, 900])
@pytest.mark.parametrize("stall", [46.0, 300.0])
def test_a_machine_that_stands_still_costs_the_time_that_it_stood(at, stall):
    machine = Machine(1800.0, lambda n: stall if n == at else 1.0, epoch=50)
    total = machine.plan(1.0)
    assert total - stall <= machine.run() <= total
    assert machine.budget.elapsed <= 1800


def test_a_faster_machine_ends_early_with_the_steps_planned():
    machine = Machine(600.0, lambda n: 0.5)
    assert machine.plan(1.0) == machine.run() == 582
    assert machine.budget.elapsed == pytest.approx(291)


def test_a_shortened_schedule_goes_on_from_where_it_is():
    pace = shortened_pace((0.0, 1000.0), 400, 600)
    assert (400 - pace[0]) / pace[1] == pytest.approx(0.4)
    assert (500 - pace[0]) / pace[1] == pytest.approx(0.7)
    assert (600 - pace[0]) / pace[1] == pytest.approx(1.0)
    again = shortened_pace(pace, 500, 520)
    assert (500 - again[0]) / again[1] == pytest.approx(0.7)
    assert (520 - again[0]) / again[1] == pytest.approx(1.0)


def test_another_process_goes_on_with_what_is_left():
    first = Machine(100.0, lambda n: 1.0)
    first.clock.now += 3.0
    first.plan()
    first.clock.now += 40.0
    state = first.budget.to_state()
    assert state["used"] == 43.0
    second = Budget(100.0, 10, 0, Clock())
    second.restore(state)
    second.clock.now += 7.0
    assert second.elapsed == 50.0
    assert (second.total, second.pace) == (first.budget.total, first.budget.pace)
    assert second.costs == first.budget.costs


def test_a_process_that_finds_the_time_used_up_takes_no_step():
    machine = Machine(100.0, lambda n: 1.0)
    machine.plan()
    machine.clock.now += 101.0
    machine.budget.begin(3, 30)
    assert machine.budget.late(30)
    machine.budget.shorten(30)
    assert machine.budget.total == 30


def test_a_budget_without_time_for_a_step_is_an_error_that_says_what_a_step_takes():
    machine = Machine(10.0, lambda n: 4.0)
    machine.clock.now += 6.0
    with pytest.raises(ModelError, match=r"train\.budget.*6\.0 s went.*a step takes 4\.00 s"):
        machine.plan()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30min", 1800), ("1h30min", 5400), ("0.5 h", 1800)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds
    assert parse_duration(write_duration(seconds)) == seconds


@given(st.floats(1, 1e6))
def test_durations_are_written_to_the_second_and_later_to_the_minute(seconds):
    off = abs(parse_duration(write_duration(seconds)) - seconds)
    assert off <= (0.5 if seconds < 119 else 30.0)


@pytest.mark.parametrize("value", ["30", "0min", "soon", "min", "-5min", "5m", ""])
def test_what_is_no_duration_is_refused(value):
    with pytest.raises(ConfigError, match=r"train\.budget: expected a length of time"):
        parse({"name": "x", "data": {"root": "d"}, "train": {"budget": value}})


def test_budget_and_steps_exclude_each_other():
    with pytest.raises(ConfigError, match="expected null beside steps"):
        parse({"name": "x", "data": {"root": "d"}, "train": {"budget": "1h", "steps": 10}})
