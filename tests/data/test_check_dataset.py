import gzip
import io
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from segpipe.config import DataConfig
from segpipe.data.check import check_dataset
from segpipe.data.layouts import open_dataset
from segpipe.observer import Silent
from segpipe.pipeline.check import run_check

LAS_2MM = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


@pytest.fixture
def root(tmp_path, save, scan, mask):
    for number, case in enumerate("abcd"):
        for channel in (0, 1):
            save(tmp_path / f"imagesTr/{case}_{channel:04d}.nii.gz", scan(2 * number + channel))
        save(tmp_path / f"labelsTr/{case}.nii.gz", mask * (case != "d"))
    save(tmp_path / "imagesTs/t_0000.nii.gz", scan(100))
    save(tmp_path / "imagesTs/t_0001.nii.gz", scan(101))
    document = {"channel_names": {"0": "FLAIR", "1": "T1"}, "labels": {"lesion": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    return tmp_path


def findings(root, **settings):
    config = DataConfig(root=root, **settings)
    return check_dataset(open_dataset(config), config).findings


def found(root, **settings):
    return [(f.case, Path(f.file).name, f.problem) for f in findings(root, **settings)]


def turn(path, orientation=((1, 1), (0, -1), (2, 1))):
    nib.load(path).as_reoriented(np.array(orientation)).to_filename(path)


def test_a_clean_dataset_has_no_findings_though_a_reference_is_empty(root):
    turn(root / "imagesTr/a_0001.nii.gz")
    assert findings(root) == []


def test_a_label_that_no_training_reference_holds_is_found(root, save, mask):
    document = {"channel_names": {"0": "FLAIR", "1": "T1"}, "labels": {"lesion": 1, "core": 2}}
    (root / "dataset.json").write_text(json.dumps(document))
    said = "a label that no training reference holds: "
    assert found(root) == [("", root.name, f"{said}core")]
    for case in "abcd":
        save(root / f"labelsTr/{case}.nii.gz", 0 * mask)
    assert found(root) == [("", root.name, f"{said}{label}") for label in ("lesion", "core")]


def test_what_is_unusual_is_a_note_and_no_finding(root, save, scan, mask):
    turn(root / "imagesTr/a_0001.nii.gz")
    turn(root / "labelsTr/a.nii.gz")
    for name, array in (("imagesTr/b_0001", scan(3)), ("labelsTr/b", mask)):
        image = nib.Nifti1Image(array, LAS_2MM)
        image.set_qform(LAS_2MM + np.eye(4, k=3) * 7, code=1)
        image.to_filename(root / f"{name}.nii.gz")
    save(root / "imagesTr/c_0000.nii.gz", np.where(scan(4) > 1, np.nan, scan(4)))
    config = DataConfig(root=root, repair_nan=True)
    checked = check_dataset(open_dataset(config), config)
    assert checked.findings == []
    repaired = np.count_nonzero(scan(4) > 1)
    assert [(note.case, note.note) for note in checked.notes] == [
        ("a", "a_0001.nii.gz: stored PLS, read as LAS"),
        ("a", "a.nii.gz: stored PLS, read as LAS"),
        ("b", "b_0001.nii.gz: qform and sform differ by 7 mm: sform is used"),
        ("b", "b.nii.gz: qform and sform differ by 7 mm: sform is used"),
        ("c", f"c_0000.nii.gz: {repaired} voxels that were not finite replaced by 0"),
    ]


def test_notes_are_printed_and_written_and_are_no_failure(root):
    turn(root / "imagesTr/a_0001.nii.gz")
    printed = io.StringIO()
    config = DataConfig(root=root)
    target = root.parent / "check.json"
    assert run_check(config, target, Console(file=printed, width=40), Silent()) is False
    note = "a_0001.nii.gz: stored PLS, read as LAS"
    assert printed.getvalue() == f"note a: {note}\n5 cases, no findings\n"
    assert json.loads(target.read_text())["notes"] == [{"case": "a", "note": note}]


def test_words_of_files_are_printed_as_they_are(root):
    (root / "imagesTr/a_0000.nii.gz").write_bytes(gzip.compress(b"[/b]"))
    printed = io.StringIO()
    config = DataConfig(root=root)
    assert run_check(config, None, Console(file=printed, width=400), Silent()) is True
    assert "a file that begins with b'[/b]'" in printed.getvalue()


def test_every_problem_of_every_case_is_listed(root, save, scan, mask):
    (root / "imagesTr/a_0000.nii.gz").write_bytes(b"")
    (root / "imagesTr/a_0001.nii.gz").unlink()
    save(root / "labelsTr/a.nii.gz", mask * 5)
    save(root / "imagesTr/b_0001.nii.gz", scan(50), np.diag([1, 1, 9, 1]))
    (root / "labelsTr/b.nii.gz").unlink()
    save(root / "imagesTr/c_0000.nii.gz", np.full((5, 4, 3), 7, np.float32))
    save(root / "labelsTr/orphan.nii.gz", mask)
    save(root / "imagesTs/t_0001.nii.gz", np.where(scan() > 0, np.nan, scan()))
    assert found(root) == [
        ("a", "a_0000.nii.gz", "not a NIfTI image"),
        ("a", "a_0001.nii.gz", "no such file"),
        ("a", "a.nii.gz", "values that are no declared label"),
        ("b", "b_0001.nii.gz", "not on the same grid (corners up to 22 mm apart)"),
        ("b", "b.nii.gz", "no such file"),
        ("c", "c_0000.nii.gz", "an image without content"),
        ("orphan", "orphan_0000.nii.gz", "no such file"),
        ("orphan", "orphan_0001.nii.gz", "no such file"),
        ("t", "t_0001.nii.gz", "voxels that are not finite"),
    ]
    for finding in findings(root):
        assert finding.fix
        assert finding.expected
    grid = findings(root)[3]
    assert grid.expected.startswith("shape 5×4×3, spacing 2×2×3 mm, LAS")
    assert grid.received.startswith("shape 5×4×3, spacing 1×1×9 mm, RAS")
    assert grid.fix.startswith("Resample it onto the expected grid")


def test_a_fault_of_a_name_hides_nothing_that_is_wrong_with_the_other_files(
    root, tmp_path_factory, save, scan, mask
):
    outside = save(tmp_path_factory.mktemp("outside") / "a.nii.gz", scan())
    (root / "imagesTr/a_0000.nii.gz").unlink()
    (root / "imagesTr/a_0000.nii.gz").symlink_to(outside)
    (root / "imagesTr/a_0001.nii.gz").write_bytes(b"")
    save(root / "labelsTr/a.nii.gz", mask * 5)
    assert [one for one in found(root) if one[0] == "a"] == [
        ("a", "a_0000.nii.gz", "a path that leaves the dataset"),
        ("a", "a_0001.nii.gz", "not a NIfTI image"),
        ("a", "a.nii.gz", "values that are no declared label"),
    ]


def test_images_that_occur_twice_are_found_however_stored(root, save, scan):
    copy = nib.load(root / "imagesTr/a_0000.nii.gz").as_reoriented(
        np.array([[0, -1], [2, 1], [1, 1]])
    )
    copy.to_filename(root / "imagesTs/t_0000.nii.gz")
    shutil.copy(root / "imagesTr/b_0000.nii.gz", root / "imagesTr/b_0001.nii.gz")
    assert found(root) == [
        ("b", "b_0001.nii.gz", "the same image twice"),
        ("t", "t_0000.nii.gz", "the same image under two case ids"),
    ]
    assert "voxels of a: " in findings(root)[1].received


def test_one_file_in_two_cases_or_channels_is_found_and_so_is_a_patient_in_both_parts(root):
    table = root / "list.csv"
    where = "imagesTr/{0}_0000.nii.gz,imagesTr/{1}_0001.nii.gz,labelsTr/{0}.nii.gz"
    rows = [
        f"p,P,{where.format('a', 'a')},train",
        f"q,Q,{where.format('b', 'a')},train",
        f"r,P,{where.format('c', 'c')},test",
        "s,S,imagesTr/d_0000.nii.gz,imagesTr/d_0000.nii.gz,labelsTr/d.nii.gz,train",
    ]
    table.write_text("\n".join(["case,patient,FLAIR,T1,reference,split", *rows]))
    assert found(table) == [
        ("r", "c_0000.nii.gz", "a test case of a patient who is in the training part too"),
        ("q", "a_0001.nii.gz", "the same image under two case ids"),
        ("s", "d_0000.nii.gz", "the same image twice"),
    ]


def test_training_cases_without_reference_and_strays_are_found(root, save, scan):
    shutil.rmtree(root / "labelsTr")
    save(root / "imagesTr/stray.nii.gz", scan())
    assert found(root) == [
        ("", "stray.nii.gz", "an image whose name tells no channel"),
        *[(case, f"{case}_0000.nii.gz", "a training case without a reference") for case in "abcd"],
    ]


def test_one_case_whose_files_cannot_be_used_does_not_hide_the_others(root, save, scan, mask):
    save(root / "imagesTr/a b_0000.nii.gz", scan(50))
    save(root / "imagesTr/b_0001.nii", scan(3))
    (root / "labelsTr/c.nii.gz").unlink()
    (root / "labelsTr/c.nii.gz").symlink_to(root.parent / "elsewhere.nii.gz")
    (root / "labelsTr/d.nii.gz").write_bytes(b"")
    assert found(root) == [
        ("", "a b_0000.nii.gz", "a case id that cannot be used"),
        ("b", "b_0001.nii.gz", "the same image twice"),
        ("c", "c.nii.gz", "a path that leaves the dataset"),
        ("d", "d.nii.gz", "not a NIfTI image"),
    ]


def test_settings_count(root, save, mask):
    save(root / "labelsTr/a.nii.gz", mask * 9)
    assert len(found(root)) == 1
    assert found(root, ignore_label=9) == []
    assert len(found(root, max_voxels=10)) == 4 * 3 + 2


def test_workers_change_nothing(root):
    (root / "imagesTr/a_0001.nii.gz").unlink()
    config = DataConfig(root=root)
    dataset = open_dataset(config)
    assert check_dataset(dataset, config, workers=2) == check_dataset(dataset, config)
