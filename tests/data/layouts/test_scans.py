import json
from pathlib import Path

import numpy as np
import pytest

from segpipe.config import DataConfig
from segpipe.data.layouts import Case, ChannelFile, find_scans
from segpipe.data.read import read_case
from segpipe.errors import DataError

ONE, TWO = ("A",), ("A", "B")


@pytest.fixture
def folder(tmp_path, save, scan):
    for case in ("b", "a_1"):
        for channel in (0, 1):
            save(tmp_path / f"scans/{case}_{channel:04d}.nii.gz", scan(channel))
    (tmp_path / "scans/notes.txt").write_text("")
    return tmp_path / "scans"


def test_a_folder_is_grouped_into_cases(folder):
    cases, refused = find_scans([folder], TWO)
    assert refused == []
    assert [case.id for case in cases] == ["a_1", "b"]
    channels = tuple(ChannelFile(folder / f"b_{i:04d}.nii.gz") for i in (0, 1))
    assert cases[1] == Case("b", "b", channels, None, {})


def test_files_are_grouped_whatever_their_order_and_named_once(folder):
    files = [folder / "b_0001.nii.gz", folder / "b_0000.nii.gz", folder / "b_0001.nii.gz"]
    (case,), _ = find_scans(files, TWO)
    assert [c.path.name for c in case.channels] == ["b_0000.nii.gz", "b_0001.nii.gz"]


def faults(paths, channels):
    """Of the cases that are found, all of which have files."""
    cases, refused = find_scans(paths, channels)
    assert not refused
    assert all(case.channels for case in cases)
    return {case.id: [str(fault) for fault in case.faults.values()] for case in cases}


def test_a_case_with_other_channels_is_there_with_its_fault(folder, save, scan):
    (folder / "b_0001.nii.gz").unlink()
    found = faults([folder], TWO)
    assert found["a_1"] == []
    assert len(found["b"]) == 1
    assert "b: wrong number of channels" in found["b"][0]
    assert "expected _0000 to _0001 for the case; received missing: b_0001." in found["b"][0]
    (case,), _ = find_scans([folder / "b_0000.nii.gz"], TWO)
    with pytest.raises(DataError, match="missing: b_0001"):
        read_case(case, {}, DataConfig(root=folder))
    save(folder / "b_0001.nii.gz", scan())
    assert "missing: b_0000." in faults([folder / "b_0001.nii.gz"], TWO)["b"][0]
    assert "too many: a_1_0001.nii.gz." in faults([folder], ONE)["a_1"][0]


def test_the_same_image_twice_is_a_fault_of_its_case(folder, save, scan):
    save(folder / "b_0000.nii", scan())
    for name in ("x.nii", "x.nii.gz"):
        save(folder / name, np.stack([scan(), scan()], -1))
    found = faults([folder], TWO)
    assert {case: len(told) for case, told in found.items()} == {"a_1": 0, "b": 1, "x": 1}
    assert "received b_0000.nii and b_0000.nii.gz. Remove one" in found["b"][0]
    assert "received x.nii and x.nii.gz. Remove one" in found["x"][0]


def test_images_without_a_usable_name_are_refused_and_the_others_found(folder, save, scan):
    save(folder / "my scan.nii", scan())
    save(folder / "ä_0000.nii.gz", scan())
    cases, refused = find_scans([folder], TWO)
    assert [case.id for case in cases] == ["a_1", "b"]
    assert {finding.received for finding in refused} == {"'my scan'", "'ä'"}
    nnunet = folder.parent / "nnunet"
    nnunet.mkdir()
    folder.rename(nnunet / "imagesTs")
    cases, refused = find_scans([nnunet], TWO)
    assert [case.id for case in cases] == ["a_1", "b"]
    assert [Path(finding.file).name for finding in refused] == ["my scan.nii", "ä_0000.nii.gz"]


def test_images_with_other_names_are_cases_of_their_own(tmp_path, save, scan):
    save(tmp_path / "x.nii.gz", scan())
    save(tmp_path / "case_2019.nii", scan())
    assert [(c.id, c.channels[0].index) for c in find_scans([tmp_path], ONE)[0]] == [
        ("case_2019", None),
        ("x", None),
    ]
    (case,), _ = find_scans([tmp_path / "x.nii.gz"], TWO)
    assert [c.index for c in case.channels] == [0, 1]


def test_datasets_in_known_layouts(tmp_path, folder, save, scan, mask):
    root = tmp_path / "decathlon"
    save(root / "i/a.nii", np.stack([scan(1), scan(2)], -1))
    save(root / "m/a.nii", mask)
    entry = {"image": "i/a.nii", "label": "m/a.nii"}
    document = {"training": [entry], "modality": {"0": "A", "1": "B"}}
    (root / "dataset.json").write_text(json.dumps(document))
    (case,), _ = find_scans([root], TWO)
    assert case.reference is None
    assert case.channels[1] == ChannelFile(root / "i/a.nii", 1, 2)
    nnunet = tmp_path / "nnunet"
    nnunet.mkdir()
    folder.rename(nnunet / "imagesTs")
    assert [c.id for c in find_scans([nnunet], TWO)[0]] == ["a_1", "b"]
    (tmp_path / "list.csv").write_text("case,image\nz,decathlon/i/a.nii\n")
    assert [c.id for c in find_scans([tmp_path / "list.csv"], ONE)[0]] == ["z"]


def test_what_is_wrong_with_a_reference_does_not_matter(tmp_path, folder, save, scan, mask):
    root = tmp_path / "nnunet"
    root.mkdir()
    folder.rename(root / "imagesTr")
    for name in ("b.nii", "b.nii.gz"):
        save(root / "labelsTr" / name, mask)
    assert faults([root], TWO) == {"a_1": [], "b": []}
    save(root / "imagesTr/b_0001.nii", scan())
    assert [len(told) for told in faults([root], TWO).values()] == [0, 1]


def test_channels_of_a_dataset_are_taken_by_name_not_by_position(tmp_path, save, scan):
    save(tmp_path / "i/a.nii", np.stack([scan(1), scan(2), scan(3)], -1))
    entry = {"image": "i/a.nii", "label": "i/a.nii"}
    document = {"training": [entry], "modality": {"0": "A", "1": "B", "2": "C"}}
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    (case,), _ = find_scans([tmp_path], ("C", "A"))
    assert [(c.index, c.of) for c in case.channels] == [(2, 3), (0, 3)]
    with pytest.raises(DataError, match=r"expected some of A, B, C; received T1"):
        find_scans([tmp_path], ("T1",))
    table = tmp_path / "list.csv"
    table.write_text("case,T1,FLAIR\nz,i/t.nii,i/f.nii\n")
    (case,), _ = find_scans([table], ("FLAIR", "T1"))
    assert [c.path.name for c in case.channels] == ["f.nii", "t.nii"]
    with pytest.raises(DataError, match="no column for the images"):
        find_scans([table], ("FLAIR", "T2"))
    for name in ("T1w", "FLAIR"):
        save(tmp_path / f"bids/sub-1/anat/sub-1_{name}.nii.gz", scan())
    (case,), _ = find_scans([tmp_path / "bids"], ("T1w", "FLAIR"))
    assert [c.path.name for c in case.channels] == ["sub-1_T1w.nii.gz", "sub-1_FLAIR.nii.gz"]


def test_a_file_with_more_channels_than_the_model_is_not_cut(tmp_path, save, scan):
    save(tmp_path / "x.nii.gz", np.stack([scan(k) for k in range(3)], -1))
    (case,), _ = find_scans([tmp_path / "x.nii.gz"], TWO)
    config = DataConfig(root=tmp_path, channels=("C", "A"))
    with pytest.raises(DataError, match="other channels than the dataset declares"):
        read_case(case, {}, config)


def test_nothing_to_predict(tmp_path, folder):
    with pytest.raises(DataError, match="no scans are named"):
        find_scans([], ONE)
    with pytest.raises(DataError, match="no such file or folder"):
        find_scans([tmp_path / "nowhere"], ONE)
    with pytest.raises(DataError, match="not a scan"):
        find_scans([folder / "notes.txt"], ONE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no dataset"):
        find_scans([tmp_path / "empty"], ONE)


def test_names_that_collide_or_cannot_be_used(tmp_path, folder, save, scan):
    save(tmp_path / "other/b.nii", np.stack([scan(), scan()], -1))
    with pytest.raises(DataError, match="two cases with one id"):
        find_scans([folder, tmp_path / "other"], TWO)
    with pytest.raises(DataError, match="a case id that cannot be used"):
        find_scans([save(tmp_path / "my scan.nii", scan())], ONE)


def test_endings_may_be_in_capital_letters(tmp_path, save, scan):
    save(tmp_path / "s/a.nii.gz", scan())
    save(tmp_path / "s/b.nii.gz", scan()).rename(tmp_path / "s/b.NII.GZ")
    assert [case.id for case in find_scans([tmp_path / "s"], ONE)[0]] == ["a", "b"]


def test_subjects_and_sessions_that_are_no_ids_are_refused_and_not_passed_over(
    tmp_path, save, scan
):
    for subject in ("sub-01", "sub-0+3", "sub-Müller"):
        save(tmp_path / f"{subject}/anat/{subject}_FLAIR.nii.gz", scan())
    cases, refused = find_scans([tmp_path], ("FLAIR",))
    assert [case.id for case in cases] == ["sub-01"]
    assert [finding.file.split("/")[-1] for finding in refused] == ["sub-0+3", "sub-Müller"]
