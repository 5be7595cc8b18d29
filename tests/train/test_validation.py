"""Figures that guide training, on prepared cases whose probabilities are known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from segpipe.config import parse
from segpipe.train.validation import COUNTS, SCORES, Validation

SHAPE = (16, 8, 8)


def logit(p):
    return np.log(p / (1 - p))


def case(reference, image, spacing=(1.0, 1.0, 1.0), regions=None):
    regions = regions or {}
    maps = [np.rint(255 * region).astype(np.uint8) for region in regions.values()]
    return SimpleNamespace(
        id="c",
        image=image.astype(np.float32),
        reference=reference.astype(np.uint8),
        shift=np.float32(0.25),
        scale=np.float32(0.5),
        spacing_mm=spacing,
        regions=np.stack(maps, axis=-1) if maps else np.zeros((*reference.shape, 0), np.uint8),
        region_names=tuple(regions),
    )


def seen(probability):
    """An image that ``engine`` turns into these probabilities: it must be normalised first."""
    return (logit(probability) * 0.5 + 0.25)[..., np.newaxis]


def engine(tiles):
    return tiles


def config(threshold=0.5, min_size=0.0, rule="any", counted=0.0, regions=()):
    places = [{"name": name, "source": "mask", "file": "f"} for name in regions]
    return parse(
        {
            "name": "x",
            "anatomy": {"regions": places},
            "data": {"root": "d"},
            "train": {"patch": [8, 8, 8]},
            "predict": {"operating_point": {"threshold": threshold, "min_size_mm3": min_size}},
            "evaluate": {"rule": rule, "min_size_mm3": counted},
        }
    )


def figures(cases, settings=None, classes=1, make_engine=lambda network: engine):
    validate = Validation(cases, settings or config(), classes, None, make_engine)
    values = validate("network")
    names = [region.name for region in (settings or config()).anatomy.regions]
    by_region = [f"{count}/{name}" for name in names for count in COUNTS]
    assert list(values) == [*SCORES, *COUNTS, *by_region]
    return values


def scene():
    """Two lesions of 8 and 4 voxels; 4 of the first and 2 elsewhere are found."""
    reference = np.zeros(SHAPE)
    reference[2:4, 2:4, 2:4] = 1
    reference[8, 2:4, 2:4] = 1
    probability = np.full(SHAPE, 0.01)
    probability[2, 2:4, 2:4] = 0.9
    probability[13, 6, 5:7] = 0.8
    return reference, probability


def test_exact_figures_of_one_case():
    reference, probability = scene()
    values = figures([case(reference, seen(probability))])
    assert values["dice"] == pytest.approx(2 * 4 / (12 + 6))
    assert values["lesion_sensitivity"] == 0.5
    assert values["lesion_f1"] == pytest.approx(1 / (1 + (1 + 1) / 2))
    assert values["false_positive_regions"] == 1
    assert values["false_positive_voxels"] == 2


def test_the_operating_point_and_the_rule_are_the_configured_ones():
    reference, probability = scene()
    one = [case(reference, seen(probability), spacing=(1.0, 1.0, 2.0))]
    assert figures(one, config(threshold=0.85))["false_positive_regions"] == 0
    assert figures(one, config(min_size=4.0))["false_positive_regions"] == 1
    assert figures(one, config(min_size=4.1))["false_positive_regions"] == 0
    assert figures(one, config(threshold=0.95))["lesion_f1"] == 0
    assert figures(one, config(rule="iou:0.5"))["lesion_sensitivity"] == 0.5
    assert figures(one, config(rule="iou:0.6"))["lesion_sensitivity"] == 0
    counted = figures(one, config(counted=8.0))
    assert (counted["lesion_sensitivity"], counted["false_positive_regions"]) == (0.5, 0)


def test_undefined_figures_are_nan_and_left_out_of_means():
    reference, probability = scene()
    empty = case(np.zeros(SHAPE), seen(np.full(SHAPE, 0.01)))
    values = figures([empty])
    assert all(math.isnan(values[name]) for name in SCORES)
    assert values["false_positive_regions"] == 0
    both = figures([empty, case(reference, seen(probability))])
    assert both["lesion_sensitivity"] == 0.5
    assert both["false_positive_regions"] == 0.5  # per case, and every case counts
    assert both["dice"] == pytest.approx(8 / 18)


def test_voxels_to_be_ignored_hold_no_prediction():
    reference, probability = scene()
    reference[12:15] = 255
    values = figures([case(reference, seen(probability))])
    assert values["false_positive_regions"] == 0
    assert values["lesion_f1"] == pytest.approx(1 / 1.5)


def test_several_classes_are_averaged_but_false_positives_add_up():
    reference = np.zeros(SHAPE)
    reference[2:4, 2:4, 2:4] = 1
    reference[8, 2:4, 2:4] = 2
    shares = np.tile((0.98, 0.01, 0.01), (*SHAPE, 1))
    shares[2:4, 2:4, 2:4] = (0.1, 0.8, 0.1)
    shares[8, 2:4, 2:4] = (0.1, 0.7, 0.2)  # the other class
    shares[13, 6, 6] = (0.1, 0.1, 0.8)
    image = np.log(shares) * 0.5 + 0.25
    values = figures([case(reference, image)], classes=2)
    assert values["dice"] == pytest.approx((2 * 8 / (8 + 12) + 0) / 2)
    assert values["lesion_sensitivity"] == 0.5
    assert values["false_positive_regions"] == 2


def test_validating_again_gives_the_same():
    reference, probability = scene()
    validate = Validation(
        [case(reference, seen(probability))], config(), 1, None, lambda network: engine
    )
    assert validate("network") == validate("network")


def test_false_positives_are_counted_in_each_region():
    reference, probability = scene()
    probability[2, 4, 2:4] = 0.9  # two voxels beside the lesion: wrong, but of a region that hits
    left = np.zeros(SHAPE)
    left[:8] = 1.0
    soft = np.full(SHAPE, 0.2)  # the component beyond lies there by 0.4 of a voxel in all
    one = case(reference, seen(probability), regions={"left": left, "soft": soft})
    values = figures([one], config(regions=("left", "soft", "absent")))
    assert (values["false_positive_regions"], values["false_positive_voxels"]) == (1, 4)
    assert values["false_positive_regions/left"] == 0
    assert values["false_positive_voxels/left"] == 2
    assert values["false_positive_regions/soft"] == 1
    assert values["false_positive_voxels/soft"] == pytest.approx(4 * 0.2)
    assert math.isnan(values["false_positive_regions/absent"])
    assert math.isnan(values["false_positive_voxels/absent"])


def test_counts_by_region_are_means_over_the_cases_that_have_it():
    reference, probability = scene()
    with_region = case(reference, seen(probability), regions={"all": np.ones(SHAPE)})
    without = case(reference, seen(probability))
    values = figures([with_region, without, without], config(regions=("all",)))
    assert values["false_positive_regions/all"] == 1
    assert values["false_positive_voxels/all"] == 2
