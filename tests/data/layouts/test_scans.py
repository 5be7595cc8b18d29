import json

import numpy as np
import pytest

from segpipe.data.layouts import Case, ChannelFile, find_scans
from segpipe.errors import DataError


@pytest.fixture
def folder(tmp_path, save, scan):
    for case in ("b", "a_1"):
        for channel in (0, 1):
            save(tmp_path / f"scans/{case}_{channel:04d}.nii.gz", scan(channel))
    (tmp_path / "scans/notes.txt").write_text("")
    return tmp_path / "scans"


def test_a_folder_is_grouped_into_cases(folder):
    cases = find_scans([folder], 2)
    assert [case.id for case in cases] == ["a_1", "b"]
    channels = tuple(ChannelFile(folder / f"b_{i:04d}.nii.gz") for i in (0, 1))
    assert cases[1] == Case("b", "b", channels, None, {})


def test_files_are_grouped_whatever_their_order_and_named_once(folder):
    files = [folder / "b_0001.nii.gz", folder / "b_0000.nii.gz", folder / "b_0001.nii.gz"]
    (case,) = find_scans(files, 2)
    assert [c.path.name for c in case.channels] == ["b_0000.nii.gz", "b_0001.nii.gz"]


def test_missing_channels_are_named(folder):
    with pytest.raises(DataError, match=r"_0000 to _0002 .* missing: b_0002"):
        find_scans([folder / "b_0000.nii.gz", folder / "b_0001.nii.gz"], 3)
    with pytest.raises(DataError, match=r"missing: b_0000\."):
        find_scans([folder / "b_0001.nii.gz"], 2)
    with pytest.raises(DataError, match=r"too many: a_1_0001\.nii\.gz"):
        find_scans([folder], 1)


def test_images_with_other_names_are_cases_of_their_own(tmp_path, save, scan):
    save(tmp_path / "x.nii.gz", scan())
    save(tmp_path / "case_2019.nii", scan())
    assert [(c.id, c.channels[0].index) for c in find_scans([tmp_path], 1)] == [
        ("case_2019", None),
        ("x", None),
    ]
    (case,) = find_scans([tmp_path / "x.nii.gz"], 2)
    assert [c.index for c in case.channels] == [0, 1]


def test_datasets_in_known_layouts(tmp_path, folder, save, scan, mask):
    root = tmp_path / "decathlon"
    save(root / "i/a.nii", np.stack([scan(1), scan(2)], -1))
    save(root / "m/a.nii", mask)
    entry = {"image": "i/a.nii", "label": "m/a.nii"}
    document = {"training": [entry], "modality": {"0": "A", "1": "B"}}
    (root / "dataset.json").write_text(json.dumps(document))
    (case,) = find_scans([root], 2)
    assert case.reference is None
    assert case.channels[1] == ChannelFile(root / "i/a.nii", 1)
    with pytest.raises(DataError, match=r"expected 1; received 2 \(A, B\)"):
        find_scans([root], 1)
    nnunet = tmp_path / "nnunet"
    nnunet.mkdir()
    folder.rename(nnunet / "imagesTs")
    assert [c.id for c in find_scans([nnunet], 2)] == ["a_1", "b"]
    (tmp_path / "list.csv").write_text("case,image\nz,decathlon/i/a.nii\n")
    assert [c.id for c in find_scans([tmp_path / "list.csv"], 1)] == ["z"]


def test_nothing_to_predict(tmp_path, folder):
    with pytest.raises(DataError, match="no scans are named"):
        find_scans([], 1)
    with pytest.raises(DataError, match="no such file or folder"):
        find_scans([tmp_path / "nowhere"], 1)
    with pytest.raises(DataError, match="not a scan"):
        find_scans([folder / "notes.txt"], 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no dataset"):
        find_scans([tmp_path / "empty"], 1)


def test_names_that_collide_or_cannot_be_used(tmp_path, folder, save, scan):
    save(tmp_path / "other/b.nii", np.stack([scan(), scan()], -1))
    with pytest.raises(DataError, match="two cases with one id"):
        find_scans([folder, tmp_path / "other"], 2)
    with pytest.raises(DataError, match="a case id that cannot be used"):
        find_scans([save(tmp_path / "my scan.nii", scan())], 1)
    save(folder / "b_0000.nii", scan())
    with pytest.raises(DataError, match="beside the same image"):
        find_scans([folder], 2)
