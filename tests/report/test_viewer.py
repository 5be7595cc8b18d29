import base64
import gzip
import json
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from segpipe.report.page import render, security_policy
from segpipe.report.patient import patient_report
from segpipe.report.viewer import make_viewer, scripts
from segpipe.volume import Volume

from .conftest import lesion

OBLIQUE = np.array([[0, -1.2, 0.1, 30], [-1.0, 0, 0, 20], [0, 0.1, 3.0, -9], [0, 0, 0, 1]])


def opened(code):
    """The volume behind base64, as any NIfTI reader sees it."""
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(code)))


@pytest.fixture
def case():
    """An oblique scan, stored in another order, with two components off the middle."""
    rng = np.random.default_rng(0)
    array = rng.uniform(90, 110, (40, 44, 16)).astype(np.float32)
    array[:8] = array[:, -9:] = 0
    ids = np.zeros(array.shape, np.uint16)
    ids[20:24, 20:23, 5:7], ids[12, 30, 9] = 1, 2
    array[ids > 0] = 300
    return Volume(array, OBLIQUE), Volume(ids, OBLIQUE)


def test_every_place_lies_in_its_component_in_the_page_and_in_the_scan(case):
    scan, components = case
    viewer = make_viewer({"FLAIR": scan, "T1": scan}, components, [lesion(1), lesion(2)])
    marks = opened(viewer.components)
    for number, place in viewer.places.items():
        assert marks.get_fdata()[place] == number
        voxel = np.rint(np.linalg.inv(OBLIQUE) @ marks.affine @ [*place, 1])[:3].astype(int)
        assert components.array[tuple(voxel)] == number
    assert viewer.channel == "FLAIR"


def test_the_scan_keeps_its_values_to_the_grey_level_and_loses_only_background(case):
    scan, components = case
    image = opened(make_viewer({"FLAIR": scan}, components, [lesion(1), lesion(2)]).scan)
    assert image.get_data_dtype() == np.uint8
    assert np.prod(image.shape) < scan.array.size
    for voxel in ([20, 20, 5], [30, 22, 3], [12, 30, 9]):
        there = np.rint(np.linalg.inv(image.affine) @ OBLIQUE @ [*voxel, 1])[:3].astype(int)
        assert image.get_fdata()[tuple(there)] == pytest.approx(
            scan.array[tuple(voxel)], abs=210 / 255
        )


def test_a_large_scan_is_averaged_and_keeps_every_component(case):
    scan, components = case
    viewer = make_viewer({"FLAIR": scan}, components, [lesion(1), lesion(2)], most_voxels=3000)
    marks = opened(viewer.components)
    assert viewer.step != (1, 1, 1)
    assert np.prod(marks.shape) <= 3000
    assert set(np.unique(marks.get_fdata())) == {0, 1, 2}
    assert marks.get_fdata()[viewer.places[2]] == 2


def test_no_name_or_description_is_carried_into_the_page(case):
    scan, components = case
    viewer = make_viewer({"FLAIR": scan}, components, [lesion(1), lesion(2)])
    header = opened(viewer.scan).header
    assert not any(bytes(header[name]).strip(b"\0") for name in ("descrip", "aux_file", "db_name"))
    again = make_viewer({"FLAIR": scan}, components, [lesion(1), lesion(2)])
    assert viewer == again


def test_the_policy_lets_only_the_inlined_scripts_run(with_viewer):
    html = patient_report(with_viewer)
    allowed = re.search(r"script-src ([^;]*);", security_policy(scripts()))
    assert allowed is not None
    assert len(allowed[1].split()) == 2
    assert f"script-src {allowed[1]};".replace("'", "&#39;") in html
    assert "default-src &#39;none&#39;" in html
    assert "connect-src" not in html
    assert html.count("<script>") == 2
    assert "Copyright (c) 2021, Niivue" in html
    data = re.search(r'<script type="application/json" id="viewer-data">(.*?)</script>', html)
    assert data is not None
    assert json.loads(data[1]) == with_viewer.viewer.data
    assert html.count('href="#viewer" data-lesion="2"') == 2  # in the table and at its picture


def test_a_page_without_viewer_or_result_has_no_script(inputs, with_viewer):
    assert "<script" not in patient_report(inputs)
    failed = patient_report(replace(with_viewer, error="Gone."))
    assert "<script" not in failed
    assert "script-src" not in failed


@pytest.mark.parametrize("script", ["a </SCRIPT> b", "a <!-- b"])
def test_a_script_that_would_end_its_element_is_refused(script):
    with pytest.raises(ValueError, match="</script"):
        render("base.html.j2", {"title": "x"}, [script])


def test_a_brain_of_1_mm_stays_below_15_mb_even_as_noise(inputs):
    rng = np.random.default_rng(0)
    shape = (182, 218, 182)
    ids = np.zeros(shape, np.uint8)
    ids[90:94, 90:94, 90:94] = 1
    noise = Volume(rng.integers(1, 4096, shape, np.int16), np.eye(4))
    viewer = make_viewer({"FLAIR": noise}, Volume(ids, np.eye(4)), [lesion(1)])
    assert viewer.step == (1, 1, 1)
    assert len(patient_report(replace(inputs, viewer=viewer)).encode()) < 15e6
