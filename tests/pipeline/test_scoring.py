"""From a network to scores: patients, flags, ignored voxels, labels and settings arrive."""

import json
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

from segpipe.backend import Device
from segpipe.config import digest, override, parse
from segpipe.data.layouts import open_dataset
from segpipe.data.nifti import read_labels, write_volume
from segpipe.errors import DataError
from segpipe.model.bundle import Bundle
from segpipe.model.facts import DatasetFacts
from segpipe.observer import Silent
from segpipe.pipeline import predict, scoring
from segpipe.pipeline.models import Loaded
from segpipe.pipeline.predict import PredictRequest, run_predict
from segpipe.pipeline.predictions import Prediction
from segpipe.pipeline.scoring import evaluate_cases
from segpipe.predict.case import Model
from segpipe.prepare import PreparePlan
from segpipe.volume import Volume

SHAPE = (10, 8, 6)
CASES = ("p1_a", "p1_b", "p2_a", "p2_b")
IGNORED = 9


def scan(*bright):
    """1 everywhere, 3 where a network that goes by brightness sees label 1, 5 for label 2."""
    values = np.ones(SHAPE, np.float32)
    for place, value in bright:
        values[place] = value
    return values


def by_brightness(tiles):
    """Logits of background and two labels."""
    return 20 * np.concatenate([tiles < 2, (tiles > 2) & (tiles < 4), tiles > 4], -1) - 10.0


FOUND, WRONG, OTHER = np.s_[1:3, 1:3, 1:3], np.s_[6:8, 5:7, 3:5], np.s_[4:6, 1:2, 1:2]


@pytest.fixture
def data(tmp_path):
    """Two cases of each of two patients; in p2_b the wrong region lies in ignored voxels."""
    root = tmp_path / "data"
    for case in CASES:
        reference = np.zeros(SHAPE, np.uint8)
        reference[FOUND], reference[OTHER] = 1, 2
        if case == "p2_b":
            reference[WRONG] = IGNORED
        image = scan((FOUND, 3), (WRONG, 3))
        write_volume(root / f"imagesTr/{case}_0000.nii.gz", Volume(image, np.eye(4)))
        write_volume(root / f"labelsTr/{case}.nii.gz", Volume(reference, np.eye(4)))
    labels = {"background": 0, "one": 1, "two": 2, "ignore": IGNORED}
    (root / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "t1"}, "labels": labels, "file_ending": ".nii.gz"})
    )
    return root


@pytest.fixture
def config(data, tmp_path):
    return parse(
        {
            "name": "x",
            "output": str(tmp_path / "runs"),
            "data": {"root": str(data), "patient_pattern": "^(p[0-9])", "ignore_label": IGNORED},
            "model": {"features": [2, 4]},
            "train": {"patch": [8, 8, 4]},
            "prepare": {"normalise": "none", "crop": False},
            "predict": {"engine": "keras"},
            "evaluate": {"bootstrap": 50, "choose": "fixed"},
        }
    )


def loaded(config, *, precision="float32", **facts):
    plan = PreparePlan(
        spacing_mm=(1, 1, 1), normalise="none", channels=("t1",), labels={"one": 1, "two": 2},
        ignore_label=IGNORED, crop=False,
    )  # fmt: skip
    known = {
        "name": "x",
        "segpipe": "0.1.0",
        "created": "2026",
        "source_revision": None,
        "dirty": None,
        "config": config,
        "config_digest": digest(config),
        "plan": plan,
        "operating_point": config.predict.operating_point,
        "dataset": DatasetFacts(name="d", digest="e", training_cases=4, validation_cases=4),
        "spacing_range_mm": ((1, 1, 1), (1, 1, 1)),
        "weights_sha256": "ab",
        "precision": precision,
    }
    bundle = Bundle(**{**known, **facts})
    model = Model(bundle, by_brightness, 0.5, 2)
    device = Device("tensorflow", "cpu", "Abacus", "float32", True, False)
    return Loaded((Path("b"),), (bundle,), (model,), device, "keras", config)


def evaluated(config, tmp_path, made=None):
    dataset = open_dataset(config.data)
    return evaluate_cases(
        dataset.cases,
        dataset,
        config,
        made or loaded(config),
        tmp_path / "out",
        Silent(),
        given=None,
    )


def rows_of(evaluation, label="one"):
    return {r["case"]: r for r in evaluation.document["rows"] if r["label"] == label}


def test_figures_are_over_patients_and_ignored_voxels_count_for_nobody(config, tmp_path):
    evaluation = evaluated(config, tmp_path)
    assert evaluation.document["patients"] == {case: case[:2] for case in CASES}
    assert evaluation.validation_facts(config)["patients"] == 2
    wrong = {case: row["false_positive_regions"] for case, row in rows_of(evaluation).items()}
    assert wrong == {"p1_a": 1, "p1_b": 1, "p2_a": 1, "p2_b": 0}
    spread = evaluation.document["summary"]["one"]["false_positive_regions"]
    assert (spread["mean"], spread["ci95"]) == (0.75, [0.5, 1.0])  # p2 alone, p1 alone


def test_a_certificate_needs_patients_and_not_cases(config, tmp_path):
    asked = override(config, ["evaluate.choose=certified"])
    certificate = evaluated(asked, tmp_path).choice.certificate
    assert certificate.threshold is None
    assert "2 calibration patients with lesions are too few" in certificate.statement


def test_nothing_is_certified_in_another_precision_than_that_of_the_training(config, tmp_path):
    asked = override(config, ["evaluate.choose=certified"])
    made = loaded(asked, precision="mixed_bfloat16")
    statement = evaluated(asked, tmp_path, made).choice.certificate.statement
    assert "the network was trained in mixed_bfloat16" in statement


def test_what_is_unusual_of_a_scan_reaches_scores_and_predictions(config, data, tmp_path):
    made = loaded(config, spacing_range_mm=((3, 3, 3), (3, 3, 3)))
    evaluation = evaluated(config, tmp_path, made)
    assert "lies outside that of the training scans" in str(rows_of(evaluation)["p1_a"]["flags"])
    document = json.loads((tmp_path / "out/predict.json").read_text())
    assert all("lies outside that" in str(case["flags"]) for case in document["cases"])
    assert document["of_validation"] is True


def test_every_label_has_a_map_of_its_own_beside_that_of_all(config, tmp_path):
    evaluated(config, tmp_path)
    whole, one, two = (
        read_labels(tmp_path / f"out/maps/{name}p1_a.nii.gz").array
        for name in ("", "label-1/", "label-2/")
    )
    assert (one[FOUND] == 1).all()
    assert (one[WRONG] == 2).all()
    assert (two[OTHER] == 3).all()
    assert set(np.unique(one)) == {0, 1, 2}
    assert set(np.unique(two)) == {0, 3}
    assert np.array_equal(whole, np.maximum(one, two))


@pytest.mark.parametrize(("connectivity", "regions"), [(26, 1), (6, 2)])
def test_masks_and_scores_count_the_same_components(config, data, tmp_path, connectivity, regions):
    corner = scan((FOUND, 3), (np.s_[6, 5, 3], 3), (np.s_[7, 6, 4], 3))
    write_volume(data / "imagesTr/p1_a_0000.nii.gz", Volume(corner, np.eye(4)))
    asked = override(config, [f"evaluate.connectivity={connectivity}"])
    evaluation = evaluated(asked, tmp_path)
    assert rows_of(evaluation)["p1_a"]["false_positive_regions"] == regions
    document = json.loads((tmp_path / "out/predict.json").read_text())
    (entry,) = [case for case in document["cases"] if case["case"] == "p1_a"]
    assert entry["counts"]["one"]["components"] == 1 + regions


def test_the_first_damaged_scan_ends_a_strict_evaluation_and_prediction(
    config, data, tmp_path, monkeypatch
):
    (data / "imagesTr/p1_b_0000.nii.gz").write_bytes(b"")
    assert set(evaluated(config, tmp_path).failed) == {"p1_b"}
    strict = override(config, ["predict.strict=true"])
    with pytest.raises(DataError, match="p1_b"):
        evaluated(strict, tmp_path)
    made = loaded(config)
    request = PredictRequest(("b",), (data / "imagesTr",), tmp_path / "predicted")
    monkeypatch.setattr(predict, "load_models", lambda *_, **__: made)
    assert run_predict(request, Silent()) is True
    made = replace(made, settings=strict)
    with pytest.raises(DataError, match="p1_b"):
        run_predict(replace(request, output=tmp_path / "strict"), Silent())


def test_a_case_that_cannot_be_scored_for_lack_of_memory_fails_alone(config, tmp_path, monkeypatch):
    original = scoring.segment

    def segment(probabilities, *rest, **options):
        if len(done) == 1:
            done.append("failed")
            raise MemoryError("Unable to allocate 9 GiB")
        done.append("scored")
        return original(probabilities, *rest, **options)

    done = []
    monkeypatch.setattr(scoring, "segment", segment)
    evaluation = evaluated(config, tmp_path)
    assert set(evaluation.failed) == {"p1_b"}
    assert rows_of(evaluation)["p1_b"]["status"] == "failed"
    assert "p1_b" not in set(evaluation.table["case"])  # it is in no figure
    assert not (tmp_path / "out/p1_b.nii.gz").exists()
    entries = json.loads((tmp_path / "out/predict.json").read_text())["cases"]
    told = {entry["case"]: entry["status"] for entry in entries}
    assert told == dict.fromkeys(CASES, "predicted") | {"p1_b": "failed"}


@pytest.mark.parametrize("names", [(), ("white matter", "ventricles")])
def test_a_prediction_is_read_as_it_was_written(tmp_path, names):
    rng = np.random.default_rng(0)
    grid = Volume(np.zeros(SHAPE, np.uint8), np.diag([2.0, 1.5, 3.3, 1]), (0, 4))
    made = Prediction(
        grid.with_array(np.asfortranarray(rng.random((*SHAPE, 2), np.float32))),
        grid.with_array(rng.integers(0, 3, SHAPE).astype(np.uint8)),
        {name: rng.random(SHAPE, np.float32) for name in names},
        flags=("a", "b"),
        midline_x_mm=None,
        registration={"method": "affine", "problem": None},
        seconds=0.1,
    )
    made.save(tmp_path / "case.npz")
    read = Prediction.load(tmp_path / "case.npz")
    for volume, other in ((read.probabilities, made.probabilities), (read.reference, grid)):
        assert np.array_equal(volume.affine, other.affine)
        assert volume.form_codes == (0, 4)
    assert np.array_equal(read.probabilities.array, made.probabilities.array)
    assert np.array_equal(read.reference.array, made.reference.array)
    assert list(read.regions) == list(names)
    assert all(np.array_equal(read.regions[name], made.regions[name]) for name in names)
    rest = attrgetter("flags", "midline_x_mm", "registration", "seconds")
    assert rest(read) == rest(made)
