"""Plans, prepared images and the cache."""

import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segpipe.config import Config
from segpipe.data.layouts import Case, ChannelFile, Dataset
from segpipe.data.read import LoadedCase
from segpipe.errors import DataError, StorageError
from segpipe.geometry import forward_labels, grid_transform, inverse
from segpipe.lesions.components import label_components
from segpipe.prepare import (
    PreparePlan,
    image_key,
    make_plan,
    measure_grids,
    prepare_case,
    prepare_volume,
    regions_key,
    store,
)
from segpipe.prepare.case import foreground_index
from segpipe.prepare.image import class_indices, lost_lesions
from segpipe.prepare.profile import PERCENTILES
from segpipe.volume import Volume

LPS = np.array([[-1, 0, 0, 10], [0, -1, 0, 20], [0, 0, 2.0, -5], [0, 0, 0, 1]])


def plan(**changes):
    values = {
        "spacing_mm": (1, 1, 2),
        "normalise": "zscore",
        "channels": ("flair", "t1"),
        "labels": {"lesion": 3, "core": 1},
        "ignore_label": 9,
        "regions": ("brain", "csf"),
    }
    return PreparePlan(**{**values, **changes})


def brain(shape=(12, 14, 10), seed=0):
    image = np.zeros((*shape, 2), np.float32)
    inside = (slice(2, -3), slice(1, -2), slice(3, -1))
    size = image[inside].shape
    image[inside] = np.random.default_rng(seed).normal(100, 10, size)
    return image


def make_case(folder: Path, name="a", affine=LPS, seed=0) -> LoadedCase:
    folder.mkdir(parents=True, exist_ok=True)
    image = brain(seed=seed)
    reference = np.zeros(image.shape[:3], np.uint8)
    reference[4:6, 5:7, 5:7] = 3
    reference[4, 5, 5] = 1
    reference[7, 7, 7] = 9
    files = []
    for c in range(2):
        path = folder / f"{name}_000{c}.nii.gz"
        nib.save(nib.Nifti1Image(image[..., c], affine), path)
        files.append(ChannelFile(path))
    truth = folder / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(reference, affine), truth)
    case = Case(id=name, patient=f"p-{name}", channels=tuple(files), reference=truth)
    return LoadedCase(case, Volume(image, affine), Volume(reference, affine), ("odd",))


def regions_of(loaded):
    half = np.full(loaded.image.shape, 0.5, np.float32)
    half[:4] = 1
    return {"csf": Volume(half, loaded.image.affine)}


def test_prepared_image_is_the_cropped_brain_along_ras():
    image = brain()
    prepared = prepare_volume(Volume(image, LPS), plan())
    expected = image[2:-3, 1:-2, 3:-1][::-1, ::-1]
    assert prepared.array.shape == expected.shape == prepared.normalised.shape
    for c in range(2):
        values = expected[..., c]
        np.testing.assert_allclose(
            prepared.normalised[..., c], (values - values.mean()) / values.std(), atol=2e-3
        )
        percentiles = np.percentile(values, PERCENTILES)
        np.testing.assert_allclose(
            prepared.profile[c], (percentiles - values.mean()) / values.std(), atol=2e-3
        )
    back = inverse(np.ones(prepared.array.shape[:3], np.float32), prepared.transform, 1)
    assert np.array_equal(back, (image[..., 0] != 0).astype(np.float32))


def test_without_crop_everything_is_kept_and_resampling_stays_in_range():
    prepared = prepare_volume(Volume(brain(), LPS), plan(crop=False, spacing_mm=(0.7, 1, 3)))
    assert prepared.array.shape == (17, 14, 7, 2)
    assert prepared.array.min() >= 0
    assert prepared.array.max() <= 1
    assert prepared.transform.spacing_mm == pytest.approx((12 / 17, 1, 20 / 7))


def test_an_empty_scan_is_kept_whole_and_finite():
    prepared = prepare_volume(Volume(np.zeros((4, 5, 6, 2), np.float32), np.eye(4)), plan())
    assert prepared.array.shape == (4, 5, 3, 2)
    assert not prepared.normalised.any()


def test_other_channels_and_absurd_sizes_are_refused():
    with pytest.raises(DataError, match=r"expected 2 \(flair, t1\); received 1"):
        prepare_volume(Volume(np.ones((4, 4, 4), np.float32), np.eye(4)), plan())
    huge = Volume(np.ones((40, 40, 40, 2), np.float32), np.diag([500.0, 500, 500, 1]))
    with pytest.raises(DataError, match="too large"):
        prepare_volume(huge, plan())
    small = Volume(np.ones((4, 4, 4, 2), np.float32), np.diag([5.0, 5, 5, 1]))
    assert prepare_volume(small, plan()).array.size
    with pytest.raises(DataError, match=r"at most 1,000 voxels \(data\.max_voxels\)"):
        prepare_volume(small, plan(), max_voxels=1000)


def test_classes_are_in_the_order_of_the_plan():
    stored = np.array([0, 1, 3, 9], np.int32).reshape(2, 2, 1)
    expected = [0, 2, 1, 255]
    assert class_indices(stored, {"lesion": 3, "core": 1}, 9).ravel().tolist() == expected
    far = np.array([0, -5, 1_000_000], np.int32).reshape(3, 1, 1)
    assert class_indices(far, {"a": 1_000_000}, -5).ravel().tolist() == [0, 255, 1]
    with pytest.raises(DataError, match=r"expected one of \[0, 3, 9\]; received 1"):
        class_indices(stored, {"lesion": 3}, 9)


@pytest.mark.parametrize("turn", [np.diag([1.0, 1, 1, 1]), np.diag([-1.0, 1, 1, 1])])
def test_lesions_that_are_thinner_than_a_prepared_voxel_are_counted_as_lost(turn):
    classes = np.zeros((12, 12, 12), np.uint8)
    classes[1, 1, 1] = classes[9, 2:4, 9] = 1  # one voxel of 64, and two
    classes[4:8, 4:8, 4:8] = 1  # a whole one
    classes[8:12, 8:12, 0:4] = 2
    classes[0, 11, 11] = 255
    same = grid_transform(classes.shape, turn, None)
    assert lost_lesions(classes, forward_labels(classes, same), same) == (0, 0, 4)
    coarse = grid_transform(classes.shape, turn, (4, 4, 4))
    prepared = forward_labels(classes, coarse)
    assert (np.count_nonzero(prepared == 1), np.count_nonzero(prepared == 2)) == (1, 1)
    assert lost_lesions(classes, prepared, coarse) == (2, 0, 4)


@pytest.mark.parametrize("at", [(0, 0, 0), (4, 0, 0)])  # the second beside a lesion within the box
def test_lesions_outside_the_scan_are_told_apart_from_thin_ones(tmp_path, at):
    loaded = make_case(tmp_path / "data")
    array = loaded.reference.array.copy()
    array[at] = 3
    array[4, 1, 3] = 3
    loaded = replace(loaded, reference=loaded.reference.with_array(array))
    prepared = prepare_case(loaded, {}, plan(), tmp_path / "cache")
    told = [flag for flag in prepared.flags if flag.startswith("reference: ")]
    lesions = label_components(array == 3)[1] + label_components(array == 1)[1]
    assert told == [f"reference: 1 of {lesions} lesions lie where every channel is 0"]


def test_foreground_index_is_exact_and_spread_when_limited():
    reference = np.zeros((30, 30, 30), np.uint8)
    reference[1, 2, 3] = 2
    reference[10:] = 1
    index = foreground_index(reference, 3)
    assert index[2].tolist() == [[1, 2, 3]]
    assert index[3].shape == (0, 3)
    assert len(index[1]) == 10_000
    assert (reference[tuple(index[1].T)] == 1).all()
    assert len(np.unique(index[1], axis=0)) == 10_000
    counts = np.bincount(index[1][:, 0], minlength=30)[10:]
    assert counts.min() >= 499
    assert counts.max() <= 501


def test_a_prepared_case_reads_back_what_was_prepared(tmp_path):
    loaded = make_case(tmp_path / "data")
    case = prepare_case(loaded, regions_of(loaded), plan(), tmp_path / "cache")
    prepared = prepare_volume(loaded.image, plan())
    assert (case.id, case.patient, case.flags) == ("a", "p-a", ("odd",))
    assert np.array_equal(case.image[...], prepared.array)
    patch = (slice(1, 4), slice(2, 9), slice(0, 3))
    assert np.array_equal(case.image[patch], prepared.array[patch])
    assert np.array_equal(case.shift, prepared.shift)
    assert np.array_equal(case.scale, prepared.scale)
    assert case.transform == prepared.transform
    assert case.shape == prepared.array.shape[:3]
    assert case.spacing_mm == pytest.approx((1, 1, 2))
    cropped = loaded.reference.array[2:-3, 1:-2, 3:-1][::-1, ::-1]
    expected = np.select([cropped == 3, cropped == 1, cropped == 9], [1, 2, 255])
    assert np.array_equal(case.reference[...], expected)
    assert sorted(map(tuple, case.foreground[1])) == sorted(map(tuple, np.argwhere(expected == 1)))
    assert case.region_names == ("csf",)
    half = regions_of(loaded)["csf"].array[2:-3, 1:-2, 3:-1][::-1, ::-1]
    assert np.array_equal(case.regions[..., 0], np.rint(half * 255))
    copy = pickle.loads(pickle.dumps(case))
    assert np.array_equal(copy.image[...], prepared.array)


def test_a_case_without_reference_and_regions(tmp_path):
    loaded = make_case(tmp_path / "data")
    alone = LoadedCase(Case("b", "b", loaded.case.channels), loaded.image, None, ())
    case = prepare_case(alone, {}, plan(), tmp_path / "cache")
    assert case.reference is None
    assert case.regions[0:2].shape == (2, *case.shape[1:], 0)
    assert {k: len(v) for k, v in case.foreground.items()} == {1: 0, 2: 0}


def test_the_keys_follow_everything_that_decides_the_voxels(tmp_path):
    loaded = make_case(tmp_path / "data")
    key = image_key(loaded.case, plan())
    assert key == image_key(loaded.case, plan(regions=()))
    others = [
        image_key(loaded.case, plan(crop=False)),
        image_key(loaded.case, plan(labels={"core": 1, "lesion": 3})),
        image_key(make_case(tmp_path / "other", seed=1).case, plan()),
        image_key(make_case(tmp_path / "data", name="z").case, plan()),
    ]
    assert len({key, *others}) == 5
    maps = regions_of(loaded)
    of_regions = regions_key(key, maps, plan())
    assert of_regions == regions_key(key, regions_of(loaded), plan())
    assert of_regions != regions_key(others[0], maps, plan())
    changed = [regions_key(key, {}, plan()), regions_key(key, maps, plan(), ("brain left out",))]
    maps["csf"].array[0, 0, 0] = 0.25
    changed.append(regions_key(key, maps, plan()))
    assert len({key, of_regions, *changed}) == 5
    with pytest.raises(DataError, match="unknown to the plan"):
        regions_key(key, {"liver": maps["csf"]}, plan())


def test_a_second_time_nothing_is_prepared(tmp_path, monkeypatch):
    loaded = make_case(tmp_path / "data")
    first = prepare_case(loaded, {}, plan(), tmp_path / "cache")
    monkeypatch.setattr("segpipe.prepare.case.prepare_volume", None)
    monkeypatch.setattr("segpipe.prepare.case.prepare_regions", None)
    again = prepare_case(loaded, {}, plan(), tmp_path / "cache")
    assert (again.folder, again.regions_folder) == (first.folder, first.regions_folder)


def test_other_regions_share_the_image_and_have_their_own_flags(tmp_path, monkeypatch):
    loaded = make_case(tmp_path / "data")
    cache = tmp_path / "cache"
    first = prepare_case(loaded, regions_of(loaded), plan(), cache)
    monkeypatch.setattr("segpipe.prepare.case.prepare_volume", None)
    maps = regions_of(loaded)
    maps["csf"].array[:] = 1
    second = prepare_case(loaded, maps, plan(), cache, ("csf: doubtful",))
    assert second.folder == first.folder
    assert (first.flags, second.flags) == (("odd",), ("odd", "csf: doubtful"))
    assert (second.regions[...] == 255).all()
    assert not (first.regions[...] == 255).all()
    assert len(list(cache.glob("*/*/image.b2nd"))) == 1
    assert len(list(cache.glob("*/*/regions.b2nd"))) == 2
    copy = pickle.loads(pickle.dumps(second))
    assert np.array_equal(copy.regions[...], second.regions[...])
    assert prepare_case(loaded, maps, plan(), cache).flags == ("odd",)


def both_whole(case):
    return store.is_whole(case.folder) and store.is_whole(case.regions_folder)


@pytest.mark.parametrize(
    "name",
    [
        "image.b2nd",
        "case.json",
        "foreground.npz",
        "files.json",
        "regions.b2nd",
        "regions.json",
    ],
)
@pytest.mark.parametrize("harm", ["cut", "flip", "remove"])
def test_a_damaged_entry_is_made_again(tmp_path, name, harm):
    loaded = make_case(tmp_path / "data")
    cache = tmp_path / "cache"
    case = prepare_case(loaded, {}, plan(), cache)
    whole = case.image[...]
    file = (case.regions_folder if name.startswith("regions") else case.folder) / name
    content = bytearray(file.read_bytes())
    if harm == "remove":
        file.unlink()
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes(bytes(content) if harm == "flip" else bytes(content[:-3]))
    assert not both_whole(case)
    again = prepare_case(loaded, {}, plan(), cache)
    assert np.array_equal(again.image[...], whole)
    assert both_whole(case)
    expected = {case.folder.parent.name, case.regions_folder.parent.name}
    assert {p.name for p in cache.iterdir()} == expected


def test_the_second_of_two_writers_discards_its_own(tmp_path):
    first = store.put(tmp_path, "ab12", {"a": b"1"})
    assert store.put(tmp_path, "ab12", {"a": b"2"}) == first
    assert (first / "a").read_bytes() == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["ab"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cache cannot be written"):
        store.put(tmp_path / "file", "ab12", {"a": b"1"})


def test_errors_name_the_case(tmp_path):
    loaded = make_case(tmp_path / "data")
    with pytest.raises(DataError, match="case a, reference: a value that is no declared label"):
        prepare_case(loaded, {}, plan(labels={"core": 1}), tmp_path / "cache")
    moved = Volume(regions_of(loaded)["csf"].array, np.eye(4))
    with pytest.raises(DataError, match="case a, region csf: not on the image's grid"):
        prepare_case(loaded, {"csf": moved}, plan(), tmp_path / "cache")


@dataclass(frozen=True)
class World:
    dataset: Dataset
    cases: tuple[Case, ...]


@pytest.fixture
def world(tmp_path):
    cases = []
    for index, thickness in enumerate((2.0, 3.0, 7.0)):
        affine = np.array(  # stored as S, R, A
            [[0, 1.0, 0, 0], [0, 0, 1.5, 0], [thickness, 0, 0, 0], [0, 0, 0, 1]]
        )
        cases.append(make_case(tmp_path, f"c{index}", affine, index).case)
    dataset = Dataset(
        "d", tmp_path, "nnunet", ("flair", "t1"), {"lesion": 3, "core": 1}, tuple(cases)
    )
    return World(dataset, tuple(cases))


def config(root, **prepare):
    return Config.model_validate(
        {
            "name": "x",
            "data": {"root": str(root), "ignore_label": 9},
            "prepare": {"workers": 1, **prepare},
            "anatomy": {"regions": [{"name": "brain", "source": "template", "file": "brain"}]},
        }
    )


def test_the_plan_takes_the_median_spacing_along_ras(world):
    made = make_plan(world.dataset, world.cases, config(world.dataset.root))
    assert made.spacing_mm == pytest.approx((1, 1.5, 3))
    assert made.intensities is None
    assert (made.labels, made.ignore_label, made.regions) == (
        {"lesion": 3, "core": 1},
        9,
        ("brain",),
    )
    assert PreparePlan.model_validate_json(made.model_dump_json()) == made
    asked = make_plan(world.dataset, world.cases, config(world.dataset.root, spacing_mm=(1, 2, 3)))
    assert asked.spacing_mm == (1, 2, 3)


def test_ct_intensities_are_those_of_the_labelled_voxels(world):
    made = make_plan(world.dataset, world.cases, config(world.dataset.root, normalise="ct"))
    pooled = []
    for index in range(3):
        loaded = make_case(world.dataset.root, f"c{index}", np.eye(4), index)
        labelled = np.isin(loaded.reference.array, (1, 3))
        pooled.append(loaded.image.array[labelled])
    values = np.concatenate(pooled)
    for c, stats in enumerate(made.intensities):
        assert stats.mean == pytest.approx(values[:, c].mean(), rel=1e-5)
        assert stats.std == pytest.approx(values[:, c].std(), rel=1e-4)
        assert stats.low == pytest.approx(np.percentile(values[:, c], 0.5), rel=1e-5)
        assert stats.high == pytest.approx(np.percentile(values[:, c], 99.5), rel=1e-5)


def test_grids_leave_out_what_cannot_be_read(world):
    broken = Case("broken", "b", (ChannelFile(world.dataset.root / "none.nii.gz"),))
    found = measure_grids((*world.cases, broken), config(world.dataset.root))
    assert [grid.case for grid in found] == ["c0", "c1", "c2"]
    assert {grid.shape for grid in found} == {(14, 10, 12)}
    assert sorted(grid.spacing_mm[2] for grid in found) == pytest.approx([2, 3, 7])
    with pytest.raises(DataError, match=r"none\.nii"):
        make_plan(world.dataset, (broken,), config(world.dataset.root))
    assert grid_transform((12, 14, 10), LPS).axes == (0, 1, 2)
