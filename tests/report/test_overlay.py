"""Overlays of prepared cases: contours lie where the masks are."""

import base64
import io

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

from segpipe.config import RegionConfig
from segpipe.report.overlay import overlay_pictures, overlay_svg, region_looks
from segpipe.report.page import security_policy
from segpipe.report.review import RegionFacts, ReviewedCase, region_facts, review_page
from segpipe.volume import Volume

SHAPE = (8, 6, 5)


def looks(*weights, **last):
    regions = [
        RegionConfig(name=f"r{index}", source="mask", file="m", weight=weight)
        for index, weight in enumerate(weights)
    ]
    if last:
        regions.append(RegionConfig(**{"name": "rest", "source": "complement", **last}))
    return list(region_looks(regions).values())


def block(value=255, where=(slice(1, 3), slice(2, 4), slice(0, 5))):
    values = np.zeros(SHAPE, np.uint8)
    values[where] = value
    return values


def draw(regions, marks=None, drawn=None, image=None, tint=None):
    image = np.ones(SHAPE, np.float32) if image is None else image
    maps = np.stack(regions, -1) if regions else np.zeros((*SHAPE, 0), np.uint8)
    drawn = looks(*[1.0] * len(regions)) if drawn is None else drawn
    return overlay_pictures(Volume(image, np.eye(4)), marks, maps, drawn, "FLAIR", tint)


def paths(picture, kind):
    return [outline.path for outline in picture.outlines if outline.kind == kind]


def test_contours_run_along_the_edges_of_the_masks_voxels_in_radiological_orientation():
    marks = np.zeros(SHAPE, np.uint8)
    marks[6, 5, 2] = 1
    axial, *_, coronal, sagittal = draw([block()], marks)
    # x = 1, 2 of 8 are columns 6, 5 and y = 2, 3 of 6 rows 3, 2: the patient's left is right.
    assert paths(axial, "region-1") == ["M5 2H7M5 4H7M5 2V4M7 2V4"]
    assert paths(axial, "reference") == ["M1 0H2M1 1H2M1 0V1M2 0V1"]
    # The coronal slice y = 3 cuts the block from top to bottom: open where the picture ends.
    assert paths(coronal, "region-1") == ["M5 0V5M7 0V5"]
    assert sagittal.outlines == ()  # x = 4 is outside the block
    assert [one.left for one in (axial, coronal, sagittal)] == ["R", "R", "A"]


def test_slices_are_that_with_most_of_the_reference_and_the_middle_along_each_axis():
    marks = np.zeros(SHAPE, np.uint8)
    marks[0, :3, 4] = 1
    marks[1, 1, 3] = 2
    marks[:, :, 1] = 255  # ignored
    captions = [picture.caption for picture in draw([], marks)]
    middle = ["FLAIR, axial slice 3", "FLAIR, coronal slice 4", "FLAIR, sagittal slice 5"]
    assert captions == ["FLAIR, axial slice 5", *middle]
    assert [picture.caption for picture in draw([])] == middle


def test_soft_maps_are_outlined_at_half_of_their_maximum_where_they_stay_below_a_half():
    soft = block(40)
    soft[1, 2] = 19
    assert paths(draw([soft])[0], "region-1") == ["M5 2H7M6 3H7M5 4H6M5 2V4M6 3V4M7 2V3"]
    firm = block(128)
    firm[1] = 127  # of 255: just below a half
    assert paths(draw([firm])[0], "region-1") == ["M5 2H6M5 4H6M5 2V4M6 2V4"]
    assert draw([block(0)])[0].outlines == ()


def test_both_lines_of_a_border_that_a_complement_shares_are_seen():
    both = draw([block(), 255 - block()], drawn=looks(0.5, name="rest", weight=2.0))[0]
    assert [outline.kind for outline in both.outlines] == ["region-1", "region-2"]
    solid, dashed = (outline.path for outline in both.outlines)
    assert solid == "M5 2H7M5 4H7M5 2V4M7 2V4"
    assert dashed == "M5 2H6M5 4H6M5 2V4"  # columns 6 and 7 are in the next field of 6


def test_a_misplaced_region_is_shown_although_it_is_outside_the_head():
    head = np.zeros((40, 40, 40), np.float32)
    head[18:22, 18:22] = 1
    far = np.zeros(head.shape, np.uint8)
    far[0, 0] = 255
    (axial, *_) = draw([far], image=head)
    (path,) = paths(axial, "region-1")
    bottom, right = axial.height_mm, axial.width_mm
    top, left = bottom - 1, right - 1
    assert path == f"M{left:g} {top:g}H{right:g}M{left:g} {top:g}V{bottom:g}"


def test_the_tint_is_as_deep_as_it_is_told():
    depth = np.full(SHAPE, 0.05, np.float32)
    depth[1, 2, 2], depth[7, 5, 2] = 0.8, 2.0
    (axial, *_) = draw([block()], tint=depth)
    code = axial.tint.removeprefix("data:image/png;base64,")
    alpha = np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))[..., 3]
    assert alpha.shape == (6, 8)
    assert (alpha[3, 6], alpha[0, 0], alpha[5, 5]) == (64, 80, 4)
    assert draw([block()])[0].tint == ""


def test_colours_differ_until_they_are_used_twice():
    drawn = looks(*[1.0] * 7)
    assert [look.kind for look in drawn[:6]] == [f"region-{i}" for i in range(1, 7)]
    assert (drawn[6].kind, drawn[6].dashed, drawn[5].dashed) == ("region-1", True, False)


def test_figures_of_a_region_count_soft_maps_and_leave_out_what_is_ignored():
    marks = np.zeros(SHAPE, np.uint8)
    marks[1, 2, 0], marks[7, 5, 4], marks[0, 0, 0] = 1, 2, 255
    soft = block(51)
    assert region_facts(np.stack([block(), soft], -1), ["a", "b"], marks, 2.0) == (
        RegionFacts("a", pytest.approx(0.04), pytest.approx(0.5), 0.5),
        RegionFacts("b", pytest.approx(0.008), pytest.approx(0.1), pytest.approx(0.1)),
    )
    (empty,) = region_facts(block(0)[..., None], ["a"], np.zeros(SHAPE, np.uint8), 1.0)
    assert (empty.volume_ml, empty.inside, empty.level) == (0, None, None)


def test_the_picture_and_the_page_escape_what_they_print():
    evil = "<script>alert(1)</script>"
    drawn = looks(1.0, 2.0)
    svg = overlay_svg(evil, draw([block(), block()], drawn=drawn), drawn)
    assert "<script" not in svg
    assert "&lt;script&gt;" in svg
    assert svg.count("#f08fc8") >= 2  # a line in the picture, a mark in the legend
    assert "r1 (2)" in svg
    cases = [
        ReviewedCase("a", svg, [RegionFacts("r0", 1.0, None, None)], [evil]),
        ReviewedCase(evil, error=f"{evil}: cannot be read"),
    ]
    page = review_page(evil, f"At {evil}.", {look.name: look for look in drawn}, cases)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 6
    assert svg in page
    assert escape(security_policy()) in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert "r0: 1.00\N{NO-BREAK SPACE}ml, <strong>empty</strong>" in page
    assert '<p class="status not-computed">&lt;script' in page
