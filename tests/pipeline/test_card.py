"""What the card of a bundle says of its training: what was done, not what was planned."""

from types import SimpleNamespace

import pytest

from segpipe.config import SplitConfig, TrainConfig
from segpipe.model.facts import FittingFacts
from segpipe.pipeline.card import _partitions, _steps


@pytest.mark.parametrize(
    ("train", "fitting", "said"),
    [
        ({}, {"steps": 1000, "planned": 1000}, "1000"),
        ({"steps": 70}, {"steps": 70, "planned": 70}, "70"),
        (
            {"patience": 2},
            {"steps": 600, "planned": 1000},
            "600 of 1000, as validation no longer improved",
        ),
        (
            {"budget": "30min"},
            {"steps": 812, "planned": 812, "seconds": 1700.0, "shortened": False},
            "812, as many as 30min held",
        ),
        (
            {"budget": "30min"},
            {"steps": 700, "planned": 700, "seconds": 1700.0, "shortened": True},
            "700, as many as 30min held, fewer than planned at first",
        ),
        ({"epochs": 3, "steps_per_epoch": 4}, None, "12"),
        ({"steps": 70}, None, "70"),
        ({"patience": 2}, None, "at most 1000"),
        ({"budget": "30min"}, None, "as many as 30min held"),
    ],
)
def test_steps_are_those_taken_or_what_the_settings_say_of_them(train, fitting, said):
    facts = None if fitting is None else FittingFacts(**fitting)
    assert _steps(TrainConfig(**train), facts) == said


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({"folds": 3, "seed": 7}, "3 folds, shuffled with seed 7"),
        ({"leave_one_patient_out": True}, "one fold per patient, in the order of their names"),
        ({"folds": 1}, "none: nothing is held out"),
    ],
)
def test_how_the_cases_were_divided(split, said):
    facts = SimpleNamespace(fold=0, training_cases=4, validation_cases=2)
    config = SimpleNamespace(split=SplitConfig(**split))
    assert _partitions(SimpleNamespace(config=config, dataset=facts))[0] == ("Assignment", said)
