"""The page of `segpipe prepare`: made once, honest about failures."""

import json

import nibabel as nib
import numpy as np
import pytest

from segpipe.config import parse
from segpipe.observer import Silent
from segpipe.pipeline import review
from segpipe.pipeline.prepare import run_prepare


@pytest.fixture
def values(tmp_path):
    root = tmp_path / "data"
    for folder in ("imagesTr", "labelsTr", "brain"):
        (root / folder).mkdir(parents=True)
    for index in range(3):
        image = np.random.default_rng([7, index]).normal(100, 10, (12, 10, 8)).astype(np.float32)
        mask = np.zeros(image.shape, np.uint8)
        mask[2:9, 2:8, 2:7] = 1
        lesion = np.zeros(image.shape, np.uint8)
        lesion[4:6, 4:6, 4:6] = 1
        name = f"c{index}"
        nib.save(nib.Nifti1Image(image, np.eye(4)), root / f"imagesTr/{name}_0000.nii.gz")
        nib.save(nib.Nifti1Image(lesion, np.eye(4)), root / f"labelsTr/{name}.nii.gz")
        nib.save(nib.Nifti1Image(mask, np.eye(4)), root / f"brain/{name}.nii.gz")
    manifest = {
        "channel_names": {"0": "FLAIR"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(manifest))
    return {
        "name": "x",
        "output": str(tmp_path / "runs"),
        "data": {"root": str(root)},
        "split": {"folds": 3},
        "prepare": {"workers": 1},
        "anatomy": {
            "regions": [
                {"name": "brain", "source": "mask", "file": "brain/{case}.nii.gz"},
                {"name": "outside", "source": "complement", "weight": 2.0},
            ]
        },
    }


@pytest.fixture
def drawn(monkeypatch):
    """Case ids in the order in which they were drawn."""
    calls = []
    draw = review.overlay_svg

    def noted(case, pictures, looks):
        calls.append(case)
        return draw(case, pictures, looks)

    monkeypatch.setattr(review, "overlay_svg", noted)
    return calls


class Lines(Silent):
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def test_every_case_is_drawn_once_and_again_when_something_changed(values, tmp_path, drawn):
    listener = Lines()
    assert run_prepare(parse(values), listener) is False
    folder = tmp_path / "runs/x/prepare"
    assert listener.lines[-1] == f"look at the regions: {folder / 'index.html'}"
    assert drawn == ["c0", "c1", "c2"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "c0.svg", "c1.svg", "c2.svg", "index.html",
    ]  # fmt: skip
    page = (folder / "index.html").read_text()
    assert page.count("holds 100\N{NO-BREAK SPACE}% of the reference") == 3
    assert "As prepared for all folds, at 1 × 1 × 1 mm." in page
    assert all((folder / f"c{i}.svg").read_text() in page for i in range(3))
    times = [path.stat().st_mtime_ns for path in sorted(folder.glob("*.svg"))]
    run_prepare(parse(values), Silent())
    assert len(drawn) == 3
    assert [path.stat().st_mtime_ns for path in sorted(folder.glob("*.svg"))] == times
    assert (folder / "index.html").read_text() == page
    values["anatomy"]["regions"][0]["weight"] = 0.25
    run_prepare(parse(values), Silent())
    assert drawn == ["c0", "c1", "c2"] * 2
    assert "brain (0.25)" in (folder / "c1.svg").read_text()


def test_a_case_that_fails_loses_its_picture_and_says_why(values, tmp_path, drawn):
    run_prepare(parse(values), Silent())
    (tmp_path / "data/brain/c1.nii.gz").unlink()
    assert run_prepare(parse(values), Silent()) is True
    folder = tmp_path / "runs/x/prepare"
    assert sorted(path.name for path in folder.glob("*.svg")) == ["c0.svg", "c2.svg"]
    page = (folder / "index.html").read_text()
    assert "file of region brain does not exist" in page
    assert str(tmp_path) not in page
    assert [page.index(f"<h3>c{i}") for i in range(3)] == sorted(
        page.index(f"<h3>c{i}") for i in range(3)
    )
    assert drawn == ["c0", "c1", "c2"]
