"""A prior can be wrong: what a shift of 10 mm may and may not change in a training target."""

import nibabel as nib
import numpy as np
import pytest
from keras import ops

from segpipe.anatomy import region_maps
from segpipe.augment import build
from segpipe.batches import PatchSampler
from segpipe.config import parse
from segpipe.data.layouts import Case, ChannelFile
from segpipe.data.nifti import write_volume
from segpipe.data.read import LoadedCase
from segpipe.losses.compound import CompoundLoss
from segpipe.prepare import PreparePlan, prepare_case
from segpipe.volume import Volume

SHAPE = (24, 24, 24)
FLOOR = 0.2
AFFINE = np.diag([2.0, 2.0, 2.0, 1])
CONFIG = parse(
    {
        "name": "x",
        "data": {"root": "d"},
        "anatomy": {
            "regions": [
                {
                    "name": "rare",
                    "source": "mask",
                    "file": "rare.nii.gz",
                    "soften_mm": 2,
                    "floor": FLOOR,
                    "weight": 2.0,
                }
            ]
        },
        "model": {"features": [4, 8]},
        "train": {"patch": SHAPE, "foreground": 0.0},
        "augment": {"enabled": False},
        "loss": {"voxel_count": {"weight": 1.0, "border_mm": 2.0}},
    }
)


def reference():
    lesions = np.zeros(SHAPE, np.uint8)
    lesions[10:13, 11:14, 12:14] = 1
    lesions[4, 18, 6] = 1
    return lesions


def target_with(shift_mm, folder):
    """The training target of a scan whose rare places are told ``shift_mm`` off along R."""
    rare = np.ones(SHAPE, np.uint8)
    rare[6:18, 6:18, 6:18] = 0
    moved = AFFINE.copy()
    voxels = round(shift_mm / 2)
    array = np.roll(rare, voxels, axis=0)
    write_volume(folder / "rare.nii.gz", Volume(array, moved))
    image = np.random.default_rng(0).uniform(1, 9, (*SHAPE, 1)).astype(np.float32)
    path = folder / "a_0000.nii"
    nib.Nifti1Image(image[..., 0], AFFINE).to_filename(path)
    scan = Volume(image, AFFINE)
    maps, _ = region_maps("a", scan, CONFIG.anatomy, folder)
    case = Case("a", "a", (ChannelFile(path),))
    loaded = LoadedCase(case, scan, Volume(reference(), AFFINE), ())
    plan = PreparePlan(
        spacing_mm=(2.0, 2.0, 2.0),
        normalise="none",
        channels=("t1",),
        labels={"lesion": 1},
        regions=("rare",),
    )
    made = prepare_case(loaded, maps, plan, folder / f"cache{shift_mm}")
    augmenter = build(CONFIG.augment, CONFIG.train.patch, plan.spacing_mm)
    return PatchSampler([made], CONFIG, augmenter, plan.spacing_mm).draw(0)[1]


def penalty(target, logits):
    """The penalty on voxels before λ, so the ramp has no say."""
    loss = CompoundLoss(CONFIG.loss, 1, 8.0)
    terms = loss.terms(ops.convert_to_tensor(logits[None]), ops.convert_to_tensor(target[None]), 1)
    return float(ops.convert_to_numpy(terms["voxel_count"])[0])


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("priors")
    return {shift: target_with(shift, folder) for shift in (0, 10, -10)}


def test_the_shift_changes_weights_and_nothing_else(targets):
    for shift in (10, -10):
        assert np.array_equal(targets[shift][..., 0], targets[0][..., 0])
        assert not np.array_equal(targets[shift][..., 1], targets[0][..., 1])


def test_weights_keep_their_floor_wherever_the_prior_says_never(targets):
    for target in targets.values():
        weight = target[..., 1] / 2.0
        assert weight.min() == pytest.approx(FLOOR, abs=0.5 / 255)
        assert weight.max() == 1


@pytest.mark.parametrize("shift", [0, 10, -10])
def test_no_penalty_falls_on_the_lesion_nor_its_border_however_wrong_the_prior(targets, shift):
    target = targets[shift]
    spared = target[..., 0] != 0
    assert spared.sum() > reference().sum()
    logits = np.random.default_rng(1).normal(0, 3, (*SHAPE, 1)).astype(np.float32)
    sure, unsure = logits.copy(), logits.copy()
    sure[spared], unsure[spared] = 9.0, -9.0
    assert penalty(target, sure) == penalty(target, unsure) > 0


def test_a_false_positive_costs_something_everywhere_even_where_a_wrong_prior_expects_lesions(
    targets,
):
    quiet = np.full((*SHAPE, 1), -9.0, np.float32)
    for target in targets.values():
        weight, free = target[..., 1], target[..., 0] == 0
        cheapest = np.unravel_index(np.where(free, weight, np.inf).argmin(), SHAPE)
        loud = quiet.copy()
        loud[cheapest] = 9.0
        assert penalty(target, loud) > penalty(target, quiet) == 0
