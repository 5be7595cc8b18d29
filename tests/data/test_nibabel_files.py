"""nibabel's own test files, each with its expected outcome."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segpipe.data.nifti import read_image
from segpipe.errors import DataError

NIBABEL_DATA = Path(nib.__file__).parent / "tests" / "data"
NIBABEL_READABLE = {
    "anatomical.nii": (33, 41, 25),
    "example4d.nii.gz": (128, 96, 24, 2),
    "example_nifti2.nii.gz": (32, 20, 12, 2),
    "functional.nii": (17, 21, 3, 20),
    "reoriented_anat_moved.nii": (21, 26, 22),
    "standard.nii.gz": (4, 5, 7),
}
NIBABEL_REFUSED = {
    "resampled_anat_moved.nii": "received 153 of 1,071 voxels",
    "row_major.dconn.nii": "wrong number of axes",
    "nifti1.hdr": "unknown kind of file",
    "nifti2.hdr": "unknown kind of file",
    "analyze.hdr": "unknown kind of file",
    "test.mgz": "unknown kind of file",
    "small.mnc": "unknown kind of file",
    "minc2_4d.mnc": "unknown kind of file",
    "0.dcm": "unknown kind of file",
    "example4d+orig.BRIK.gz": "unknown kind of file",
    "T1.PAR": "unknown kind of file",
    "tinypet.v": "unknown kind of file",
}


@pytest.mark.parametrize("name", NIBABEL_READABLE)
def test_nibabels_own_files_are_read_as_nibabel_reads_them(name):
    volume, _ = read_image(NIBABEL_DATA / name)
    oracle = nib.load(NIBABEL_DATA / name)
    assert volume.array.shape == NIBABEL_READABLE[name]
    np.testing.assert_array_equal(volume.array, oracle.get_fdata(dtype=np.float64).astype("f4"))
    np.testing.assert_allclose(volume.affine, oracle.affine, atol=1e-6)


@pytest.mark.parametrize("name", NIBABEL_REFUSED)
def test_nibabels_other_files_are_refused(name):
    with pytest.raises(DataError, match=NIBABEL_REFUSED[name]):
        read_image(NIBABEL_DATA / name)


@pytest.mark.parametrize("name", ["nifti1.hdr", "nifti2.hdr", "analyze.hdr"])
def test_header_halves_under_a_nifti_name_are_refused(tmp_path, name):
    path = tmp_path / "scan.nii"
    path.write_bytes((NIBABEL_DATA / name).read_bytes())
    with pytest.raises(DataError, match=r"pair|Analyze|not a NIfTI"):
        read_image(path)
