import json

import numpy as np
import pytest

from segpipe.config import DataConfig
from segpipe.data.layouts import ChannelFile, open_dataset
from segpipe.data.read import read_case
from segpipe.errors import DataError

DOCUMENT = {
    "name": "BRAIN",
    "modality": {"0": "FLAIR", "1": "T1w"},
    "labels": {"0": "background", "1": "edema"},
    "training": [{"image": "./imagesTr/b_1.nii.gz", "label": "./labelsTr/b_1.nii.gz"}],
    "test": ["./imagesTs/b_2.nii.gz"],
}


@pytest.fixture
def root(tmp_path, save, scan, mask):
    for name in ("imagesTr/b_1", "imagesTs/b_2"):
        save(tmp_path / f"{name}.nii.gz", np.stack([scan(1), scan(2)], -1))
    save(tmp_path / "labelsTr/b_1.nii.gz", mask)
    declare(tmp_path)
    return tmp_path


def declare(root, **changes):
    (root / "dataset.json").write_text(json.dumps(DOCUMENT | changes))


def test_channels_are_positions_on_the_fourth_axis(root, scan, mask):
    config = DataConfig(root=root)
    dataset = open_dataset(config)
    assert (dataset.layout, dataset.channels, dataset.labels) == (
        "decathlon",
        ("FLAIR", "T1w"),
        {"edema": 1},
    )
    (case,) = dataset.cases
    image = root / "imagesTr/b_1.nii.gz"
    assert case.channels == (ChannelFile(image, 0, 2), ChannelFile(image, 1, 2))
    assert [c.id for c in dataset.test_cases] == ["b_2"]
    loaded = read_case(case, dataset.labels, config)
    np.testing.assert_array_equal(loaded.image.array, np.stack([scan(1), scan(2)], -1))
    np.testing.assert_array_equal(loaded.reference.array, mask)
    second = DataConfig(root=root, channels=("T1w",))
    loaded = read_case(open_dataset(second).cases[0], dataset.labels, second)
    np.testing.assert_array_equal(loaded.image.array, scan(2)[..., None])


def test_one_modality_means_3d_images(root, save, scan):
    declare(root, modality={"0": "MRI"})
    save(root / "imagesTr/b_1.nii.gz", scan())
    config = DataConfig(root=root)
    dataset = open_dataset(config)
    assert dataset.cases[0].channels == (ChannelFile(root / "imagesTr/b_1.nii.gz", None),)
    loaded = read_case(dataset.cases[0], dataset.labels, config)
    np.testing.assert_array_equal(loaded.image.array, scan()[..., None])


@pytest.mark.parametrize("count", [1, 3])
def test_images_with_other_channels_than_declared(root, save, scan, count):
    save(root / "imagesTr/b_1.nii.gz", np.stack([scan(i) for i in range(count)], -1))
    config = DataConfig(root=root)
    dataset = open_dataset(config)
    with pytest.raises(DataError, match="expected 2 on the fourth axis"):
        read_case(dataset.cases[0], dataset.labels, config)


@pytest.mark.parametrize(
    "entry",
    [
        {"image": "../secret.nii.gz"},
        {"image": "imagesTr/../../secret.nii.gz"},
        {"image": "/etc/passwd.nii.gz"},
        {"image": "C:\\scans\\a.nii.gz"},
        {"image": "..\\a.nii.gz"},
        {"image": "imagesTr/b_1.nii.gz", "label": "/etc/passwd"},
        {"image": "a\0.nii.gz"},
        {"image": ""},
        {"image": "link/a.nii.gz"},
    ],
)
def test_paths_that_leave_the_dataset_are_refused(root, entry):
    (root / "link").symlink_to(root.parent)
    declare(root, training=[entry])
    with pytest.raises(DataError, match="leaves the dataset"):
        open_dataset(DataConfig(root=root))


@pytest.mark.parametrize("entry", [3, None, {}, {"image": 1}, {"image": "a.nii", "label": []}])
def test_entries_that_name_no_files(root, entry):
    declare(root, training=[entry])
    with pytest.raises(DataError, match="names no files"):
        open_dataset(DataConfig(root=root))


def test_the_same_case_twice(root):
    declare(root, training=DOCUMENT["training"] * 2)
    with pytest.raises(DataError, match="two cases with one id"):
        open_dataset(DataConfig(root=root))


def test_no_cases(root):
    declare(root, training=[], test=[])
    with pytest.raises(DataError, match="at least one case"):
        open_dataset(DataConfig(root=root))
