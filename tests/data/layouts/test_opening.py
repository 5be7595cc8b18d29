import pytest

from segpipe.config import DataConfig
from segpipe.data.layouts import open_dataset
from segpipe.errors import DataError


@pytest.mark.parametrize("layout", ["auto", "nnunet", "decathlon", "bids", "csv"])
def test_nothing_there(tmp_path, layout):
    with pytest.raises(DataError, match="no dataset: nothing is there"):
        open_dataset(DataConfig(root=tmp_path / "nowhere", layout=layout))


def test_a_folder_that_is_no_dataset(tmp_path):
    (tmp_path / "a.dcm").write_text("")
    with pytest.raises(DataError, match=r"none was recognised.*nnU-Net.*dcm2niix") as caught:
        open_dataset(DataConfig(root=tmp_path))
    assert caught.value.where == str(tmp_path)


def test_a_file_is_no_folder_and_the_reverse(tmp_path):
    (tmp_path / "a.txt").write_text("")
    for root, layout in ((tmp_path / "a.txt", "bids"), (tmp_path, "csv")):
        with pytest.raises(DataError, match="none was recognised"):
            open_dataset(DataConfig(root=root, layout=layout))
