"""From probabilities to numbered regions, and to the files of a case."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segpipe.config import OperatingPoint
from segpipe.data.layouts import Case, ChannelFile
from segpipe.evaluate.score import score_case
from segpipe.evaluate.settings import ScoreSettings
from segpipe.files import file_sha256
from segpipe.pipeline.outputs import midline_x_mm, segment, with_agreement, write_case
from segpipe.predict.uncertainty import Spread
from segpipe.volume import Volume

AFFINE = np.array([[-1.0, 0, 0, 10], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
SHAPE = (20, 10, 6)


def probabilities(*boxes, classes=1):
    array = np.full((*SHAPE, classes), 0.05, np.float32)
    for box, label, value in boxes:
        array[box][..., label] = value
    return Volume(array, AFFINE)


def run(volume, labels=None, point=None, regions=None, connectivity=26):
    return segment(
        volume,
        labels or {"lesion": 3},
        point or OperatingPoint(),
        connectivity=connectivity,
        regions=regions or {},
        midline_x_mm=0.0,
    )


SMALL = (slice(2, 3), slice(2, 3), slice(2, 4))  # 2 voxels, world x 8: right
LARGE = (slice(15, 18), slice(4, 6), slice(2, 3))  # 6 voxels, world x -6: left
SPECK = (slice(9, 10), slice(8, 9), slice(4, 5))  # 1 voxel


def test_regions_are_numbered_from_the_largest_and_described():
    volume = probabilities((SMALL, 0, 0.6), (LARGE, 0, 0.8), (SPECK, 0, 0.9))
    volume.array[16, 4, 2, 0] = 1.0
    made = run(volume, point=OperatingPoint(min_size_mm3=4.0))
    assert made.mask.dtype == np.uint8
    assert np.unique(made.components[LARGE]).tolist() == [1]
    assert np.unique(made.components[SMALL]).tolist() == [2]
    assert (made.components > 0).sum() == 8
    np.testing.assert_array_equal(made.mask, np.where(made.components > 0, 3, 0))
    assert made.counts == {
        "lesion": {
            "components": 2,
            "volume_ml": pytest.approx(0.016),
            "removed": 1,
            "removed_volume_ml": pytest.approx(0.002),
        }
    }
    large, small = made.facts
    assert (large["id"], large["label"], large["side"], large["region"]) == (1, "lesion", "L", None)
    assert large["volume_ml"] == pytest.approx(0.012)
    assert large["mean_probability"] == pytest.approx((5 * 0.8 + 1.0) / 6)
    assert large["max_probability"] == 1.0
    assert large["centroid_voxel"] == [16.0, 4.5, 2.0]
    assert large["touches_border"] is False
    assert (small["id"], small["side"]) == (2, "R")
    assert small["longest_diameter_mm"] == pytest.approx(4.0)


def test_hysteresis_removes_regions_without_a_core_and_accounts_for_them():
    volume = probabilities((SMALL, 0, 0.6), (LARGE, 0, 0.8), (SPECK, 0, 0.9))
    made = run(volume, point=OperatingPoint(min_size_mm3=4.0, core_threshold=0.7))
    assert [fact["volume_ml"] for fact in made.facts] == [pytest.approx(0.012)]
    assert made.counts["lesion"]["removed"] == 2
    assert made.counts["lesion"]["removed_volume_ml"] == pytest.approx(0.006)


@pytest.mark.parametrize("highest", [0.6, 0.8])  # in single precision above the same double
def test_scoring_and_prediction_agree_on_a_core_that_a_region_reaches_exactly(highest):
    volume = probabilities((LARGE, 0, highest))
    nothing = Volume(np.zeros(SHAPE, np.uint8), AFFINE)
    flat = Volume(volume.array[..., 0], AFFINE)
    for core, regions in ((highest, 0), (highest - 0.001, 1)):
        made = run(volume, point=OperatingPoint(core_threshold=core))
        (row,) = score_case("c", nothing, flat, {"l": 1}, ScoreSettings(core_threshold=core))
        assert len(made.facts) == row["predicted_regions"] == regions


def test_only_the_largest_of_each_label_is_kept_after_size_and_core():
    volume = probabilities((SMALL, 0, 0.6), (LARGE, 0, 0.8), (SPECK, 1, 0.9), classes=2)
    labels = {"a": 1, "b": 2}
    made = run(volume, labels, OperatingPoint(largest_only=True))
    assert [(f["label"], f["volume_ml"]) for f in made.facts] == [
        ("a", pytest.approx(0.012)),
        ("b", pytest.approx(0.002)),
    ]
    assert made.counts["a"]["removed"] == 1
    assert made.counts["a"]["removed_volume_ml"] == pytest.approx(0.004)
    assert not made.mask[SMALL].any()
    volume.array[2, 2, 2, 0] = 0.95  # now only the small one has a core
    cored = run(volume, labels, OperatingPoint(largest_only=True, core_threshold=0.9))
    assert [f["volume_ml"] for f in cored.facts] == [pytest.approx(0.004)]


def test_the_threshold_is_strict():
    volume = probabilities((SMALL, 0, 0.5))
    assert run(volume).facts == []
    assert len(run(volume, point=OperatingPoint(threshold=0.49)).facts) == 1


def test_labels_are_numbered_one_after_the_other_with_their_own_values():
    volume = probabilities((SMALL, 1, 0.7), (LARGE, 0, 0.6), (SPECK, 1, 0.9), classes=2)
    made = run(volume, {"edema": 300, "core": 7})
    assert made.mask.dtype == np.int32
    assert np.unique(made.mask[LARGE]).tolist() == [300]
    assert np.unique(made.mask[SMALL]).tolist() == [7]
    assert [(f["id"], f["label"]) for f in made.facts] == [(1, "edema"), (2, "core"), (3, "core")]
    assert np.unique(made.components[SMALL]).tolist() == [2]
    assert made.components[SPECK].item() == 3
    assert made.facts[1]["mean_probability"] == pytest.approx(0.7)
    assert made.counts["core"]["components"] == 2


def test_nothing_found_is_an_empty_mask_and_no_facts():
    made = run(probabilities())
    assert not made.mask.any()
    assert not made.components.any()
    assert made.facts == []
    assert made.counts["lesion"] == {
        "components": 0,
        "volume_ml": 0.0,
        "removed": 0,
        "removed_volume_ml": 0.0,
    }


def test_regions_are_named_by_the_largest_share():
    wm = np.zeros(SHAPE)
    wm[16:] = 0.9
    csf = np.zeros(SHAPE)
    csf[:17] = 0.5
    volume = probabilities((SMALL, 0, 0.6), (LARGE, 0, 0.8))
    made = run(volume, regions={"wm": wm, "csf": csf})
    assert [fact["region"] for fact in made.facts] == ["wm", "csf"]
    assert run(volume, regions={"wm": wm}).facts[1]["region"] == "none"


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999),
    size=st.sampled_from([0.0, 4.0, 9.0]),
    core=st.sampled_from([None, 0.95]),
    largest=st.booleans(),
    connectivity=st.sampled_from([6, 26]),
)
def test_facts_counts_and_maps_agree_with_an_independent_labelling(
    seed, size, core, largest, connectivity
):
    rng = np.random.default_rng([4, seed])
    volume = Volume(rng.random((*SHAPE, 1)).astype(np.float32), AFFINE)
    point = OperatingPoint(
        threshold=0.85, min_size_mm3=size, core_threshold=core, largest_only=largest
    )
    made = run(volume, point=point, connectivity=connectivity)
    structure = ndimage.generate_binary_structure(3, 1 if connectivity == 6 else 3)
    found, count = ndimage.label(volume.array[..., 0] > 0.85, structure)
    numbers = range(1, count + 1)
    voxels = ndimage.sum_labels(np.ones(SHAPE), found, numbers)
    highest = ndimage.maximum(volume.array[..., 0], found, numbers)
    kept = [
        v
        for v, high in zip(voxels, highest, strict=True)
        if 2 * v >= size and (core is None or high > np.float32(core))
    ]
    kept = sorted(kept, reverse=True)[: 1 if largest else None]
    assert [fact["volume_ml"] for fact in made.facts] == pytest.approx([0.002 * v for v in kept])
    assert [fact["id"] for fact in made.facts] == list(range(1, len(kept) + 1))
    assert np.bincount(made.components.ravel())[1:].tolist() == [int(v) for v in kept]
    assert made.counts["lesion"]["removed"] == count - len(kept)
    for fact in made.facts:
        inside = made.components == fact["id"]
        values = volume.array[..., 0][inside]
        assert len(np.unique(found[inside])) == 1
        assert fact["mean_probability"] == pytest.approx(values.mean(), rel=1e-5)
        assert fact["max_probability"] == values.max()


@pytest.fixture
def case(tmp_path):
    path = tmp_path / "scans" / "a_0000.nii"
    path.parent.mkdir()
    nib.Nifti1Image(np.ones(SHAPE, np.float32), AFFINE).to_filename(path)
    return Case("a", "a", (ChannelFile(path),))


def written(folder: Path, case, volume, *, with_probabilities=False, regions=None, flags=()):
    made = run(volume, regions=regions)
    entry = write_case(
        folder,
        case,
        volume,
        made,
        with_probabilities=with_probabilities,
        region_names=tuple(regions or {}),
        registration=None,
        flags=flags,
        seconds=1.2345,
    )
    return made, entry


def test_files_lie_on_the_grid_of_the_scan_and_the_entry_names_them(tmp_path, case):
    volume = probabilities((SMALL, 0, 0.6), (LARGE, 0, 0.8))
    made, entry = written(tmp_path / "out", case, volume, with_probabilities=True, flags=("odd",))
    assert entry["files"] == {
        "mask": "a.nii.gz",
        "components": "components/a.nii.gz",
        "probability": "probabilities/a.nii.gz",
        "entropy": None,
        "mutual_information": None,
    }
    for name, expected, dtype in (
        ("mask", made.mask, np.uint8),
        ("components", made.components, np.uint16),
        ("probability", volume.array[..., 0], np.float32),
    ):
        image = nib.load(tmp_path / "out" / entry["files"][name])
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), expected)
        np.testing.assert_allclose(image.affine, AFFINE)
        assert image.get_data_dtype() == dtype
    assert (entry["case"], entry["status"], entry["seconds"]) == ("a", "predicted", 1.23)
    assert (entry["error"], entry["flags"], entry["regions"]) == (None, ["odd"], {})
    (channel,) = entry["channels"]
    assert channel == {
        "path": str(case.channels[0].path),
        "index": None,
        "sha256": file_sha256(case.channels[0].path),
    }


def test_maps_of_disagreement_lie_beside_the_mask_and_regions_tell_of_it(tmp_path, case):
    members = [
        probabilities((SMALL, 0, 0.9), (LARGE, 0, 0.8)),
        probabilities((LARGE, 0, 0.6), (SPECK, 0, 0.7)),
    ]
    spread = Spread(0.5)
    for member in members:
        spread.add(member.array)
    volume = members[0].with_array(np.mean([member.array for member in members], axis=0))
    uncertainty = spread.uncertainty(volume.array)
    made = with_agreement(
        run(volume, point=OperatingPoint(threshold=0.4)), {"lesion": 3}, uncertainty
    )
    large, small = made.facts
    assert (large["member_share"], small["member_share"]) == (1.0, 0.5)
    assert large["probability_std"] == pytest.approx(0.1)
    assert small["probability_std"] == pytest.approx(0.425)
    entry = write_case(
        tmp_path / "out",
        case,
        volume,
        made,
        with_probabilities=False,
        uncertainty=uncertainty,
        region_names=(),
        registration=None,
        flags=(),
        seconds=0.0,
    )
    for name in ("entropy", "mutual_information"):
        assert entry["files"][name] == f"uncertainty/a_{name}.nii.gz"
        image = nib.load(tmp_path / "out" / entry["files"][name])
        np.testing.assert_array_equal(image.get_fdata(), getattr(uncertainty, name))
        np.testing.assert_allclose(image.affine, AFFINE)
    assert entry["components"] == made.facts
    assert run(volume).facts[0]["member_share"] is None


def test_probabilities_of_several_labels_are_kept_and_left_out_unless_asked_for(tmp_path, case):
    volume = probabilities((SMALL, 1, 0.6), classes=2)
    made = run(volume, {"a": 1, "b": 2})
    for wanted in (True, False):
        entry = write_case(
            tmp_path / str(wanted), case, volume, made, with_probabilities=wanted,
            region_names=(), flags=(), seconds=0.0,
            registration=None,
        )  # fmt: skip
        assert (entry["files"]["probability"] is not None) is wanted
        assert (tmp_path / str(wanted) / "probabilities").exists() is wanted
    stored = np.asanyarray(nib.load(tmp_path / "True/probabilities/a.nii.gz").dataobj)
    np.testing.assert_array_equal(stored, volume.array)


def test_the_burden_of_regions_adds_up_and_borders_are_told_per_component(tmp_path, case):
    wm = np.zeros(SHAPE)
    wm[15:] = 1
    edge = (slice(0, 2), slice(0, 1), slice(0, 1))
    volume = probabilities((SMALL, 0, 0.6), (LARGE, 0, 0.8), (edge, 0, 0.9))
    _, entry = written(tmp_path, case, volume, regions={"wm": wm, "csf": 0 * wm}, flags=("odd",))
    assert entry["regions"] == {
        "wm": {"components": 1, "volume_ml": pytest.approx(0.012)},
        "csf": {"components": 0, "volume_ml": 0.0},
        "none": {"components": 2, "volume_ml": pytest.approx(0.008)},
    }
    assert [part["touches_border"] for part in entry["components"]] == [False, True, False]
    assert entry["flags"] == ["odd"]  # the report makes one reason of them


def head(centre, noise=0.0, spacing=2.0, shape=(80, 60, 40)):
    """An ellipsoid of 60 × 40 × 30 mm half axes, in air with the noise of magnitude images."""
    grid = np.indices(shape).T.reshape(-1, 3) * spacing - np.array(centre)
    inside = (((grid / (60, 40, 30)) ** 2).sum(axis=1) < 1).reshape(shape[::-1]).T
    rng = np.random.default_rng(0)
    real, imaginary = rng.normal(0, max(noise, 1e-9), (2, *shape))
    array = np.hypot(100 * inside + real, imaginary).astype(np.float32)
    affine = np.diag([-spacing, spacing, spacing, 1])
    affine[0, 3] = 50
    return Volume(array, affine)


@pytest.mark.parametrize("noise", [0.0, 30.0])
@pytest.mark.parametrize("x_mm", [64.0, 79.0, 95.0])  # of 160; the first is 16 mm off the middle
def test_the_midline_is_that_of_the_head_wherever_it_lies_and_whatever_the_air_is(noise, x_mm):
    volume = head((x_mm, 60, 40), noise)
    assert midline_x_mm(volume) == pytest.approx(50 - x_mm, abs=1.0)
    channels = np.stack([volume.array, np.random.default_rng(1).random(volume.shape)], -1)
    assert midline_x_mm(volume.with_array(channels)) == midline_x_mm(volume)


@pytest.mark.filterwarnings("error")
def test_a_scan_of_three_slices_is_no_picture_in_colours():
    array = np.zeros((40, 40, 3), np.float32)
    array[10:30, 10:30] = 1.0
    assert midline_x_mm(Volume(array, AFFINE)) is not None


def test_the_midline_of_a_brain_that_just_touches_the_borders_is_known():
    volume = head((79, 60, 40))
    inside = volume.array.any(axis=(1, 2))
    first, last = np.flatnonzero(inside)[[0, -1]]
    affine = volume.affine.copy()
    affine[0, 3] += affine[0, 0] * first
    cut = Volume(volume.array[first : last + 1], affine)
    assert midline_x_mm(cut) == pytest.approx(50 - 79, abs=1.0)


def test_without_a_whole_head_no_side_is_told():
    assert midline_x_mm(Volume(np.ones((8, 8, 8), np.float32), AFFINE)) is None
    whole = head((79, 60, 40), 30.0)
    assert midline_x_mm(Volume(whole.array[25:55], whole.affine)) is None  # cut off on both sides
    assert midline_x_mm(head((10, 60, 40))) is None  # most of its right half lies outside
    made = segment(
        probabilities((LARGE, 0, 0.8)),
        {"lesion": 3},
        OperatingPoint(),
        connectivity=26,
        regions={},
        midline_x_mm=None,
    )
    assert [fact["side"] for fact in made.facts] == [None]
