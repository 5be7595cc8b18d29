"""Pictures of regions: where borders are drawn, which slices are shown."""

import io

import numpy as np
import pytest
from PIL import Image

from segpipe.report.regions import COLOURS, SLICES, border_level, region_picture, shown_slices
from segpipe.volume import Volume


@pytest.fixture
def scan():
    array = np.zeros((40, 50, 30), np.float32)
    array[5:35, 5:45, 4:26] = np.random.default_rng(0).uniform(80, 120, (30, 40, 22))
    return Volume(array, np.diag([2.0, 2, 3, 1]))


def read(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def coloured(picture, colour):
    """How many pixels have a colour, nearly."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(picture - wanted).max(axis=-1) < 40).sum())


def test_every_region_has_its_border_and_its_line_in_the_legend(scan):
    inner = np.zeros(scan.shape, np.float32)
    inner[12:28, 15:35, 8:22] = 1
    outer = np.zeros(scan.shape, np.float32)
    outer[6:34, 6:44, 5:25] = 1
    maps = {"inner": scan.with_array(inner), "outer": scan.with_array(outer)}
    picture = read(region_picture(scan, maps, "case", ["a note"]))
    bare = read(region_picture(scan, {}, "case", []))
    for number in (0, 1):
        assert coloured(bare, COLOURS[number]) == 0
        assert coloured(picture, COLOURS[number]) > 500
    assert coloured(picture, COLOURS[1]) > coloured(picture, COLOURS[0])  # longer border


def test_the_same_picture_every_time(scan):
    half = np.zeros(scan.shape, np.float32)
    half[:20] = 1
    maps = {"half": scan.with_array(half)}
    assert region_picture(scan, maps, "c", []) == region_picture(scan, maps, "c", [])


def test_long_notes_are_wrapped_and_make_the_page_longer(scan):
    short = read(region_picture(scan, {}, "c", ["note"]))
    long = read(region_picture(scan, {}, "c", ["note " * 100]))
    assert long.shape[1] == short.shape[1]
    assert long.shape[0] > short.shape[0]


def test_slices_are_spread_over_the_content(scan):
    shown = shown_slices(scan.array, 2)
    assert len(shown) == SLICES
    assert shown == sorted(shown)
    assert min(shown) >= 4
    assert max(shown) <= 25
    assert len(shown_slices(np.zeros((5, 5, 3)), 2)) == SLICES


def test_the_border_is_at_one_half_or_the_middle_of_a_map_that_never_crosses_it():
    assert border_level(np.array([0.0, 1.0])) == 0.5
    assert border_level(np.array([0.0, 0.1])) == pytest.approx(0.05)
    assert border_level(np.array([0.6, 1.0])) == pytest.approx(0.8)


def test_an_empty_scan_has_a_picture():
    empty = Volume(np.zeros((6, 7, 8), np.float32), np.eye(4))
    assert read(region_picture(empty, {"r": empty}, "c", [])).ndim == 3
