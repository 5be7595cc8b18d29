"""A training with a budget of time: what a step costs, and keeping to the plan that follows."""

from __future__ import annotations

from collections.abc import Callable

from segpipe.files import temporary_folder
from segpipe.train.budget import FIRST_STEPS, MEASURED, MEASURING, Budget, Costs
from segpipe.train.epochs import Fitting, Validate, run_steps
from segpipe.train.state import Progress, assign_training, save_state, training_arrays

_DRAWN = 16  # patches whose loading is timed


def plan_steps(fitting: Fitting, budget: Budget, validate: Validate | None) -> None:
    """Measure what a step costs, put everything back, and fix the number of steps.

    The steps that are measured are the first ones of the training, and are undone: the weights
    that follow depend on the number of steps alone.
    """
    trainer, clock = fitting.trainer, budget.clock
    before = training_arrays(trainer)
    ends: list[float] = []

    def stop(step: int) -> bool:
        ends.append(clock())
        measured = step - FIRST_STEPS
        enough = budget.elapsed > MEASURING * budget.seconds
        return measured >= MEASURED[1] or (measured >= MEASURED[0] and enough)

    def report(step: int, loss: float) -> None:
        fitting.observer.progress(step, most, "measuring the time of a step")

    most = FIRST_STEPS + MEASURED[1]
    run_steps(fitting, 0, most, 1, report, stop)
    times = ends[FIRST_STEPS - 1 :]
    step = max((times[-1] - times[0]) / (len(times) - 1), _loading(fitting, clock))
    validation = 0.0
    if validate is not None and budget.validate_every:
        validate.sample(trainer.network)  # compiles
        started = clock()
        share = validate.sample(trainer.network)
        validation = (clock() - started) / share
    started = clock()
    with temporary_folder(fitting.folder) as thrown_away:
        save_state(trainer, thrown_away, 0, Progress(), None, budget)
    checkpoint = clock() - started
    assign_training(trainer, before, "measured training")
    budget.plan(Costs(step, checkpoint, validation))
    save_state(trainer, fitting.folder, 0, Progress(), None, budget)
    fitting.observer.message(budget.describe())
    fitting.observer.params({"budget.steps": budget.total})


def _loading(fitting: Fitting, clock: Callable[[], float]) -> float:
    """Seconds in which the loading threads make a batch; 0 where the steps do so themselves.

    A step may take less while it is measured: batches were loaded in advance as the first compiled.
    """
    settings = fitting.config.train
    if settings.workers == 0:
        return 0.0
    started = clock()
    for number in range(_DRAWN):
        fitting.sampler.draw(number)
    return (clock() - started) / _DRAWN * settings.batch / settings.workers


def keep_to_budget(fitting: Fitting, epoch: int | None) -> bool:
    """Shorten what is left if it would end too late; whether it was.

    ``epoch`` is the number of those done, between two of them; None while one is to be saved.
    """
    budget, done = fitting.budget, fitting.done
    if budget is None or done >= budget.total:
        return False
    if epoch is not None:
        budget.begin(epoch, done)
    if not budget.late(done):
        return False
    before = budget.total
    budget.shorten(done)
    if budget.total == before:
        return False
    fitting.trainer.set_pace(budget.pace)
    end = ""
    if budget.total == done:
        rate = float(fitting.trainer.optimizer.learning_rate)
        end = f"; the time is up at a learning rate of {rate:.3g}, which should have fallen to 0"
    fitting.observer.message(
        f"slower than measured: {before} steps become {budget.total}, to keep to the budget{end}"
    )
    return True
