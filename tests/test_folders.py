"""Folders are cut from what is passed on, whatever they are called."""

import pytest

from segpipe.errors import DataError, GeometryError
from segpipe.folders import error_without_folders, without_folders, without_paths

FOLDERS = [
    "/data/Muster Anna 1970/",
    "/data/Müller, Anna/",
    "/data/O'Brien/",
    "/data/(x) y [z]/",
    "/data/Dr. Muster & Co/a.b c/",
    "C:\\Users\\Anna Muster\\",
    "\\\\server\\Anna Muster\\scans\\",
    "../Anna Muster/",
    "~anna/Anna Muster/",
    "anna/1970/",
]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(
    "text",
    [
        "{}flair_0000.nii.gz: no such file; expected a NIfTI file. Add it.",
        "region wm: {}wm.nii: not on the grid of {}flair.nii.gz. Resample it",
        "[Errno 2] No such file or directory: '{}a.nii'",
        "read {}a.nii and {}b.json, not 1/2",
    ],
)
def test_paths_are_known_by_their_looks(folder, text):
    assert without_folders(text.format(folder, folder)) == text.format("", "")


@pytest.mark.parametrize(
    "text",
    ["models:/ms@champion and TP/FP/FN", "2 mm/3 voxels, 5 / 6", "a.nii: values 1/2", "and/or."],
)
def test_other_strokes_stay(text):
    assert without_folders(text) == without_paths(text) == text


@pytest.mark.parametrize("folder", ["Anna Muster/", "/data/Muster: Anna 1970/", "x; Muster Anna/"])
def test_what_looks_like_no_path_is_cut_where_it_is_known(folder):
    error = DataError(f"{folder}a.nii", "gone", received=f"{folder}b c")
    assert error_without_folders(error) == "a.nii: gone; received b c"
    other = GeometryError(f"{folder}a.nii: not on the same grid")
    assert error_without_folders(other, [f"{folder}t1.nii"]) == "a.nii: not on the same grid"
    assert without_folders("a b: bad", ["a.nii", "/"]) == "a b: bad"


@pytest.mark.parametrize("folder", FOLDERS[:-1])
def test_whole_paths_go_with_the_names_of_files(folder):
    assert without_paths(f"cannot read {folder}Anna M.nii.gz: cut") == "cannot read <path>: cut"
