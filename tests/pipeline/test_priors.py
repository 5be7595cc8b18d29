"""Lesion frequency by fold: a held-out patient never leaks in, whatever folder holds the mask."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from segpipe.anatomy.template import mni152_map, sample_at
from segpipe.config import override, parse
from segpipe.data.layouts import open_dataset
from segpipe.data.nifti import write_volume
from segpipe.data.splits import make_folds
from segpipe.errors import DataError, GeometryError, StorageError
from segpipe.observer import Silent
from segpipe.pipeline.prepare import plan_for, prepare_cases, run_prepare
from segpipe.pipeline.priors import fold_priors
from segpipe.volume import Volume

CASES = ("p1_a", "p1_b", "p2_a", "p3_a", "p4_a")
REGION = {"name": "often", "source": "frequency", "file": "../masks", "soften_mm": 4}


class Listener(Silent):
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def brain(spacing_mm=6.0):
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = [-98, -134, -72]
    grid = Volume(np.zeros((33, 39, 32), np.float32), affine)
    return grid.with_array(1000 * sample_at(mni152_map("t1"), grid))


def lesion(seed):
    mask = np.zeros((33, 39, 32), np.uint8)
    middle = np.random.default_rng(seed).integers(12, 20, 3)
    mask[tuple(slice(m, m + 2) for m in middle)] = 1
    return mask


@pytest.fixture
def root(tmp_path):
    scan, data = brain(), tmp_path / "data"
    for index, case in enumerate((*CASES, "p9_a")):
        images, labels = ("imagesTs", "labelsTs") if case == "p9_a" else ("imagesTr", "labelsTr")
        write_volume(data / images / f"{case}_0000.nii.gz", scan)
        write_volume(data / labels / f"{case}.nii.gz", scan.with_array(lesion(index)))
    for index, name in enumerate(("p1", "p2", "p3", "p4", "p9", "other")):
        write_volume(tmp_path / f"masks/{name}.nii.gz", scan.with_array(lesion(50 + index)))
    manifest = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
    }
    (data / "dataset.json").write_text(json.dumps(manifest))
    return tmp_path


@pytest.fixture
def config(root):
    return parse(
        {
            "name": "x",
            "output": str(root / "runs"),
            "data": {"root": str(root / "data"), "patient_pattern": "^(p[0-9])"},
            "split": {"leave_one_patient_out": True},
            "prepare": {"workers": 1, "spacing_mm": [6, 6, 6]},
            "anatomy": {"regions": [REGION]},
        }
    )


def priors(config):
    """The bytes of every fold's map, by the patient held out."""
    dataset = open_dataset(config.data)
    return {
        fold.validation[0][:2]: fold_priors(dataset, fold, config, Silent())["often"]
        .array.astype(np.float64)
        .tobytes()
        for fold in make_folds(dataset.cases, config.split)
    }


@pytest.mark.parametrize("patient", ["p1", "p2", "p3", "p4"])
def test_the_mask_of_a_held_out_patient_changes_nothing_in_its_fold(config, root, patient):
    before = priors(config)
    changed = brain().with_array(np.ones((33, 39, 32), np.uint8))
    write_volume(root / f"masks/{patient}.nii.gz", changed)
    write_volume(root / f"masks/{patient}_copy.nii.gz", changed)
    after = priors(config)
    assert {fold for fold in before if before[fold] == after[fold]} == {patient}


def test_a_test_patient_is_in_no_fold_and_a_stranger_in_all(config, root):
    before = priors(config)
    write_volume(root / "masks/p9.nii.gz", brain().with_array(np.ones((33, 39, 32), np.uint8)))
    assert priors(config) == before
    write_volume(root / "masks/other.nii.gz", brain().with_array(lesion(99)))
    after = priors(config)
    assert all(after[fold] != before[fold] for fold in before)


def test_a_test_case_of_a_trained_patient_is_held_out_all_the_same(config, root):
    scan = brain()
    write_volume(root / "data/imagesTs/p1_z_0000.nii.gz", scan)
    write_volume(root / "data/labelsTs/p1_z.nii.gz", scan.with_array(lesion(3)))
    before = priors(config)
    for name in ("p1_z", "p1"):
        write_volume(root / f"masks/{name}.nii.gz", scan.with_array(np.ones_like(lesion(0))))
    assert priors(config) == before


def test_prepared_cases_of_a_fold_depend_on_its_training_patients_alone(config, root):
    def entries():
        return {path.parent.name for path in (root / "runs/cache").glob("*/*/regions.json")}

    def images():
        return [path.stat().st_mtime_ns for path in (root / "runs/cache").glob("*/*/image.b2nd")]

    listener = Listener()
    assert run_prepare(config, listener) is False
    assert (
        "fold 0: lesion frequency for region often from 4 patients; held out: p1.nii.gz, p9.nii.gz"
    ) in listener.lines
    first = entries()
    assert len(first) == 4 * len(CASES)
    written = images()
    assert len(written) == len(CASES)  # of all folds together
    run_prepare(config, Silent())
    assert entries() == first
    write_volume(root / "masks/p2.nii.gz", brain().with_array(lesion(98)))
    run_prepare(config, Silent())
    assert len(entries() - first) == 3 * len(CASES)  # every fold but the one that holds p2 out
    assert images() == written


def test_a_cache_that_cannot_be_written_is_no_matter_of_a_patient(config, monkeypatch):
    own = parse(
        {**config.model_dump(mode="json"), "anatomy": {"regions": [{**REGION, "file": None}]}}
    )
    dataset = open_dataset(own.data)
    fold = make_folds(dataset.cases, own.split)[0]

    def full(*_):
        raise StorageError("the cache cannot be written")

    monkeypatch.setattr("segpipe.prepare.store.put", full)
    with pytest.raises(StorageError, match="cannot be written"):
        fold_priors(dataset, fold, own, Silent())


def test_masks_are_read_as_far_as_the_configuration_allows(config):
    dataset = open_dataset(config.data)
    fold = make_folds(dataset.cases, config.split)[0]
    small = override(config, [f"data.max_voxels={33 * 39 * 32 - 1}"])
    with pytest.raises(DataError, match="more voxels than allowed"):
        fold_priors(dataset, fold, small, Silent())


def test_an_empty_folder_is_an_error_unless_the_region_is_optional(config):
    def with_region(**more):
        return parse(
            {**config.model_dump(mode="json"), "anatomy": {"regions": [{**REGION, **more}]}}
        )

    dataset = open_dataset(config.data)
    fold = make_folds(dataset.cases, config.split)[0]
    with pytest.raises(DataError, match="no lesion masks"):
        fold_priors(dataset, fold, with_region(file="nowhere"), Silent())
    listener = Listener()
    optional = with_region(file="nowhere", optional=True)
    assert fold_priors(dataset, fold, optional, listener) == {}
    assert listener.lines[0].startswith("fold 0: region often left out: ")


@pytest.fixture
def own(config, monkeypatch):
    """A region from the dataset's own references, on the grid of its scans."""
    monkeypatch.setattr("segpipe.pipeline.references.STEP_MM", 6.0)
    return override(config, ["anatomy.regions=[{name: often, source: frequency}]"])


def rewrite(root, case, seed, folder="labelsTr"):
    write_volume(root / f"data/{folder}/{case}.nii.gz", brain().with_array(lesion(seed)))


@pytest.mark.parametrize("case", ["p1_b", "p3_a"])
def test_a_held_out_reference_changes_nothing_and_a_training_one_does(own, root, case):
    before = priors(own)
    rewrite(root, case, 97)
    after = priors(own)
    assert {fold for fold in before if before[fold] == after[fold]} == {case[:2]}


def test_no_reference_of_a_test_case_is_counted(own, root):
    before = priors(own)
    rewrite(root, "p9_a", 97, "labelsTs")
    assert priors(own) == before


def test_references_of_a_patient_with_a_test_case_are_counted_in_no_fold(own, root):
    scan = brain()
    write_volume(root / "data/imagesTs/p1_z_0000.nii.gz", scan)
    write_volume(root / "data/labelsTs/p1_z.nii.gz", scan.with_array(lesion(3)))
    before = priors(own)
    rewrite(root, "p1_b", 97)
    assert priors(own) == before


def test_own_references_are_averaged_as_a_folder_of_the_same_masks(own, config, root):
    for path in (root / "masks").iterdir():
        path.unlink()
    for case in CASES:
        shutil.copy(root / f"data/labelsTr/{case}.nii.gz", root / "masks")
    smooth = override(own, ["anatomy.regions=[{name: often, source: frequency, soften_mm: 4}]"])
    assert priors(smooth) == priors(config) != priors(own)


def test_a_reference_whose_scan_has_no_place_is_named_and_not_counted(own, root):
    dataset = open_dataset(own.data)
    fold = make_folds(dataset.cases, own.split)[0]
    fewer = replace(fold, train=tuple(case for case in fold.train if case != "p3_a"))
    expected = fold_priors(dataset, fewer, own, Silent())["often"].array
    away = brain()
    away.affine[1, 3] += 90
    write_volume(root / "data/imagesTr/p3_a_0000.nii.gz", away)
    write_volume(root / "data/labelsTr/p3_a.nii.gz", away.with_array(lesion(3)))
    settings = override(own, ["anatomy.registration.transform=none"])
    listener = Listener()
    found = fold_priors(dataset, fold, settings, listener)["often"].array
    assert np.array_equal(found, expected)
    reason, told = listener.lines
    assert reason.startswith("fold 0: lesion frequency goes without p3_a: the scan is not in MNI")
    assert told == (
        "fold 0: lesion frequency for region often from the references of 2 patients; "
        "left out: p3_a"
    )


def test_without_any_reference_left_there_is_no_map(own, root):
    for path in (root / "data/labelsTr").iterdir():
        path.unlink()
    dataset = open_dataset(own.data)
    listener = Listener()
    assert fold_priors(dataset, make_folds(dataset.cases, own.split)[0], own, listener) == {}
    assert "from the references of 0 patients; left out: p2_a, p3_a, p4_a" in listener.lines[-1]


def test_a_case_is_prepared_anew_where_a_training_reference_changed_and_only_there(own, root):
    def prepared():
        dataset = open_dataset(own.data)
        folds = make_folds(dataset.cases, own.split)[:2]  # without p1, without p2
        return [
            prepare_cases(
                dataset.cases[-1:],
                dataset,
                plan_for(dataset, fold, own),
                own,
                Silent(),
                fold_priors(dataset, fold, own, Silent()),
            ).cases["p4_a"]
            for fold in folds
        ]

    before = prepared()
    rewrite(root, "p2_a", 97)
    after = prepared()
    assert after[0].regions_folder != before[0].regions_folder
    assert after[1].regions_folder == before[1].regions_folder
    assert after[0].folder == before[0].folder


def test_a_folder_of_masks_that_lie_elsewhere_is_refused(config, root):
    for path in (root / "masks").iterdir():
        write_volume(path, Volume(np.zeros((33, 39, 32), np.uint8), np.diag([6.0, 6, 6, 1])))
    with pytest.raises(GeometryError, match=r"masks/.*does not lie in MNI152 space.*template's"):
        priors(config)
