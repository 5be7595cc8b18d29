"""Scans unlike those that the model was trained on are flagged, others are not."""

from types import SimpleNamespace

import numpy as np
import pytest

from segpipe.pipeline.unusual import unusual, unusual_intensities, unusual_spacing
from segpipe.prepare import PreparePlan, prepare_volume
from segpipe.prepare.profile import ProfileRange
from segpipe.volume import Volume

PLAN = PreparePlan(
    spacing_mm=(1, 1, 1), normalise="zscore", channels=("flair", "t1"), labels={"lesion": 1}
)


def scan(seed, change=lambda brain: brain, gain=1.0):
    """A brain of three tissues with noise on a background of 0, in two channels."""
    rng = np.random.default_rng(seed)
    brain = rng.choice([60.0, 100.0, 130.0], size=(20, 20, 20), p=[0.2, 0.45, 0.35])
    brain += rng.normal(0, 8 + seed, brain.shape)
    image = np.zeros((28, 28, 28, 2), np.float32)
    image[4:-4, 4:-4, 4:-4, 0] = gain * brain
    image[4:-4, 4:-4, 4:-4, 1] = gain * change(brain)
    return prepare_volume(Volume(image, np.eye(4)), PLAN)


TRAINED = [scan(seed) for seed in range(4)]
BUNDLE = SimpleNamespace(
    plan=PLAN,
    spacing_range_mm=((0.9, 0.9, 2.0), (1.1, 1.0, 3.0)),
    intensity_range=tuple(ProfileRange.of([case.profile[c] for case in TRAINED]) for c in range(2)),
)


@pytest.mark.parametrize(
    ("spacing", "flagged"),
    [
        ((1.0, 1.0, 2.5), False),
        ((2.5, 1.0, 1.0), True),  # slices as thick, but sagittal ones
        ((0.85, 0.85, 1.85), False),
        ((1.0, 1.0, 3.29), False),
        ((1.0, 1.0, 3.4), True),
        ((0.5, 0.9, 2.5), True),
        ((1.0, 1.0, 1.0), True),
    ],
)
def test_spacings_unlike_those_of_training_are_flagged(spacing, flagged):
    affine = np.diag([*spacing, 1.0])
    for order in ([0, 1, 2, 3], [2, 0, 1, 3]):  # the same scan, its axes stored in another order
        stored = Volume(np.zeros((4, 4, 4, 2), np.float32), affine[:, order])
        flags = unusual_spacing(prepare_volume(stored, PLAN), BUNDLE)
        assert bool(flags) is flagged
        if flagged:
            found = " × ".join(f"{s:.2f}" for s in spacing)
            assert flags[0].startswith(f"spacing {found} mm along R, A and S lies outside")
            assert flags[0].endswith("(0.90–1.10 × 0.90–1.00 × 2.00–3.00 mm)")


@pytest.mark.parametrize("gain", [1.0, 7.5])
def test_scans_like_those_of_training_are_not_flagged_whatever_their_gain(gain):
    assert unusual_intensities(scan(9, gain=gain), BUNDLE) == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda brain: np.minimum(brain, 100.0),  # cut off at the top
        lambda brain: (brain / 130) ** 4,  # another contrast
        lambda brain: np.round(brain / 80) * 80,  # two grey levels
        lambda brain: np.where(np.arange(20) < 10, 5.0, brain),  # half of it empty
    ],
)
def test_another_distribution_is_flagged_in_its_channel_alone(change):
    (flag,) = unusual_intensities(scan(9, change), BUNDLE)
    assert flag.startswith("intensities of t1 are distributed unlike those of the training scans")
    assert "in training" in flag


def test_of_several_bundles_those_are_named_that_a_scan_is_unusual_for():
    def bundle(name, high, plan=PLAN):
        spacing = ((1.0, 1.0, 1.0), (1.0, 1.0, high))
        return SimpleNamespace(
            name=name, plan=plan, spacing_range_mm=spacing, intensity_range=BUNDLE.intensity_range
        )

    thick = Volume(np.zeros((4, 4, 4, 2), np.float32), np.diag([1.0, 1, 3, 1]))
    prepared = prepare_volume(thick, PLAN)
    a, b, c = bundle("a", 3.0), bundle("b", 1.0), bundle("c", 1.0)
    for order in ((a, b, c), (b, a, c)):
        (flag,) = [f for f in unusual(prepared, order) if f.startswith("spacing")]
        assert flag.endswith("1.00–1.00 mm), for b, c")
    (flag,) = [f for f in unusual(prepared, (b, c)) if f.startswith("spacing")]
    assert flag.endswith("1.00–1.00 mm)")
    other = PLAN.model_copy(update={"normalise": "none"})
    odd = scan(9, lambda brain: np.minimum(brain, 100.0))
    (flag,) = unusual(odd, (bundle("d", 1.0), bundle("e", 1.0, other)))
    assert flag.endswith("for d")  # e would have to see it as its own plan prepares it


def test_bundles_without_a_recorded_distribution_flag_nothing():
    before = SimpleNamespace(plan=PLAN, intensity_range=())
    assert unusual_intensities(scan(9, np.sqrt), before) == ()


def test_the_worst_percentile_is_named_and_slack_is_half_the_range():
    seen = ProfileRange(low=(0, 0, 0, 0, 6, 0), high=(0, 1, 1, 1, 6, 1))
    assert seen.furthest_outside(np.array([-0.5, 1.5, -0.5, 0, 6.5, 0])) is None
    assert seen.furthest_outside(np.array([-0.6, 1.7, 0, 0, 6, 0])) == 1
    both = seen.joined(ProfileRange(low=(-1, 0, 0, 0, 5, 0), high=(0, 1, 1, 1, 6, 9)))
    assert (both.low, both.high) == ((-1, 0, 0, 0, 5, 0), (0, 1, 1, 1, 6, 9))
