"""From a fingerprint to settings that the network accepts."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segpipe.config import parse
from segpipe.data.layouts import Dataset
from segpipe.model.levels import plan_levels
from segpipe.planning import Machine, make_choices
from segpipe.prepare import CaseGrid


def dataset(channels=("flair",), labels=None):
    return Dataset("d", Path("d"), "nnunet", channels, labels or {"lesion": 1}, ())


CPU = Machine(False, 2, 24_000.0, None, "mixed_bfloat16")
GPU = Machine(True, 16, 128_000.0, 80_000.0, "mixed_bfloat16")


def choices(shape, spacing, *, machine=CPU, patients=10, data=None, cases=3, asked=None):
    grids = [CaseGrid(f"c{i}", shape, spacing) for i in range(cases)]
    made = make_choices(
        data or dataset(), grids, machine=machine, patients=patients, asked=asked or {}
    )
    return {choice.key: choice for choice in made}


def configured(chosen):
    values = {"name": "x", "data": {"root": "d"}}
    for key, choice in chosen.items():
        section, name = key.split(".")
        values.setdefault(section, {})[name] = choice.value
    return parse(values)


def levels_of(config):
    spacing = list(config.prepare.spacing_mm)
    if config.model.dimensions == 2:
        del spacing["RAS".index(config.model.slice_axis)]
    return plan_levels(config.model, config.train.patch, spacing)


def test_an_isotropic_brain_on_a_cpu():
    chosen = choices((192, 192, 192), (1.0, 1.0, 1.0))
    values = {key: choice.value for key, choice in chosen.items()}
    assert values == {
        "prepare.spacing_mm": (1.0, 1.0, 1.0),
        "prepare.normalise": "zscore",
        "split.folds": 5,
        "model.dimensions": 3,
        "model.features": (16, 32, 64, 128),
        "train.patch": (56, 56, 56),
        "train.batch": 2,
        "augment.mirror_axes": ("R", "A", "S"),
        "prepare.workers": 2,
        "train.epochs": 20,
        "train.steps_per_epoch": 50,
        "train.validate_every": 0,
        "train.workers": 1,
        "train.memory_mb": 200,  # 3 cases of 192³ voxels at 6 bytes are 127 MB
        "train.precision": "auto",
        "train.device": "auto",
    }
    assert all(choice.reason for choice in chosen.values())


def test_a_gpu_gets_larger_patches_and_more_features():
    chosen = choices((192, 192, 192), (1.0, 1.0, 1.0), machine=GPU)
    patch = chosen["train.patch"].value
    assert patch == (128, 128, 128)
    assert chosen["model.features"].value == (32, 64, 128, 256, 320, 320)
    assert "GPU" in chosen["train.patch"].reason


def test_a_small_organ_is_taken_whole_and_more_patches_fit():
    chosen = choices((40, 40, 40), (1.0, 1.0, 1.0), machine=GPU)
    assert chosen["train.patch"].value == (40, 40, 40)
    assert chosen["train.batch"].value == 16


def test_a_small_organ_gets_twice_the_features_on_a_cpu():
    chosen = choices((35, 50, 36), (1.0, 1.0, 1.0), cases=160)
    assert chosen["train.patch"].value == (40, 56, 40)
    assert "the whole case" in chosen["train.patch"].reason
    assert chosen["train.batch"].value == 4
    assert chosen["model.features"].value == (32, 64, 128, 256)
    assert "small cases" in chosen["model.features"].reason


def test_memory_limits_the_patch():
    small = Machine(True, 4, 16_000.0, 4_000.0, "mixed_float16")
    chosen = choices((192, 192, 192), (1.0, 1.0, 1.0), machine=small)
    voxels = math.prod(chosen["train.patch"].value)
    assert 0.6 * 128**3 / 3 < voxels < 0.6 * 4_000e6 / (60 * 32 * 2) * 1.2
    assert "4.0 GB of memory" in chosen["train.patch"].reason
    wide = Machine(True, 4, 16_000.0, 4_000.0, "float32")
    other = choices((192, 192, 192), (1.0, 1.0, 1.0), machine=wide)
    assert math.prod(other["train.patch"].value) < 0.6 * voxels
    unknown = Machine(True, 4, 16_000.0, None, "mixed_float16")
    assert choices((192,) * 3, (1.0,) * 3, machine=unknown)["train.patch"].value == (128,) * 3


def test_slices_keep_to_the_memory_too_and_the_batch_tells_its_voxels():
    small = Machine(True, 4, 16_000.0, 4_000.0, "mixed_float16")
    limited = choices((512, 512, 10), (0.5, 0.5, 6.0), machine=small)
    assert configured(limited).model.dimensions == 2
    voxels = math.prod(limited["train.patch"].value) * limited["train.batch"].value
    assert voxels <= 2.3 * 0.6 * 4_000e6 / (60 * 32 * 2)  # of two patches, which are rounded
    whole, slices = choices((192,) * 3, (1.0,) * 3), choices((256, 240, 8), (0.7, 0.7, 5.0))
    for chosen in (limited, whole, slices):
        voxels = math.prod(chosen["train.patch"].value) * chosen["train.batch"].value
        assert chosen["train.batch"].reason == f"{voxels:,} voxels a step"


def test_a_plan_says_what_the_machine_decides():
    chosen = choices((192, 192, 192), (1.0, 1.0, 1.0), machine=GPU, cases=3000)
    assert chosen["prepare.workers"].value == 8
    assert chosen["train.workers"].value == 4
    assert chosen["train.memory_mb"].value == 64_000
    assert chosen["train.validate_every"].value == 5
    assert "mixed_bfloat16 on a GPU" in chosen["train.precision"].reason
    assert "25,000 steps" in chosen["train.epochs"].reason
    assert "CPU of 2 cores" in choices((64,) * 3, (1.0,) * 3)["train.device"].reason


def spacing_of(*spacings):
    grids = [CaseGrid("a", (100, 100, 100), spacing) for spacing in spacings]
    return make_choices(dataset(), grids, machine=CPU, patients=3, asked={})[0]


def test_two_kinds_of_grids_get_the_spacing_of_the_finer():
    fine, thick = [(1.0, 1.0, 1.0)] * 3, [(0.9, 0.9, s) for s in (6.5, 8.0, 7.7)]
    mixed = spacing_of(*fine, *thick)
    assert mixed.value == (1.0, 1.0, 1.0)
    assert "3 of 6 cases have slices of 6.5 to 8 mm" in mixed.reason
    few = spacing_of(*fine * 3, thick[0])
    assert few.value == (1.0, 1.0, 1.0)
    assert few.reason == "median of 10 training cases"
    most = spacing_of(fine[0], *thick * 3)  # one other grid makes no population
    assert most.value == pytest.approx((0.9, 0.9, 6.5), abs=1e-6)
    assert "finest tenth" in most.reason


def test_slices_thick_along_other_axes_in_other_cases_blur_none_of_them():
    mixed = spacing_of(*[(5.0, 0.5, 0.6)] * 3, *[(0.5, 0.5, 5.0)] * 3)
    assert mixed.value == (0.5, 0.5, 0.6)
    assert "thick along R and S in different cases" in mixed.reason
    one = spacing_of(*[(0.5, 0.5, 5.0)] * 9, (5.0, 0.5, 0.5))
    assert one.value == (0.5, 0.5, 4.55)  # the finest tenth, as if all were thick along S


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ([64, 64, 64], "5 levels, until 4 voxels are left"),
        ([45, 45, 45], "2 levels, as 45 × 45 × 45 voxels cannot be halved: a train.patch of"),
        ([50, 50, 50], "2 levels, as 25 × 25 × 25 voxels cannot be halved: a train.patch of"),
        ([256, 256], "6 levels, the most"),
    ],
)
def test_it_is_told_what_ends_the_halving(patch, why):
    chosen = choices((300,) * 3, (1.0,) * 3, asked={"train.patch": patch})["model.features"]
    assert chosen.reason.startswith(why)


def test_it_is_told_whether_cores_or_memory_decide():
    large = Machine(False, 8, 16_000.0, None, "float32")
    chosen = choices((512, 512, 600), (1.0,) * 3, machine=large, cases=40)
    assert (chosen["prepare.workers"].value, chosen["train.memory_mb"].value) == (1, 8000)
    assert "a case of 944 MB takes eight times" in chosen["prepare.workers"].reason
    assert chosen["train.memory_mb"].reason.endswith("; half of 16,000 MB")
    small = choices((64,) * 3, (1.0,) * 3)
    assert small["prepare.workers"].reason == "2 cores"
    assert "half" not in small["train.memory_mb"].reason


@pytest.mark.parametrize(
    ("labels", "axes"),
    [(("anterior", "posterior"), ("R", "S")), (("Upper lobe",), ("R", "A")), (("sup_l",), ("A",))],
)
def test_labels_with_a_direction_are_not_mirrored_along_it(labels, axes):
    data = dataset(labels={name: i for i, name in enumerate(labels, 1)})
    chosen = choices((64,) * 3, (1.0,) * 3, data=data)["augment.mirror_axes"]
    assert chosen.value == axes
    assert labels[0] in chosen.reason


def test_spacing_is_the_median_and_finer_where_slices_are_thick():
    same = [CaseGrid("a", (100,) * 3, (1.0, s, 1.2)) for s in (0.8, 1.0, 1.4)]
    made = make_choices(dataset(), same, machine=CPU, patients=3, asked={})
    assert made[0].value == (1.0, 1.0, 1.2)
    thick = [CaseGrid("a", (200, 200, 30), (1.0, 1.0, s)) for s in (3.0, 5.0, 5.0, 6.0)]
    made = make_choices(dataset(), thick, machine=CPU, patients=3, asked={})
    assert made[0].value == pytest.approx((1, 1, np.percentile((3, 5, 5, 6), 10)), abs=1e-4)
    assert "finest tenth along the coarse axis" in made[0].reason


def test_thick_slices_are_downsampled_in_plane_first():
    config = configured(choices((256, 256, 40), (0.7, 0.7, 4.0)))
    levels = levels_of(config)
    assert config.model.dimensions == 3
    assert levels[1].stride == levels[2].stride == (2, 2, 1)
    assert levels[0].kernel == (3, 3, 1)


def test_a_few_thick_slices_are_seen_one_by_one():
    chosen = choices((256, 240, 8), (0.7, 0.7, 5.0))
    config = configured(chosen)
    assert config.model.dimensions == 2
    assert len(config.train.patch) == 2
    assert "too few slices" in chosen["model.dimensions"].reason
    assert math.prod(config.train.patch) <= 1.2 * 56**3
    sagittal = configured(choices((8, 256, 240), (5.0, 0.7, 0.7)))
    assert sagittal.model.dimensions == 2
    assert configured(choices((256, 256, 12), (0.7, 0.7, 5.0))).model.dimensions == 3


@pytest.mark.parametrize(
    ("shape", "spacing", "axis", "patch"),
    [
        ((300, 200, 1), (0.5, 0.5, 1.0), "S", (320, 224)),
        ((200, 200, 1), (2.0, 2.0, 1.0), "S", (224, 224)),  # the finest axis
        ((1, 256, 200), (1.0, 1.0, 1.0), "R", (256, 224)),
        ((256, 1, 200), (1.0, 1.0, 1.0), "A", (256, 224)),
        ((200, 200, 3), (1.0, 1.0, 3.0), "S", (224, 224)),
    ],
)
def test_a_few_voxels_along_any_axis_are_slices_across_it(shape, spacing, axis, patch):
    config = configured(choices(shape, spacing))
    assert config.model.dimensions == 2
    assert config.model.slice_axis == axis
    assert config.train.patch == patch


def test_slices_are_taken_across_the_axis_that_was_asked_for():
    chosen = choices(
        (192, 160, 192), (1.0,) * 3, asked={"train.patch": [64, 64], "model.slice_axis": "A"}
    )
    assert chosen["model.slice_axis"].value == "A"
    assert chosen["model.dimensions"].value == 2


def test_a_thin_slab_is_halved_in_its_plane():
    config = configured(choices((128, 128, 6), (1.0, 1.0, 1.0)))
    levels = levels_of(config)
    assert len(levels) >= 4
    assert {level.kernel for level in levels} == {(3, 3, 3)}
    assert {level.stride for level in levels[1:]} == {(2, 2, 1)}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (
            {"model.dimensions": 2},
            {
                "train.patch": (192, 192),
                "train.batch": 20,
                "model.features": (32, 64, 128, 256, 320, 320),
            },
        ),
        ({"train.patch": [64, 48]}, {"model.dimensions": 2, "train.batch": 32}),
        (
            {"train.patch": [64, 64, 40]},
            {"train.batch": 2, "model.features": (16, 32, 64, 128, 256)},
        ),
        ({"train.patch": [34, 34, 34]}, {"train.batch": 9, "model.features": (16, 32)}),
        ({"model.features": [8, 16]}, {"train.patch": (56, 56, 56)}),
    ],
)
def test_what_is_asked_for_stands_and_the_rest_is_chosen_for_it(asked, expected):
    chosen = choices((192, 192, 192), (1.0, 1.0, 1.0), asked=asked)
    for key, value in asked.items():
        assert (chosen[key].value, chosen[key].reason) == (value, "as asked")
    assert {key: chosen[key].value for key in expected} == expected
    assert len(levels_of(configured(chosen))) == len(chosen["model.features"].value)
    assert len(chosen) == (17 if chosen["model.dimensions"].value == 2 else 16)


def test_a_spacing_asked_for_is_planned_with_as_if_the_scans_had_it():
    asked = choices((192,) * 3, (1.0,) * 3, asked={"prepare.spacing_mm": [2, 2, 2]})
    stored = choices((96,) * 3, (2.0,) * 3)
    for key in ("train.patch", "train.batch", "model.features", "train.memory_mb"):
        assert asked[key] == stored[key]
    assert asked["train.patch"] != choices((192,) * 3, (1.0,) * 3)["train.patch"]


def test_more_features_than_planned_leave_room_for_a_smaller_patch():
    small = Machine(True, 4, 16_000.0, 4_000.0, "mixed_float16")
    planned = choices((192,) * 3, (1.0,) * 3, machine=small)["train.patch"].value
    wide = choices((192,) * 3, (1.0,) * 3, machine=small, asked={"model.features": [64, 128]})
    assert math.prod(wide["train.patch"].value) < 0.6 * math.prod(planned)


def test_reasons_tell_what_was_asked_for():
    asked = {"train.epochs": 3, "train.budget": "30min", "train.device": "gpu"}
    chosen = choices((192,) * 3, (1.0,) * 3, asked=asked)
    assert chosen["train.budget"].reason == "as asked; takes the place of epochs"
    assert chosen["train.device"].reason == "as asked; planned for a CPU of 2 cores"
    budget = choices((192,) * 3, (1.0,) * 3, asked={"train.budget": "30min"})
    assert budget["train.epochs"].reason == "train.budget decides"
    steps = choices((192,) * 3, (1.0,) * 3, asked={"train.steps_per_epoch": 7})["train.epochs"]
    assert steps.reason.startswith("140 steps")
    flat = choices((192,) * 3, (1.0,) * 3, asked={"train.patch": [64, 64]})["model.dimensions"]
    assert flat.reason == "as train.patch has 2 numbers"


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(("CT",), "ct"), ((" ct ", "CT image"), "ct"), (("ct", "pet"), "zscore"), (("t1",), "zscore")],
)
def test_only_ct_has_units(channels, expected):
    chosen = choices((64,) * 3, (1.0,) * 3, data=dataset(channels))
    assert chosen["prepare.normalise"].value == expected


@pytest.mark.parametrize(
    ("label", "sided"),
    [
        ("left_hippocampus", True),
        ("Kidney Right", True),
        ("thalamus-L", True),
        ("rh.cortex", True),
        ("leftKidney", True),
        ("RKidney", True),
        ("lungL", True),
        ("left1", True),
        ("stroke_rt", True),
        ("L1", False),  # a vertebra
        ("brightSpot2", False),
        ("lesion", False),
        ("bright spot", False),
        ("upright", False),
    ],
)
def test_sides_that_are_told_apart_are_not_mirrored(label, sided):
    chosen = choices((64,) * 3, (1.0,) * 3, data=dataset(labels={"core": 1, label: 2}))
    mirror = chosen["augment.mirror_axes"]
    assert mirror.value == (("A", "S") if sided else ("R", "A", "S"))
    assert (label in mirror.reason) is sided


@pytest.mark.parametrize(("patients", "folds"), [(1, 1), (2, 2), (4, 4), (5, 5), (90, 5)])
def test_there_are_no_more_folds_than_patients(patients, folds):
    chosen = choices((64,) * 3, (1.0,) * 3, patients=patients)
    assert chosen["split.folds"].value == folds
    assert ("too few" in chosen["split.folds"].reason) is (patients == 1)


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(*[st.integers(1, 700)] * 3),
    st.tuples(*[st.floats(0.05, 20.0)] * 3),
    st.booleans(),
)
@example((512, 512, 9), (0.5, 0.5, 1.00004), False)
@example((1, 700, 3), (20.0, 0.05, 0.05), True)
@example((124, 4, 124), (1.0, 1.0, 1.0), False)
@example((61, 9, 60), (1.0, 1.0, 1.0), True)
def test_every_plan_makes_a_network(shape, spacing, gpu):
    config = configured(choices(shape, spacing, machine=GPU if gpu else CPU))
    levels = levels_of(config)
    patch = np.array(config.train.patch)
    strides = np.array([level.stride for level in levels])
    total = strides.prod(axis=0)
    assert len(levels) == len(config.model.features)
    assert (patch % total == 0).all()
    assert ((total == 1) | (patch // total >= 4)).all()
    if len(levels) > 2:  # a level that halves nothing would only cost
        assert (strides[1:].max(axis=1) == 2).all()
    extents = np.array(shape, float)
    if config.model.dimensions == 2:
        extents = np.delete(extents, "RAS".index(config.model.slice_axis))
    assert math.prod(patch) <= 1.7 * (128 if gpu else 56) ** 3
    assert (patch <= 1.5 * extents + 1).all()
    assert 2 <= config.train.batch <= 32


def test_workers_have_room_for_the_scans_as_they_are_stored():
    machine = Machine(False, 8, 16_000.0, None, "float32")
    asked = {"prepare.spacing_mm": [3, 3, 3]}
    fine = choices((512, 512, 1000), (0.7, 0.7, 1.0), machine=machine, asked=asked)
    assert fine["prepare.workers"].value == 1
    assert "a case of 1,573 MB takes eight times" in fine["prepare.workers"].reason
    assert fine["train.memory_mb"].value == 200  # as prepared, 28 MB each


def test_single_slices_are_no_volume_whatever_their_thickness():
    grids = [CaseGrid("a", (256, 256, 1), (0.5, 0.5, s)) for s in (5.0, 1.0, 5.0, 1.0, 5.0)]
    made = make_choices(dataset(), grids, machine=CPU, patients=5, asked={})
    values = {choice.key: choice.value for choice in made}
    assert values["prepare.spacing_mm"] == (0.5, 0.5, 1.0)  # of the finer ones
    assert (values["model.dimensions"], values["model.slice_axis"]) == (2, "S")


def test_many_labels_leave_room_for_a_smaller_patch():
    machine = Machine(True, 8, 64_000.0, 16_376.0, "mixed_float16")
    many = dataset(labels={f"label{k}": k for k in range(1, 105)})
    voxels = [
        math.prod(choices((192,) * 3, (1.0,) * 3, machine=machine, data=data)["train.patch"].value)
        for data in (dataset(), many)
    ]
    assert voxels[0] == 128**3
    room = 0.6 * 16_376e6 / 2 / (75 * 32 + 24 * 105)
    assert 0.5 * room < voxels[1] < 1.15 * room


def test_what_needs_validations_gets_them():
    for asked, name in (({"train.keep": "best"}, "keep"), ({"train.patience": 3}, "patience")):
        chosen = choices((64,) * 3, (1.0,) * 3, asked=asked)["train.validate_every"]
        assert (chosen.value, chosen.reason.endswith(f"validations, for train.{name}")) == (5, True)
    none = choices((64,) * 3, (1.0,) * 3, asked={"train.keep": "last", "train.patience": 0})
    assert none["train.validate_every"].value == 0
    steps = choices((64,) * 3, (1.0,) * 3, asked={"train.steps": 5000})["train.epochs"]
    assert steps.reason == "train.steps decides"


def test_a_microscope_keeps_its_spacing():
    assert spacing_of(*[(0.00325,) * 3] * 3).value == (0.00325,) * 3
    assert spacing_of(*[(0.937504,) * 3] * 3).value == (0.9375,) * 3
