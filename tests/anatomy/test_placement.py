import numpy as np
import pytest

from segpipe.anatomy.placement import (
    Placement,
    field_at,
    invert_field,
    map_on_scan,
    map_on_template,
    placement_words,
    world_points,
)
from segpipe.volume import Volume


def lattice(n=24, step=4.0):
    affine = np.diag([step, step, step, 1])
    affine[:3, 3] = -step * n / 2
    return Volume(np.zeros((n, n, n), np.float32), affine)


def blob(grid, centre, width=12.0):
    points = world_points(grid, np.eye(4)) - np.array(centre).reshape(3, 1, 1, 1)
    return grid.with_array(np.exp(-(points**2).sum(0) / (2 * width**2)).astype(np.float32))


def peak(array, grid):
    voxel = np.unravel_index(array.argmax(), array.shape)
    return grid.affine[:3, :3] @ voxel + grid.affine[:3, 3]


AFFINE = np.array([[0.9, 0.1, 0, 8], [-0.1, 1.0, 0, -4], [0, 0, 1.1, 12], [0, 0, 0, 1.0]])


def test_an_affine_takes_a_place_of_the_template_into_the_scan_and_back():
    grid = lattice()
    placement = Placement("affine", AFFINE)
    there = (AFFINE @ [8, -12, 4, 1])[:3]
    on_scan = map_on_scan(blob(grid, (8, -12, 4)), placement, grid)
    assert np.abs(peak(on_scan, grid) - there).max() <= 2.0
    back = map_on_template(grid.with_array(on_scan), placement, grid)
    assert np.abs(peak(back, grid) - [8, -12, 4]).max() <= 2.0


def bend(grid):
    """A smooth displacement of up to 6 mm."""
    x, y, z = world_points(grid, np.eye(4)) / 48
    parts = 6 * np.cos(2 * y), 4 * np.sin(2 * x), 5 * np.cos(x + z)
    fade = np.exp(-2 * (x**2 + y**2 + z**2))
    return Volume(np.stack([p * fade for p in parts], -1).astype(np.float32), grid.affine)


def test_the_inverse_of_a_bend_undoes_it():
    grid = lattice()
    there = bend(grid)
    undo = invert_field(there)
    points = world_points(grid, np.eye(4))
    inner = np.abs(points).max(axis=0) < 36
    moved = points + field_at(there, points)
    back = moved + field_at(undo, moved)
    assert np.abs(back - points)[:, inner].max() < 0.3
    assert np.abs(moved - points)[:, inner].max() > 4


def test_a_bend_takes_a_place_into_the_scan_and_back():
    grid = lattice()
    there = bend(grid)
    placement = Placement("bspline", AFFINE, bend=there, unbend=invert_field(there))
    place = np.array([4.0, 8, -8])
    moved = place + field_at(there, place.reshape(3, 1, 1, 1)).ravel()
    on_scan = map_on_scan(blob(grid, place), placement, grid)
    assert np.abs(peak(on_scan, grid) - (AFFINE @ [*moved, 1])[:3]).max() <= 2.5
    back = map_on_template(grid.with_array(on_scan), placement, grid)
    assert np.abs(peak(back, grid) - place).max() <= 2.5


def test_no_bend_at_all_is_the_affine():
    grid = lattice()
    still = Volume(np.zeros((*grid.shape, 3), np.float32), grid.affine)
    bent = Placement("bspline", AFFINE, bend=still, unbend=invert_field(still))
    plain, source = Placement("affine", AFFINE), blob(grid, (0, 0, 0))
    for take in (map_on_scan, map_on_template):
        assert np.allclose(take(source, bent, grid), take(source, plain, grid), atol=1e-4)


def test_figures_are_rounded_and_undefined_ones_are_none():
    placement = Placement("affine", np.eye(4), "T1", 0.12345, float("nan"), None, "x")
    assert placement.describe() == {
        "method": "affine",
        "channel": "T1",
        "similarity": 0.123,
        "contrast": None,
        "overlap": None,
        "problem": "x",
    }
    assert placement.words() == "T1 could not be registered to the template: x"


@pytest.mark.parametrize(
    ("contrast", "problem", "doubted"),
    [(2.19, "", True), (2.2, "", False), (1.0, "no brain", False), (None, "", False)],
)
def test_a_registration_that_passed_narrowly_is_doubted(contrast, problem, doubted):
    doubt = Placement("affine", np.eye(4), "FLAIR", 0.08, contrast, 0.6, problem).doubt
    assert bool(doubt) is doubted
    if doubted:
        assert doubt.startswith("the registration of FLAIR to the template is doubtful (contrast")


@pytest.mark.parametrize("problem", ["", "elsewhere"])
def test_words_of_a_scan_as_it_lies(problem):
    facts = Placement("as is", np.eye(4), overlap=0.95, problem=problem).describe()
    assert placement_words(facts) == (problem or "lies in MNI152 space (overlap 0.95)")
