"""How a reference comes to template space, and that it does so once."""

from dataclasses import replace

import numpy as np
import pytest

from segpipe.anatomy import Placement, mni152_map
from segpipe.anatomy.template import sample_at, template_lattice
from segpipe.config import override, parse
from segpipe.data.layouts import open_dataset
from segpipe.data.nifti import write_volume
from segpipe.errors import ConfigError
from segpipe.observer import Silent
from segpipe.pipeline.references import placed_references, read_placed
from segpipe.volume import Volume

STEP = 6.0
INSIDE = (16, 20, 15)
REGION = {"name": "often", "source": "frequency"}


def grid(shift_mm=(0.0, 0.0, 0.0)):
    """The lattice of template space, moved in the world."""
    lattice = template_lattice(STEP)
    affine = lattice.affine.copy()
    affine[:3, 3] += shift_mm
    return Volume(np.zeros(lattice.shape, np.float32), affine)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a case: template space at ``shift_mm`` in its world, or at the place it has."""
    monkeypatch.setattr("segpipe.pipeline.references.STEP_MM", STEP)
    (tmp_path / "data").mkdir()

    def write(shift_mm=(0.0, 0.0, 0.0), offset_mm=(0.0, 0.0, 0.0), values=None, case="a"):
        placed = grid(shift_mm)
        scan = placed.with_array(1000 * sample_at(mni152_map("t1"), grid(offset_mm)))
        scan.affine[:3, 3] += offset_mm
        labels = np.zeros(scan.shape, np.uint8)
        for voxel, value in (values or {INSIDE: 1}).items():
            labels[voxel] = value
        write_volume(tmp_path / f"data/{case}.nii.gz", scan)
        write_volume(tmp_path / f"data/{case}_lesions.nii.gz", scan.with_array(labels))
        rows = ["case,T1,reference", f"{case},{case}.nii.gz,{case}_lesions.nii.gz"]
        (tmp_path / "data/manifest.csv").write_text("\n".join(rows))
        return parse(
            {
                "name": "x",
                "output": str(tmp_path / "runs"),
                "data": {"root": str(tmp_path / "data"), "labels": {"old": 1, "new": 2}},
                "prepare": {"workers": 1},
                "anatomy": {"regions": [REGION]},
            }
        )

    return write


def place(config):
    dataset = open_dataset(config.data)
    return placed_references(dataset.cases, dataset, config, Silent())


def lesions(config):
    """What the only case has in template space."""
    return read_placed(place(config).counted["a"][0])


def test_all_labels_are_lesion_and_what_is_ignored_is_not(write):
    config = write(values={INSIDE: 1, (10, 20, 15): 2, (20, 12, 15): 9})
    expected = np.zeros(template_lattice(STEP).shape, np.float32)
    expected[INSIDE] = expected[10, 20, 15] = 1
    found = lesions(override(config, ["data.ignore_label=9"]))
    assert np.array_equal(found.array, expected)
    assert np.array_equal(found.affine, template_lattice(STEP).affine)
    assert lesions(
        override(config, ["data.ignore_label=2", "data.labels={old: 1, dirt: 9}"])
    ).array[20, 12, 15]


def test_a_voxel_that_a_lesion_covers_in_part_counts_in_part(write):
    found = lesions(write(offset_mm=(1.5, 0.0, 0.0))).array
    x, y, z = INSIDE
    assert found[x, y, z] == pytest.approx(0.75)
    assert found[x + 1, y, z] == pytest.approx(0.25)
    assert found.sum() == pytest.approx(1)


def test_a_registered_scan_brings_its_reference_with_it(write, monkeypatch):
    config = write(shift_mm=(0.0, 60.0, -18.0))
    affine = np.eye(4)
    affine[:3, 3] = 0.0, 60.0, -18.0
    calls = []

    def register(*arguments):
        calls.append(arguments)
        return Placement("affine", affine, "T1", 0.2, 3.0, 0.9)

    monkeypatch.setattr("segpipe.anatomy.registration.register", register)
    found = lesions(config).array
    assert np.argwhere(found).tolist() == [list(INSIDE)]
    assert found[INSIDE] == pytest.approx(1)
    lesions(config)
    assert len(calls) == 1


def test_what_was_placed_is_not_read_again_until_a_file_changes(write, monkeypatch, tmp_path):
    config = write()
    first = place(config)
    monkeypatch.setattr("segpipe.pipeline.references.read_case", None)
    assert place(config) == first
    monkeypatch.undo()
    monkeypatch.setattr("segpipe.pipeline.references.STEP_MM", STEP)
    write(values={(10, 20, 15): 1})
    assert np.argwhere(lesions(config).array).tolist() == [[10, 20, 15]]
    known = {first.counted["a"], place(config).counted["a"]}
    rigid = override(config, ["anatomy.registration.transform=rigid"])
    assert place(rigid).counted["a"] not in known


def test_cases_that_cannot_be_counted_are_named_with_the_reason(write, tmp_path):
    config = write(values={INSIDE: 7})
    left = place(config)
    assert left.counted == {}
    assert "values that are no declared label" in left.left_out["a"]
    dataset = open_dataset(config.data)
    bare = [replace(dataset.cases[0], reference=None)]
    found = placed_references(bare, dataset, config, Silent())
    assert found.left_out == {"a": "a: no reference"}


def test_a_channel_that_no_case_has_is_refused_before_any_is_read(write):
    config = override(write(), ["anatomy.registration.channel=T3"])
    with pytest.raises(ConfigError, match="expected one of T1; received 'T3'"):
        place(config)
