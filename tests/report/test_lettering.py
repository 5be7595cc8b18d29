"""Numbers of lesions on pictures: beside their outline, off each other, the marks and lesions."""

import itertools

import numpy as np
import pytest

from segpipe.report.lettering import Lettering, place_numbers

SIZE = 4.0  # a digit is 2.8 mm wide and 3 mm high; the gap is 0.8 mm


def place(components, kinds=None, marks=(), spacing_mm=(1.0, 1.0)):
    kinds = kinds or dict.fromkeys(range(1, components.max() + 1), "other")
    numbers = place_numbers(components, kinds, spacing_mm, size_mm=SIZE, marks=marks)
    return {number.text: number.box for number in numbers}


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width > 1e-9 and height > 1e-9


@pytest.fixture
def one():
    components = np.zeros((40, 40), int)
    components[20:24, 18:22] = 1
    return components


def test_a_box_is_that_of_its_letters():
    assert Lettering("12", 10, 20, SIZE).box == pytest.approx((7.2, 17, 12.8, 20))


def test_the_corners_are_taken_in_turn_as_marks_fill_them(one):
    corners = [(22.8, 17), (14.4, 17), (22.8, 24), (14.4, 24)]  # left and top of the digit
    marks = []
    for left, top in corners:
        assert place(one, marks=marks)["1"] == pytest.approx((left, top, left + 2.8, top + 3))
        marks.append(Lettering("X", left + 1.4, top + 3, SIZE))
    assert place(one, marks=marks)["1"][:2] == pytest.approx(corners[0])  # nowhere is free


def test_texts_side_by_side_keep_apart(one):
    close = Lettering("A", 22.8 + 2.8 + 1.0 + 1.4, 20, SIZE)  # 1 mm right of the first corner
    assert place(one, marks=[close])["1"][:2] == pytest.approx((14.4, 17))
    far = Lettering("A", close.x_mm + 1.0, 20, SIZE)
    assert place(one, marks=[far])["1"][:2] == pytest.approx((22.8, 17))


def test_pixels_need_not_be_square(one):
    assert place(one, spacing_mm=(3.0, 0.5))["1"][:2] == pytest.approx((11.8, 57))


def test_a_number_stands_off_other_lesions(one):
    one[14:20, 22:30] = 2
    assert place(one, {1: "other"})["1"][:2] == pytest.approx((14.4, 17))


def test_numbers_stay_inside_the_picture(one):
    components = np.zeros((12, 12), int)
    components[0, 11] = 1
    components[11, 0] = 2
    for left, top, right, bottom in place(components).values():
        assert min(left, top) >= 0
        assert max(right, bottom) <= 12
    wide = np.ones((2, 2), int) * 1234
    assert place(wide, {1234: "other"})["1234"][0] == 0  # more than there is room for


def test_neighbours_do_not_touch_and_the_chosen_one_has_the_first_choice():
    components = np.zeros((40, 60), int)
    for number, column in enumerate((10, 16, 22), start=1):
        components[20:24, column : column + 3] = number
    kinds = {1: "other", 2: "chosen", 3: "other"}
    numbers = place_numbers(components, kinds, (1.0, 1.0), size_mm=SIZE, marks=())
    assert [number.text for number in numbers] == ["3", "1", "2"]
    assert numbers[-1].box[:2] == pytest.approx((19.8, 17))  # right of its top
    assert not any(overlap(a.box, b.box) for a, b in itertools.combinations(numbers, 2))
    assert {number.text: number.kind for number in numbers} == {
        "1": "other",
        "2": "chosen",
        "3": "other",
    }


def test_what_is_not_on_the_slice_has_no_number(one):
    assert set(place(one, {1: "other", 5: "chosen"})) == {"1"}
