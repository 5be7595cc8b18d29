import base64
import io

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from segpipe.report.gallery import choose, make_gallery, paint_case
from segpipe.report.lesion import Lesion
from segpipe.report.slices import (
    best_index,
    close_up_box,
    grey_window,
    in_plane_diameters,
    outline_path,
    tilt_degrees,
    to_ras,
    to_screen,
    viewing_axis,
)
from segpipe.volume import Volume


def pixels(picture):
    code = picture.image.removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))


def left_anterior_superior(codes, spacing=(1.0, 1.0, 1.0), degrees=0.0):
    """A scan stored as ``codes`` with one bright voxel to the patient's left, front and top."""
    shape = (20, 24, 16)
    array = np.full(shape, 10.0, np.float32)
    array[4, 19, 12] = 250.0  # RAS: x small is left, y large is anterior, z large is superior
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ np.diag([*spacing, 1.0])
    ornt = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    stored = nib.orientations.apply_orientation(array, ornt)
    return Volume(stored, affine @ nib.orientations.inv_ornt_aff(ornt, shape))


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPS", "PSR", "SAL", "AIR"])
@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_the_patients_left_is_on_the_right_however_the_scan_is_stored(codes, degrees):
    volume = left_anterior_superior(codes, degrees=degrees)
    ras = to_ras(volume)
    assert ras.axcodes == "RAS"
    np.testing.assert_allclose(
        ras.affine @ [4, 19, 12, 1], volume.affine @ [*np.argwhere(volume.array == 250)[0], 1]
    )
    screen = to_screen(ras.array, 2, 12)
    assert screen.shape == (24, 20)
    assert np.argwhere(screen == 250).tolist() == [[24 - 1 - 19, 20 - 1 - 4]]  # top right


def test_coronal_shows_superior_on_top_and_sagittal_anterior_on_the_left():
    ras = to_ras(left_anterior_superior("LPS"))
    coronal, sagittal = to_screen(ras.array, 1, 19), to_screen(ras.array, 0, 4)
    assert np.argwhere(coronal == 250).tolist() == [[16 - 1 - 12, 20 - 1 - 4]]
    assert np.argwhere(sagittal == 250).tolist() == [[16 - 1 - 12, 24 - 1 - 19]]


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((1, 1, 1), 2), ((0.9, 0.9, 6.5), 2), ((5, 1, 1), 0), ((1, 4, 1), 1), ((1, 1.9, 1), 2)],
)
def test_thick_slices_are_shown_in_their_own_plane(spacing, axis):
    assert viewing_axis(Volume(np.zeros((2, 2, 2)), np.diag([*spacing, 1.0]))) == axis


def test_tilt_is_the_largest_angle_to_the_patients_axes():
    assert tilt_degrees(to_ras(left_anterior_superior("LPS", degrees=20))) == pytest.approx(20)
    assert tilt_degrees(to_ras(left_anterior_superior("LPS"))) == pytest.approx(0, abs=1e-6)


def test_outline_follows_voxel_edges_with_the_pixels_own_aspect():
    mask = np.array([[1, 1, 0], [0, 1, 0]], bool)
    path = outline_path(mask, (2.0, 0.5))
    horizontal, vertical = path.count("H"), path.count("V")
    assert path.startswith("M0 0H1")
    assert (horizontal, vertical) == (3, 3)
    assert "M0.5 2V4" in path
    assert outline_path(np.zeros((3, 3), bool), (1, 1)) == ""


def test_close_up_is_centred_and_stays_inside():
    mask = np.zeros((40, 40), bool)
    mask[20, 10] = mask[20, 12] = True
    assert close_up_box(mask, (1.0, 1.0), 9) == (slice(16, 25), slice(7, 16))
    corner = np.zeros((40, 40), bool)
    corner[0, 39] = True
    assert close_up_box(corner, (1.0, 2.0), 10) == (slice(0, 10), slice(35, 40))
    assert close_up_box(corner, (1.0, 1.0), 500) == (slice(0, 40), slice(0, 40))


def test_window_spares_bright_lesions_and_ignores_the_background():
    array = np.zeros((20, 20, 20))
    array[5:15, 5:15, 5:15] = 100
    components = np.zeros(array.shape, int)
    array[10, 10, 10], components[10, 10, 10] = 400, 1
    assert grey_window(array, components) == (100, 400)
    assert grey_window(np.zeros((5, 5, 5)), np.zeros((5, 5, 5), int)) == (0, 1)


def test_best_slice_cuts_most_of_the_component(scan):
    _, components = scan
    assert [best_index(components.array, 1, axis) for axis in range(3)] == [16, 30, 22]


def test_choice_takes_the_largest_then_the_least_certain_of_the_rest():
    def make(number, ml, probability):
        return Lesion(number, "lesion", None, None, ml, None, probability)

    lesions = [make(1, 5, 0.5), make(2, 4, 0.9), make(3, 1, 0.7), make(4, 2, None), make(5, 1, 0.6)]
    chosen = [(lesion.id, why) for lesion, why in choose(lesions, 2, 2)]
    assert chosen == [
        (1, "largest"),
        (2, "largest"),
        (5, "least certain"),
        (3, "least certain"),
    ]


def test_what_lies_outside_the_named_anatomy_is_always_among_the_choice(scan):
    def make(number, ml, implausible):
        return Lesion(number, "lesion", None, None, ml, None, 0.9, implausible=implausible)

    lesions = [make(1, 5, True), make(2, 4, False), make(3, 3, True), make(4, 2, True)]
    chosen = [(lesion.id, why) for lesion, why in choose(lesions, 1, 0, implausible=2)]
    assert chosen == [(1, "largest, outside the named anatomy"), (3, "outside the named anatomy")]
    image, _ = scan
    components = np.zeros(image.shape, np.uint8)
    many = [make(number, 1.0, True) for number in range(1, 8)]
    for one in many:
        components[20, 10 + 4 * one.id, 20] = one.id
    gallery = make_gallery({"FLAIR": image}, image.with_array(components), many)
    assert [key.lesion.id for key in gallery.lesions] == [1, 2, 3, 4, 5, 6]  # 5, 6: least certain
    assert gallery.implausible_left == 1


def test_in_plane_diameters_lie_in_the_plane_of_the_pictures():
    ids = np.zeros((6, 7, 8), np.uint8)
    ids[1:3, 1, 1:7] = 5  # 2 along x, 6 along z
    ids[4, 2:6, 3] = 7
    # axial, half a voxel out along each axis: from (-0.5, -1) to (0.5, 1) mm
    found = in_plane_diameters(Volume(ids, np.diag([1.0, 2.0, 1.0, 1.0])))
    assert found == {5: pytest.approx(5**0.5), 7: 8.0}
    thick = in_plane_diameters(Volume(ids, np.diag([5.0, 1.0, 1.0, 1.0])))
    assert thick == {5: 6.0, 7: 4.0}  # sagittal


def test_gallery_draws_the_right_place_at_the_right_scale(scan):
    image, components = scan
    stretched = np.diag([1.0, 1.0, 3.0, 1.0])
    image, components = (Volume(v.array, stretched) for v in (image, components))
    lesions = [Lesion(1, "lesion", "cortical", "left", 0.8, 9.0, 0.9)]
    gallery = make_gallery({"FLAIR": image, "T1": image}, components, lesions)
    (key,) = gallery.lesions
    whole, near, other = key.pictures
    assert (gallery.plane, gallery.thick_slices) == ("axial", True)
    assert (whole.left, whole.right, whole.top, whole.bottom) == ("R", "L", "A", "P")
    assert whole.caption == "FLAIR, axial slice 23"
    assert other.caption == "T1, close-up"
    assert "lesion 1 (cortical, left)" in whole.alt
    assert [outline.kind for outline in whole.outlines] == ["chosen"]
    assert pixels(near).shape == (near.height_mm, near.width_mm)
    grey = pixels(whole)
    columns = np.nonzero(grey == grey.max())[1]
    assert columns.mean() > grey.shape[1] / 2  # x = 16 of 48 is the patient's left


def test_sagittal_pictures_carry_their_own_marks(scan):
    image, components = scan
    thick = np.diag([4.0, 1.0, 1.0, 1.0])
    lesions = [Lesion(2, "lesion", None, None, 0.8, 9.0, 0.9)]
    gallery = make_gallery(
        {"T1": Volume(image.array, thick)}, Volume(components.array, thick), lesions
    )
    whole = gallery.lesions[0].pictures[0]
    assert gallery.plane == "sagittal"
    assert (whole.left, whole.right, whole.top, whole.bottom) == ("A", "P", "S", "I")


def captions(case):
    return [picture.caption for picture in case.pictures]


def test_painted_case_shows_the_slice_with_most_false_positive_regions(scan):
    image, _ = scan
    painted = np.zeros(image.shape, np.uint8)
    painted[20:26, 20:26, 10] = 1
    painted[20:23, 20:23, 18] = 2
    painted[30:32, 30:32, 18] = 3
    painted[5:15, 5:15, 30] = 3
    case = paint_case(image, image.with_array(painted), "FLAIR")
    assert captions(case) == ["FLAIR, axial slice 19"]
    outlines = case.pictures[0].outlines
    assert [(o.component, o.kind) for o in outlines] == [(2, "false"), (3, "missed")]
    painted[..., 18] = 0
    assert captions(paint_case(image, image.with_array(painted), "FLAIR")) == [
        "FLAIR, axial slice 31"
    ]
    painted[..., 30] = 0
    assert captions(paint_case(image, image.with_array(painted), "FLAIR")) == [
        "FLAIR, axial slice 11"
    ]
    nothing = image.with_array(np.zeros(image.shape, np.uint8))
    assert captions(paint_case(image, nothing, "FLAIR")) == ["FLAIR, axial slice 21"]


def test_few_slices_show_every_false_positive_region_or_the_case_is_not_complete(scan):
    image, _ = scan
    painted = np.zeros(image.shape, np.uint8)
    painted[20:30, 20:30, 10] = 2  # large, but alone on its slice
    painted[5:7, 5:7, 17:19] = 2
    painted[10:12, 10:12, 18:20] = 2
    painted[25:27, 5:7, 19:31] = 2
    marked = image.with_array(painted)
    for most, shown, complete in (
        (1, [19], False),
        (2, [11, 19], False),
        (3, [11, 19, 20], True),
        (9, [11, 19, 20], True),
    ):
        case = paint_case(image, marked, "FLAIR", most)
        assert captions(case) == [f"FLAIR, axial slice {n}" for n in shown]
        assert case.complete is complete


def test_numbers_stand_at_the_top_right_of_their_outline(scan):
    image, _ = scan
    components = np.zeros(image.shape, np.uint8)
    components[20:24, 30, 20] = 7  # one row of 4 voxels
    components[18:20, 29, 20] = 7  # the row below it on the screen, further to the right
    lesions = [Lesion(7, "lesion", None, None, 0.1, 5.0, 0.9)]
    gallery = make_gallery({"FLAIR": image}, image.with_array(components), lesions)
    (number,) = gallery.lesions[0].pictures[1].numbers
    assert (number.text, number.kind) == ("7", "chosen")
    # 48 of 48 columns: x = 20 is column 27, its right edge 28 mm in. 48 of 56 rows, the first two
    # and the last six cut off: y = 30 is row 25, its upper edge 23 mm down.
    left, _, _, bottom = number.box
    assert (left, bottom) == (pytest.approx(28 + 0.2 * number.size_mm), 23)
