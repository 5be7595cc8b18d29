"""Registration of made-up heads that lie where it is known, and of what is no head."""

import numpy as np
import pytest
from scipy import ndimage

from segpipe.anatomy import mni152_map
from segpipe.anatomy.itk import Fitter, NoOverlapError
from segpipe.anatomy.pattern import brain_pattern, head_pattern
from segpipe.anatomy.placement import map_on_scan
from segpipe.anatomy.registration import (
    LEAST_CONTRAST,
    LEAST_SIMILARITY,
    _problem,
    register,
)
from segpipe.anatomy.template import sample_at, template_lattice
from segpipe.volume import Volume

T1 = mni152_map("t1")


def turned(degrees, scale, shift):
    """Turned about the ears, scaled, moved: template to scan."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) * scale
    affine[:3, 3] = shift
    return affine


COARSE = T1.affine @ np.diag([4.0, 4, 4, 1])  # every fourth voxel
PLACE = turned(-12, 0.92, (4, 25, -18))


def make_head(place, skull, spacing=(2.0, 2.0, 5.0)):
    """The template in a skull, or alone, in thick slices: other contrast, noise, shading."""
    grid = template_lattice(2.0, 26.0)
    brain = sample_at(mni152_map("brain"), grid) > 0.5
    t1 = sample_at(T1, grid)
    array = np.where(brain, 800 * np.sqrt(t1), 0)
    if skull:
        away = ndimage.distance_transform_edt(~brain, sampling=2.0)
        array[(away > 0) & (away <= 4)] = 260  # fluid
        array[(away > 11) & (away <= 20)] = 1500  # scalp
        array[:, :, :8][(away > 4)[:, :, :8]] = 500  # neck
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-110, -120, -125]
    scan = Volume(np.zeros((110, 130, 42), np.float32), affine)
    seen = sample_at(Volume(array.astype(np.float32), place @ grid.affine), scan)
    rng = np.random.default_rng(0)
    shading = 1 + 0.15 * np.linspace(-1, 1, scan.shape[1])[None, :, None]
    noise = 15 * rng.standard_normal(scan.shape)
    return scan.with_array(np.where(seen > 0, seen * shading + noise, 0).astype(np.float32))


def error_mm(affine):
    """Mean distance between where brain voxels are and where they were put."""
    brain = np.argwhere(mni152_map("brain").array > 0.5)[::997]
    world = np.c_[brain @ T1.affine[:3, :3].T + T1.affine[:3, 3], np.ones(len(brain))]
    return np.linalg.norm((world @ (affine - PLACE).T)[:, :3], axis=1).mean()


@pytest.fixture(scope="module")
def head():
    return make_head(PLACE, skull=True)


@pytest.fixture(scope="module")
def placed(head):
    return register(head, T1, "affine", "T1")


def test_a_head_with_its_skull_is_found(head, placed):
    assert placed.problem == ""
    assert placed.channel == "T1"
    assert error_mm(placed.affine) < 2.5
    assert placed.similarity > 2 * LEAST_SIMILARITY
    assert placed.contrast > 1.2 * LEAST_CONTRAST
    assert placed.overlap > 0.9
    brain = map_on_scan(mni152_map("brain"), placed, head) > 0.5
    truth = sample_at(Volume(mni152_map("brain").array, PLACE @ T1.affine), head) > 0.5
    assert 2 * (brain & truth).sum() / (brain.sum() + truth.sum()) > 0.95


def test_the_same_bits_every_time(head, placed):
    again = register(head, T1, "affine", "T1")
    assert again.affine.tobytes() == placed.affine.tobytes()
    assert again.describe() == placed.describe()


def test_a_head_upside_down_in_its_header_is_reported(head):
    flipped = np.diag([1.0, 1, -1, 1]) @ head.affine
    found = register(Volume(head.array, flipped), T1, "affine", "T1")
    assert found.problem
    assert "could not be registered" in found.words()


def scan_of(array):
    return Volume(array.astype(np.float32), np.diag([2.0, 2, 2, 1]))


@pytest.mark.parametrize("value", [0.0, -3.0, 7.0])
def test_an_empty_or_constant_scan_is_reported(value):
    found = register(scan_of(np.full((20, 20, 20), value)), T1, "affine", "FLAIR")
    assert found.problem == "the scan is empty or constant"
    assert found.similarity is None
    assert found.words().startswith("FLAIR could not be registered")


def test_a_piece_of_a_brain_is_reported(head):
    piece = Volume(head.array[40:60, 50:70, 20:28], head.affine)
    assert register(piece, T1, "affine", "T1").problem


def test_a_sheared_grid_is_reported(head):
    affine = head.affine.copy()
    affine[0, 1] = 0.5
    assert "not square" in register(Volume(head.array, affine), T1, "affine", "T1").problem


@pytest.mark.parametrize(
    ("scale", "seen", "similarity", "contrast", "words"),
    [
        (1.0, 0.9, 0.2, 3.0, ""),
        (1.0, 0.3, 0.2, 3.0, "only 30% of the template's brain lies inside the scan"),
        (0.5, 0.9, 0.2, 3.0, "stretched 0.50 to 0.50 times"),
        (1.0, 0.9, 0.01, 3.0, "similarity 0.010"),
        (1.0, 0.9, float("nan"), float("nan"), "similarity nan"),
        (1.0, 0.9, 0.2, 1.5, "contrast 1.50"),
    ],
)
def test_each_reason_is_told(scale, seen, similarity, contrast, words):
    affine = np.diag([scale, scale, scale, 1.0])
    problem = _problem(affine, seen, similarity, contrast)
    assert words in problem
    assert bool(problem) == bool(words)


def test_fits_do_not_depend_on_threads():
    scan = Volume(T1.array[::4, ::4, ::4], turned(3, 0.95, (5, -6, 4)) @ COARSE)
    fits = [Fitter(brain_pattern(T1, 8.0, 12.0), scan).fit(np.eye(4), "affine", 20) for _ in "1234"]
    assert len({fit.tobytes() for fit in fits}) == 1


def test_a_fit_climbs_and_stays_rigid():
    pattern = brain_pattern(T1, 8.0, 12.0)
    scan = Volume(T1.array[::4, ::4, ::4], turned(0, 1, (5, -6, 4)) @ np.diag([1, 1, 1, 1.0]))
    scan = Volume(scan.array, turned(0, 1, (5, -6, 4)) @ COARSE)
    fitter = Fitter(pattern, scan)
    found = fitter.fit(np.eye(4), "rigid", 60)
    assert fitter.value_at(found) > fitter.value_at(np.eye(4))
    assert np.allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-6)
    assert np.abs(found[:3, 3] - [5, -6, 4]).max() < 2
    away = np.eye(4)
    away[0, 3] = 1e4
    assert fitter.value_at(away) == -np.inf
    with pytest.raises(NoOverlapError):
        fitter.fit(away, "rigid", 5)


def test_a_bend_makes_a_bent_brain_fit_better():
    pattern = brain_pattern(T1, 8.0, 12.0)
    x, y, z = np.indices(pattern.image.shape)
    waved = ndimage.map_coordinates(
        pattern.image.array, [x + 0.8 * np.sin(y / 5), y, z + 0.6 * np.cos(x / 5)], order=1
    )
    fitter = Fitter(pattern, pattern.image.with_array(waved.astype(np.float32)))
    bend = fitter.bend(np.eye(4), 8)
    assert bend.array.shape == (*pattern.image.shape, 3)
    assert np.allclose(bend.affine, pattern.image.affine)
    inside = bend.array[pattern.mask]
    assert 1 < np.abs(inside).max() < 20


def test_the_made_up_head_has_its_shells_and_no_face():
    pattern = head_pattern(T1, 4.0)

    def at(point):
        voxel = np.rint(np.linalg.inv(pattern.image.affine) @ [*point, 1]).astype(int)[:3]
        return pattern.image.array[tuple(voxel)], pattern.mask[tuple(voxel)]

    assert at((26, -30, 28))[0] > 0.6  # white matter
    scalp = [at((x, -20, 30))[0] for x in range(66, 90)]
    assert max(scalp) > 0.6
    assert min(scalp[: int(np.argmax(scalp))]) < 0.35  # the skull before it
    assert not at((0, 75, -40))[1]  # the face
    assert at((0, -20, 95))[1]  # above the brain


@pytest.fixture
def at_its_place(monkeypatch):
    """No search: the coarse fit is the truth."""
    monkeypatch.setattr("segpipe.anatomy.registration._best", lambda *_: PLACE)


@pytest.mark.usefixtures("at_its_place")
def test_a_bent_head_is_bent_back_where_that_fits_better():
    head = make_head(PLACE, skull=False, spacing=(3.0, 3.0, 3.0))
    x, y, z = np.indices(head.shape)
    waved = ndimage.map_coordinates(
        head.array, [x + 2.0 * np.sin(y / 9), y + 2.0 * np.cos(x / 8), z], order=1
    )
    scan = head.with_array(waved.astype(np.float32))
    straight = register(scan, T1, "affine", "T1")
    bent = register(scan, T1, "bspline", "T1")
    assert bent.method == "bspline"
    assert bent.similarity > 1.1 * straight.similarity
    assert straight.bend is None
    assert np.array_equal(bent.affine, straight.affine)


@pytest.mark.usefixtures("at_its_place")
def test_a_bend_that_folds_is_left_out(head, monkeypatch):
    monkeypatch.setattr("segpipe.anatomy.registration.LEAST_STRETCH", 2.0)
    found = register(head, T1, "bspline", "T1")
    assert found.method == "affine"
    assert found.bend is None
