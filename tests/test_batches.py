"""Patches: the same for the same number, where they are taken, and what they weigh."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.augment import build
from segpipe.batches import PatchBatches, PatchSampler, dilate, keep_in_memory, read_patch
from segpipe.classes import BAND
from segpipe.config import parse
from segpipe.data.layouts import Case, ChannelFile
from segpipe.data.read import LoadedCase
from segpipe.prepare import PreparePlan, prepare_case
from segpipe.volume import Volume

SHAPE = (20, 18, 16)
SPACING = (1.0, 1.0, 2.0)
WM = {"name": "wm", "source": "mask", "file": "w.nii"}
CSF = {"name": "csf", "source": "mask", "file": "c.nii"}
REGIONS = ("wm", "csf")


def prepared(folder: Path, name: str, seed: int, *, points=((5, 5, 5),), value=1, regions=True):
    """A case whose voxels along R, A, S are those that are made here."""
    rng = np.random.default_rng([5, seed])
    image = rng.uniform(10, 90, (*SHAPE, 1)).astype(np.float32)
    reference = np.zeros(SHAPE, np.uint8)
    for point in points:
        reference[point] = value
    affine = np.diag([*SPACING, 1])
    path = folder / f"{name}_0000.nii"
    nib.Nifti1Image(image[..., 0], affine).to_filename(path)
    case = Case(name, name, (ChannelFile(path),))
    maps = {}
    if regions:
        wm = np.zeros(SHAPE, np.float32)
        wm[: SHAPE[0] // 2] = 1
        maps = {"wm": Volume(wm, affine), "csf": Volume(1 - wm, affine)}
    plan = PreparePlan(
        spacing_mm=SPACING,
        normalise="none",
        channels=("t1",),
        labels={"lesion": 1, "core": 2},
        ignore_label=9,
        regions=REGIONS,
    )
    loaded = LoadedCase(case, Volume(image, affine), Volume(reference, affine), ())
    return prepare_case(loaded, maps, plan, folder / "cache")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batches")
    made = [prepared(folder, f"c{i}", i, regions=i != 2) for i in range(5)]
    yield made
    shutil.rmtree(folder)


def sampler(
    cases, *, patch=(8, 8, 4), augment=False, foreground=0.5, border=1.0, seed=0, axis=None
):
    config = parse(
        {
            "name": "x",
            "data": {"root": "d"},
            "model": {"dimensions": len(patch), "features": [4, 8]},
            "train": {"patch": patch, "foreground": foreground, "seed": seed},
            "augment": {"enabled": augment, "rotate": 1.0, "noise": 1.0},
            "loss": {"voxel_count": {"border_mm": border}},
            "anatomy": {"regions": [{**WM, "weight": 0.5}, {**CSF, "weight": 3.0}]},
        }
    )
    augmenter = build(config.augment, patch, SPACING, axis)
    return PatchSampler(cases, config, augmenter, SPACING, axis)


def test_prepared_cases_hold_what_was_made(cases):
    assert cases[0].shape == SHAPE
    assert np.argwhere(np.asarray(cases[0].reference)).tolist() == [[5, 5, 5]]


def test_every_case_comes_once_per_round_in_another_order(cases):
    draws = sampler(cases)
    rounds = [[draws.case_index(5 * r + i) for i in range(5)] for r in range(8)]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in rounds)
    assert len({tuple(order) for order in rounds}) > 4
    other = sampler(cases, seed=1)
    assert [other.case_index(i) for i in range(40)] != [i for order in rounds for i in order]


def test_a_number_gives_the_same_patch_in_any_thread_and_order(cases):
    first = sampler(cases, augment=True)
    expected = [first.draw(number) for number in range(8)]
    again = sampler(keep_in_memory(cases, 1000), augment=True)
    order = [5, 0, 7, 3, 1, 6, 2, 4]
    with ThreadPoolExecutor(4) as threads:
        drawn = dict(zip(order, threads.map(again.draw, order), strict=True))
    for number, (image, target) in enumerate(expected):
        np.testing.assert_array_equal(drawn[number][0], image)
        np.testing.assert_array_equal(drawn[number][1], target)
        assert image.shape == (8, 8, 4, 1)
        assert target.shape == (8, 8, 4, 2)
        assert image.dtype == target.dtype == np.float32
    assert len({image.tobytes() for image, _ in expected}) == 8
    other, _ = sampler(cases, augment=True, seed=1).draw(0)
    assert not np.array_equal(other, expected[0][0])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_hold_consecutive_numbers_over_epochs_whatever_the_workers(workers):
    def draw(number):
        return np.full((2,), number, np.float32), np.full((1,), -number, np.float32)

    seen = []
    for epoch in range(2):
        batches = PatchBatches(draw, start=3 * epoch, steps=3, batch=2, workers=workers)
        assert len(batches) == 3
        for index in (2, 0, 1):
            image, target = batches[index]
            assert image.shape == (2, 2)
            np.testing.assert_array_equal(target[:, 0], -image[:, 0])
            seen.append((epoch, index, image[:, 0].tolist()))
        batches.close()
        np.testing.assert_array_equal(batches[0][0], [[6.0 * epoch] * 2, [6.0 * epoch + 1] * 2])
    assert [numbers for _, _, numbers in sorted(seen)] == [[2.0 * i, 2.0 * i + 1] for i in range(6)]


def test_threads_end_with_an_epoch_that_is_left_early_and_load_no_batch_twice():
    drawn = []

    def draw(number):
        drawn.append(number)
        return np.zeros(1, np.float32), np.zeros(1, np.float32)

    batches = PatchBatches(draw, start=0, steps=50, batch=1, workers=2)
    for index in (0, 1, 0, 1, 2, 3):  # Keras looks at the first two before it begins
        batches[index]
    batches.close()
    assert len(set(drawn)) == len(drawn)
    assert set(range(4)) <= set(drawn) <= set(range(12))
    assert not [t for t in threading.enumerate() if t.name.startswith("patches")]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_patches_around_foreground_is_the_configured_one(cases, share):
    draws = sampler(keep_in_memory(cases[:1], 100), patch=(4, 4, 4), foreground=share)
    count = 300
    hits = sum((draws.draw(n)[1][..., 0] == 1).any() for n in range(count))
    by_chance = np.prod([4 / (n - 3) for n in SHAPE])  # (5, 5, 5) lies far from the border
    expected = share + (1 - share) * by_chance
    assert abs(hits / count - expected) <= 4 * np.sqrt(expected * (1 - expected) / count)


def test_rare_classes_are_centred_on_as_often_as_common_ones(tmp_path):
    folder = tmp_path
    corner = [(x, y, z) for x in range(3) for y in range(3) for z in range(3)]
    case = prepared(folder, "two", 0, points=corner)
    case.foreground[2] = np.array([[16, 14, 12]], np.int32)
    draws = sampler(keep_in_memory([case], 100), patch=(4, 4, 4), foreground=1.0)
    common = sum((draws.draw(n)[1][..., 0] == 1).any() for n in range(200))
    assert 70 <= common <= 130


def test_patches_without_augmentation_are_the_stored_voxels_normalised(cases):
    case = cases[0]
    image, labels, regions = read_patch(case, np.array([2, 3, 4]), np.array([8, 8, 4]))
    np.testing.assert_array_equal(image, np.asarray(case.image)[2:10, 3:11, 4:8])
    np.testing.assert_array_equal(regions, np.asarray(case.regions)[2:10, 3:11, 4:8])
    assert labels[3, 2, 1] == labels.sum() == 1
    draws = sampler([case], foreground=0.0)  # anywhere, but inside the case
    drawn, target = draws.draw(3)
    stored = (np.asarray(case.image) - case.shift) / case.scale
    windows = np.lib.stride_tricks.sliding_window_view(stored[..., 0], (8, 8, 4))
    found = np.argwhere((windows == drawn[..., 0]).all(axis=(3, 4, 5)))
    assert len(found) == 1
    inside = tuple(slice(a, a + n) for a, n in zip(found[0], (8, 8, 4), strict=True))
    labels = np.where(target[..., 0] == BAND, 0, target[..., 0])
    np.testing.assert_array_equal(labels, np.asarray(case.reference)[inside])


class Wide:
    """An augmenter that reads a margin and changes nothing."""

    def margin(self, patch):
        return tuple(n + 2 * (axis + 2) for axis, n in enumerate(patch))

    def __call__(self, image, labels, regions, rng, patch, around):
        first = [(have - n) // 2 for have, n in zip(labels.shape, patch, strict=True)]
        box = tuple(slice(f, f + n) for f, n in zip(first, patch, strict=True))
        labelled = tuple(
            slice(f - a, f + n + a) for f, n, a in zip(first, patch, around, strict=True)
        )
        return image[box], labels[labelled], regions[box]


def test_the_margin_for_augmentation_lies_around_the_same_patch(cases):
    plain = sampler(cases)
    wide = replace(plain, augmenter=Wide())
    for number in range(6):
        for a, b in zip(plain.draw(number), wide.draw(number), strict=True):
            np.testing.assert_array_equal(a, b)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(-9, n - 1) for n in SHAPE]), st.tuples(*[st.integers(1, 30)] * 3))
def test_what_lies_beyond_the_case_is_0(cases, start, size):
    size = tuple(max(n, 1 - a) for a, n in zip(start, size, strict=True))  # touches the case
    for case in (cases[0], cases[2]):
        got = read_patch(case, np.array(start), np.array(size))
        regions = np.asarray(case.regions)
        for array, source in zip(got, (case.image, case.reference, regions), strict=True):
            whole = np.asarray(source)
            big = np.zeros([n + 80 for n in SHAPE] + list(whole.shape[3:]), whole.dtype)
            big[tuple(slice(40, 40 + n) for n in SHAPE)] = whole
            box = tuple(slice(40 + a, 40 + a + n) for a, n in zip(start, size, strict=True))
            np.testing.assert_array_equal(array, big[box])
            assert array.dtype == whole.dtype


def test_patches_larger_than_the_case_hold_all_of_it(cases):
    draws = sampler(cases[:1], patch=(24, 24, 24), foreground=0.0)
    for number in range(4):
        image, target = draws.draw(number)
        assert image.shape == (24, 24, 24, 1)
        assert (target[..., 0] == 1).sum() == 1


def test_targets_hold_region_weights_and_the_band_around_the_reference(cases):
    draws = sampler(cases[:1], patch=(24, 24, 24), foreground=0.0, border=2.0)
    _, target = draws.draw(0)
    (center,) = np.argwhere(target[..., 0] == 1)
    start = np.array([5, 5, 5]) - center
    expected = np.zeros((24, 24, 24, 2), np.float32)
    for index in np.ndindex(24, 24, 24):
        voxel = np.array(index) + start
        if (voxel < 0).any() or (voxel >= SHAPE).any():
            continue
        gap_mm = np.abs(voxel - 5) * SPACING
        near = (gap_mm <= 2.0).all()  # a box of 2 mm: 2 voxels in plane, 1 across
        label = BAND if near and gap_mm.any() else float(near)
        expected[index] = label, 0.5 if voxel[0] < 10 else 3.0
    np.testing.assert_array_equal(target, expected)


def test_a_lesion_just_beyond_the_patch_has_its_band_in_it(cases):
    draws = sampler(cases[:1], patch=(4, 4, 4), foreground=0.0, border=2.0)
    stored = (np.asarray(cases[0].image) - cases[0].shift) / cases[0].scale
    windows = np.lib.stride_tricks.sliding_window_view(stored[..., 0], (4, 4, 4))
    whole = np.zeros(SHAPE, int)
    whole[3:8, 3:8, 4:7] = BAND
    whole[5, 5, 5] = 1
    beyond = 0
    for number in range(150):
        image, target = draws.draw(number)
        (found,) = np.argwhere((windows == image[..., 0]).all(axis=(3, 4, 5)))
        inside = tuple(slice(a, a + 4) for a in found)
        np.testing.assert_array_equal(target[..., 0], whole[inside])
        beyond += set(np.unique(whole[inside])) == {0, BAND}
    assert beyond > 5


def test_where_a_complement_was_left_out_voxels_in_no_region_weigh_1(cases):
    whole = sampler(cases[:1], patch=(24, 24, 24), foreground=0.0)
    halved = replace(cases[0], region_names=("wm",), regions=np.asarray(cases[0].regions)[..., :1])
    regions = [
        {**WM, "weight": 0.5},
        {**CSF, "optional": True, "weight": 3.0},
        {"name": "rest", "source": "complement", "weight": 2.0},
    ]
    anatomy = parse({"name": "x", "data": {"root": "d"}, "anatomy": {"regions": regions}}).anatomy
    config = whole.config.model_copy(update={"anatomy": anatomy})
    without = replace(whole, cases=[halved])
    _, usual = without.draw(0)
    _, neutral = replace(without, config=config).draw(0)
    assert np.unique(usual[..., 1]).tolist() == [0.0, 0.5]
    np.testing.assert_array_equal(neutral[..., 1], np.where(usual[..., 1] == 0, 1.0, 0.5))


def test_without_a_border_only_the_reference_itself_is_spared(cases):
    draws = sampler(cases[2:3], patch=(24, 24, 24), foreground=0.0, border=0.0)
    _, target = draws.draw(0)
    assert np.unique(target[..., 0]).tolist() == [0, 1]
    np.testing.assert_array_equal(target[..., 1], 1.0)


def test_voxels_to_be_ignored_have_a_band_too(tmp_path):
    case = prepared(tmp_path, "i", 0, points=((5, 5, 5), (6, 5, 5)), value=9, regions=False)
    draws = sampler([case], patch=(24, 24, 24), foreground=0.0, border=1.0)
    _, target = draws.draw(0)
    values, counts = np.unique(target[..., 0], return_counts=True)
    assert values.tolist() == [0, BAND, 255]
    assert counts.tolist()[1:] == [4 * 3 * 3 - 2, 2]  # half of 2 mm rounds to a whole slice


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_run_across_the_given_axis(cases, axis):
    draws = sampler(cases[:1], patch=(6, 5), foreground=1.0, axis=axis)
    stored = np.asarray(cases[0].image)
    stored = (stored - cases[0].shift) / cases[0].scale
    image, target = draws.draw(0)
    assert image.shape == (6, 5, 1)
    (center,) = np.argwhere(target[..., 0] == 1)
    kept = [a for a in range(3) if a != axis]
    start = np.array([5, 5, 5])
    start[kept] -= center
    box = [slice(5, 6)] * 3
    for a, n in zip(kept, (6, 5), strict=True):
        box[a] = slice(start[a], start[a] + n)
    plane = stored[tuple(box)].squeeze(axis)
    np.testing.assert_array_equal(image, plane)


def test_slices_take_their_spacing_from_their_own_axes(cases):
    draws = sampler(cases[2:3], patch=(13, 13), foreground=1.0, axis=0, border=2.0)
    _, target = draws.draw(0)
    (center,) = np.argwhere(target[..., 0] == 1)
    spared = np.argwhere(target[..., 0] != 0) - center
    assert np.abs(spared).max(axis=0).tolist() == [2, 1]  # 2 mm along A (1 mm) and S (2 mm)
    assert len(spared) == 15


def test_memory_holds_as_many_cases_as_it_may_and_changes_no_patch(cases):
    voxels = int(np.prod(SHAPE))
    one_mb = voxels * (4 + 1 + 2) / 1e6
    kept = keep_in_memory(cases, 2.0 * one_mb + 1e-5)
    assert [isinstance(c.image, np.ndarray) for c in kept] == [True, True, False, False, False]
    assert isinstance(kept[1].regions, np.ndarray)
    large = replace(cases[0], image=np.zeros((*SHAPE, 9), np.float32))
    others = keep_in_memory([large, *cases[1:]], 2.0 * one_mb + 1e-5)
    held = [isinstance(case.reference, np.ndarray) for case in others]
    assert held == [False, True, True, False, False]  # what is too large is in nobody's way
    assert not any(isinstance(c.image, np.ndarray) for c in keep_in_memory(cases, 0.0))
    a, b = sampler(cases, augment=True), sampler(kept, augment=True)
    for number in range(5):
        for x, y in zip(a.draw(number), b.draw(number), strict=True):
            np.testing.assert_array_equal(x, y)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.tuples(*[st.integers(0, 2)] * 3))
def test_dilation_is_a_box(seed, voxels):
    mask = np.random.default_rng([3, seed]).random((6, 7, 5)) < 0.03
    expected = np.zeros_like(mask)
    for point in np.argwhere(mask):
        low = np.maximum(point - voxels, 0)
        high = point + np.array(voxels) + 1
        expected[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    np.testing.assert_array_equal(dilate(mask, voxels), expected)
