import json
from pathlib import Path

import pytest

from segpipe.config import DataConfig, parse
from segpipe.data.layouts import ChannelFile, open_dataset
from segpipe.data.read import read_case
from segpipe.errors import ConfigError, DataError
from segpipe.prepare.fingerprint import measure_grids

DOCUMENT = {
    "name": "two channels",
    "channel_names": {"0": "FLAIR", "1": "T1"},
    "labels": {"background": 0, "lesion": 1, "old lesion": 2},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


@pytest.fixture
def root(tmp_path, save, scan, mask):
    for case in ("a_1", "a_2"):
        for channel in (0, 1):
            save(tmp_path / f"imagesTr/{case}_{channel:04d}.nii.gz", scan(channel))
        save(tmp_path / f"labelsTr/{case}.nii.gz", mask)
    for channel in (0, 1):
        save(tmp_path / f"imagesTs/b_{channel:04d}.nii.gz", scan(channel))
    declare(tmp_path)
    return tmp_path


def declare(root, **changes):
    document = {k: v for k, v in (DOCUMENT | changes).items() if v is not None}
    (root / "dataset.json").write_text(json.dumps(document))


def test_cases_channels_labels(root):
    dataset = open_dataset(DataConfig(root=root))
    assert (dataset.name, dataset.layout) == ("two channels", "nnunet")
    assert dataset.channels == ("FLAIR", "T1")
    assert dataset.labels == {"lesion": 1, "old lesion": 2}
    assert [case.id for case in dataset.cases] == ["a_1", "a_2"]
    first = dataset.cases[0]
    assert first.patient == "a_1"
    assert first.channels == tuple(
        ChannelFile(root / f"imagesTr/a_1_{i:04d}.nii.gz", None) for i in (0, 1)
    )
    assert first.reference == root / "labelsTr/a_1.nii.gz"
    assert [(case.id, case.reference) for case in dataset.test_cases] == [("b", None)]
    assert dataset.findings == ()


def test_names_that_repeat_can_be_given_in_the_configuration(root):
    declare(root, channel_names={"0": "noNorm", "1": "noNorm"})
    with pytest.raises(DataError, match=r"name them in the configuration \(data.channels"):
        open_dataset(DataConfig(root=root))
    dataset = open_dataset(DataConfig(root=root, channels=("FLAIR", "T1")))
    assert dataset.channels == ("FLAIR", "T1")
    assert [c.path.name for c in dataset.cases[0].channels] == [
        "a_1_0000.nii.gz",
        "a_1_0001.nii.gz",
    ]


def test_references_of_test_cases_are_optional_case_by_case(root, save, scan, mask):
    for channel in (0, 1):
        save(root / f"imagesTs/c_{channel:04d}.nii.gz", scan(channel))
    save(root / "labelsTs/c.nii.gz", mask)
    dataset = open_dataset(DataConfig(root=root))
    assert [case.reference for case in dataset.test_cases] == [None, root / "labelsTs/c.nii.gz"]


def test_patients_by_pattern(root):
    dataset = open_dataset(DataConfig(root=root, patient_pattern=r"^([a-z]+)"))
    assert [case.patient for case in dataset.cases] == ["a", "a"]
    with pytest.raises(DataError, match="finds no patient"):
        open_dataset(DataConfig(root=root, patient_pattern=r"^(\d+)"))
    for pattern in ("(", "abc"):
        with pytest.raises(ConfigError, match="patient_pattern"):
            open_dataset(DataConfig(root=root, patient_pattern=pattern))


def test_configured_channels_are_chosen_by_name(root):
    dataset = open_dataset(DataConfig(root=root, channels=("T1",)))
    assert dataset.channels == ("T1",)
    assert [c.path.name for c in dataset.cases[0].channels] == ["a_1_0001.nii.gz"]
    for wrong in (("T2",), ("T1", "T1")):
        with pytest.raises(DataError, match="some of FLAIR, T1"):
            open_dataset(DataConfig(root=root, channels=wrong))


def test_configured_labels_and_ignore(root):
    assert open_dataset(DataConfig(root=root, labels={"x": 1})).labels == {"x": 1}
    declare(root, labels={"background": 0, "lesion": 1, "ignore": 2})
    with pytest.raises(DataError, match=r"Set data\.ignore_label: 2"):
        open_dataset(DataConfig(root=root))
    assert open_dataset(DataConfig(root=root, ignore_label=2)).labels == {"lesion": 1}


def test_without_dataset_json_names_come_from_the_configuration(root):
    (root / "dataset.json").unlink()
    dataset = open_dataset(DataConfig(root=root, labels={"lesion": 1}))
    assert dataset.channels == ("channel0", "channel1")
    named = open_dataset(DataConfig(root=root, labels={"lesion": 1}, channels=("F", "T")))
    assert named.channels == ("F", "T")
    with pytest.raises(DataError, match="no labels are declared"):
        open_dataset(DataConfig(root=root))


def test_version_1_declares_modality_and_labels_by_value(root):
    declare(root, channel_names=None, modality={"0": "A", "1": "B"}, labels={"0": "bg", "1": "x"})
    dataset = open_dataset(DataConfig(root=root))
    assert dataset.channels == ("A", "B")
    assert dataset.labels == {"x": 1}


def test_incomplete_cases_stay_in_the_list_and_name_the_missing_file(root, save, mask):
    (root / "imagesTr/a_1_0001.nii.gz").unlink()
    (root / "labelsTr/a_2.nii.gz").unlink()
    save(root / "labelsTr/c.nii.gz", mask)
    cases = {case.id: case for case in open_dataset(DataConfig(root=root)).cases}
    assert list(cases) == ["a_1", "a_2", "c"]
    assert cases["a_1"].channels[1].path == root / "imagesTr/a_1_0001.nii.gz"
    assert cases["a_2"].reference == root / "labelsTr/a_2.nii.gz"
    assert cases["c"].channels[0].path == root / "imagesTr/c_0000.nii.gz"


def test_what_belongs_to_no_case_is_found(root, save, scan):
    save(root / "imagesTr/noise.nii.gz", scan())
    save(root / "imagesTr/a_1_0002.nii.gz", scan())
    (root / "imagesTr/._a_1_0000.nii.gz").write_text("made by macOS")
    (root / "imagesTr/notes.txt").write_text("hello")
    declare(root, numTraining=5)
    found = open_dataset(DataConfig(root=root)).findings
    assert [(Path(f.file).name, f.case) for f in found] == [
        ("noise.nii.gz", ""),
        ("a_1_0002.nii.gz", "a_1"),
        ("dataset.json", ""),
    ]
    assert (found[2].expected, found[2].received) == ("5", "2")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": None}, "no labels are declared"),
        ({"labels": {"background": 0}}, "at least one label"),
        ({"labels": {"a": 1, "b": 1}}, "labels that cannot be used"),
        ({"labels": {"a": -1}}, "labels that cannot be used"),
        ({"labels": {"a": 1.5}}, "labels that cannot be used"),
        ({"labels": {"a": True}}, "labels that cannot be used"),
        ({"labels": {"whole": [1, 2], "core": 2}}, "region-based"),
        ({"labels": ["a"]}, "no labels are declared"),
        ({"channel_names": {"0": "A", "2": "B"}}, "channels that cannot be used"),
        ({"channel_names": {"0": "A", "1": "A"}}, "channels that cannot be used"),
        ({"channel_names": {"0": ""}}, "channels that cannot be used"),
        ({"channel_names": ["A"]}, "channels that cannot be used"),
        ({"channel_names": {}}, "channels that cannot be used"),
        ({"channel_names": 3}, "channels that cannot be used"),
        ({"file_ending": ".png"}, "unsupported file_ending"),
        ({"file_ending": "/../../a.nii.gz"}, "unsupported file_ending"),
        ({"file_ending": [1]}, "unsupported file_ending"),
    ],
)
def test_declarations_that_cannot_be_used(root, changes, says):
    declare(root, **changes)
    with pytest.raises(DataError, match=says):
        open_dataset(DataConfig(root=root))


@pytest.mark.parametrize(
    "text", [b"{", b"[1]", b"\xff\xfe\x00", b"", b"[" * 100_000], ids=lambda t: repr(t[:4])
)
def test_dataset_json_that_is_no_object(root, text):
    (root / "dataset.json").write_bytes(text)
    with pytest.raises(DataError, match="JSON"):
        open_dataset(DataConfig(root=root))


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 65, "a.b"])
def test_case_ids_that_cannot_be_used(root, save, scan, name):
    save(root / f"imagesTr/{name}_0000.nii.gz", scan())
    save(root / f"labelsTs/{name}.nii.gz", scan())
    dataset = open_dataset(DataConfig(root=root))
    assert [case.id for case in (*dataset.cases, *dataset.test_cases)] == ["a_1", "a_2", "b"]
    assert [(f.problem, Path(f.file).parent.name) for f in dataset.findings] == [
        ("a case id that cannot be used", "imagesTr"),
        ("a case id that cannot be used", "labelsTs"),
    ]


def test_where_no_case_has_a_usable_name_that_is_the_error(tmp_path, save, scan):
    save(tmp_path / "imagesTr/a b_0000.nii.gz", scan())
    with pytest.raises(DataError, match=r"a b_0000.nii.gz: a case id that cannot be used"):
        open_dataset(DataConfig(root=tmp_path, labels={"lesion": 1}))


def faults(root):
    dataset = open_dataset(DataConfig(root=root))
    cases = (*dataset.cases, *dataset.test_cases)
    return {case.id: [fault.problem for fault in case.faults.values()] for case in cases}


def test_ids_that_occur_twice(root, save, scan):
    save(root / "imagesTs/a_1_0000.nii.gz", scan())
    with pytest.raises(DataError, match="two cases with one id"):
        open_dataset(DataConfig(root=root))


def test_files_that_occur_twice_are_a_fault_of_their_case(root, save, scan, mask):
    save(root / "imagesTr/a_1_0000.nii", scan())
    save(root / "labelsTr/a_1.nii", mask)
    assert faults(root) == {"a_1": ["the same image twice"] * 2, "a_2": [], "b": []}


@pytest.mark.parametrize("place", ["imagesTr/z_0000.nii.gz", "labelsTr/z.nii.gz"])
def test_a_link_out_of_the_dataset_fails_its_case_and_is_never_read(
    root, tmp_path_factory, save, scan, place
):
    outside = save(tmp_path_factory.mktemp("outside") / "a.nii.gz", scan())
    (root / place).symlink_to(outside)
    assert faults(root) == {
        "a_1": [],
        "a_2": [],
        "z": ["a path that leaves the dataset"],
        "b": [],
    }
    dataset = open_dataset(DataConfig(root=root))
    with pytest.raises(DataError, match="leaves the dataset"):
        read_case(dataset.cases[2], dataset.labels, DataConfig(root=root))
    only = parse({"name": "x", "data": {"root": str(root)}})
    with pytest.raises(DataError, match="leaves the dataset"):
        measure_grids(dataset.cases[2:], only)


def test_links_inside_the_dataset_and_to_the_dataset_are_fine(root, tmp_path_factory):
    (root / "imagesTr/a_1_0001.nii.gz").unlink()
    (root / "imagesTr/a_1_0001.nii.gz").symlink_to("a_1_0000.nii.gz")
    link = tmp_path_factory.mktemp("links") / "dataset"
    link.symlink_to(root)
    assert len(open_dataset(DataConfig(root=link)).cases) == 2
