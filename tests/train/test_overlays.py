"""Pictures while training: which slices, which way up, which colours."""

import numpy as np

from segpipe.train.overlays import COLOURS, overlay

SIZE, CAPTION = 320, 16


def picture(painted, reference, spacing=(1.0, 1.0, 1.0)):
    image = np.linspace(0, 1, painted.size).reshape(painted.shape)
    return overlay(image, reference, painted, np.array(spacing))


def places(panel, kind):
    rows, columns = np.nonzero((panel == COLOURS[kind]).all(axis=-1))
    return rows.min() - CAPTION, rows.max() - CAPTION, columns.min(), columns.max()


def test_two_slices_in_radiological_orientation():
    painted = np.zeros((40, 40, 10), np.uint8)
    reference = np.zeros(painted.shape, bool)
    reference[30:36, 2:10, 3] = True  # to the patient's right, at the back
    painted[reference] = 3
    painted[2:6, 30:34, 7] = 2  # left and in front, in another slice
    pixels = picture(painted, reference)
    assert pixels.shape == (SIZE + CAPTION, 2 * SIZE, 3)
    assert pixels.dtype == np.uint8
    left, right = pixels[:, :SIZE], pixels[:, SIZE:]
    assert places(left, 3) == (240, 303, 32, 79)  # below, on the reader's left
    assert places(right, 2) == (48, 79, 272, 303)  # above, on the reader's right
    assert not (left == COLOURS[2]).all(axis=-1).any()
    outline = (left == COLOURS[3]).all(axis=-1)
    assert not outline[CAPTION + 270, 55]  # an outline, no filling


def test_thick_slices_are_shown_whole_and_empty_cases_too():
    painted = np.zeros((30, 6, 20), np.uint8)
    painted[10:12, 4, 5:8] = 1
    thick = picture(painted, painted > 0, (1.0, 5.0, 1.0))
    # x and z in the plane: 30 by 20 mm, so 320 by 213 pixels
    assert places(thick[:, :SIZE], 1)[1] < 213
    nothing = picture(np.zeros((8, 8, 8), np.uint8), np.zeros((8, 8, 8), bool))
    assert np.array_equal(nothing[CAPTION:, :SIZE], nothing[CAPTION:, SIZE:])
    flat = overlay(np.zeros((8, 8, 8)), np.zeros((8, 8, 8), bool), np.zeros((8, 8, 8)), np.ones(3))
    assert flat[CAPTION:].max() == 0
