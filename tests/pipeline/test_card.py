"""What the card of a bundle says of its training: what was done, not what was planned."""

import pytest

from segpipe.config import TrainConfig
from segpipe.model.facts import FittingFacts
from segpipe.pipeline.card import _steps


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
