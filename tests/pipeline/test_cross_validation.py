"""``--fold all``: every patient once, at an operating point that others chose; one ensemble."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from segpipe.config import parse
from segpipe.data.layouts import open_dataset
from segpipe.data.nifti import read_image
from segpipe.data.splits import make_folds
from segpipe.errors import ConfigError, DataError, ModelError
from segpipe.model.bundle import load_bundle, save_bundle
from segpipe.model.ensemble import open_members, renew_ensemble
from segpipe.model.facts import FittingFacts
from segpipe.observer import Silent
from segpipe.pipeline import predictions
from segpipe.pipeline.evaluate import run_evaluate
from segpipe.pipeline.evaluation import CHOSEN, SELECTED
from segpipe.pipeline.predict import PredictRequest, run_predict
from segpipe.pipeline.runs import all_runs
from segpipe.pipeline.scoring import choose_point
from segpipe.pipeline.train import run_train


@pytest.fixture(scope="module")
def evaluated(tiny_values, tmp_path_factory):
    """A configuration of two folds, trained, and the folder of the pooled evaluation."""
    values = {**tiny_values, "output": str(tmp_path_factory.mktemp("folds"))}
    values["train"] = {**values["train"], "epochs": 2}
    values["evaluate"] = {**values["evaluate"], "choose": "certified"}
    values["predict"] = {**values["predict"], "mirror_axes": ["R"]}
    config = parse(values)
    assert run_train(config, "all", None, Silent()) is False
    (folder,) = (config.output / config.name / "evaluations").iterdir()
    return config, folder


def read(path):
    return json.loads(path.read_text())


def test_every_case_is_scored_once_by_the_model_that_held_it_out(evaluated):
    config, folder = evaluated
    pooled = read(folder / "pooled/scores.json")
    dataset = open_dataset(config.data)
    assert sorted(row["case"] for row in pooled["rows"]) == [case.id for case in dataset.cases]
    for fold in make_folds(dataset.cases, config.split):
        part = read(folder / f"fold-{fold.index}/scores.json")
        assert {row["case"] for row in part["rows"]} == set(fold.validation)
    owners = {case.id: case.patient for case in dataset.cases}
    assert pooled["patients"] == owners


def test_bundles_and_cards_tell_the_steps_that_were_taken(evaluated):
    config, _ = evaluated
    (run,) = all_runs(config)
    for k in range(2):
        assert load_bundle(run.bundle(k)).precision is not None
        assert load_bundle(run.bundle(k)).fitting == FittingFacts(steps=8, planned=8)
        card = (run.bundle(k) / "model-card.html").read_text()
        assert "8, 2 patches each" in card.replace("\N{NO-BREAK SPACE}", " ")
        assert run.record()["folds"][str(k)]["fitting"] == {"steps": 8, "planned": 8}
    assert load_bundle(run.path / "ensemble").fitting == FittingFacts(steps=8, planned=8)


def test_each_fold_is_scored_at_the_point_that_the_others_chose(evaluated):
    config, folder = evaluated
    pooled = read(folder / "pooled/scores.json")
    table = pd.read_parquet(folder / "pooled/components.parquet")
    folds = make_folds(open_dataset(config.data).cases, config.split)
    assert len(pooled["folds"]) == len(folds) == 2
    for fold, point in zip(folds, pooled["folds"], strict=True):
        others = {case: pooled["patients"][case] for case in fold.train}
        mine = choose_point(table[table["case"].isin(others)], others, config, obstacle="no")
        for name in ("threshold", "min_size_mm3"):
            assert point[name] == getattr(mine.operating_point, name)
        assert point["reason"].startswith("chosen on the other folds")


def test_the_point_of_all_folds_goes_into_the_bundles_without_a_certificate(evaluated):
    config, folder = evaluated
    pooled = read(folder / "pooled/scores.json")
    whole = choose_point(
        pd.read_parquet(folder / "pooled/components.parquet"),
        pooled["patients"],
        config,
        obstacle="no",
    )
    for fold in (0, 1):
        bundle = read(all_runs(config)[0].bundle(fold) / "bundle.json")
        assert bundle["operating_point"]["threshold"] == whole.operating_point.threshold
        assert bundle["validation"]["cases"] == len(pooled["rows"])
        assert bundle["validation"]["pooled"] is True
        assert bundle["validation"]["counting"] == config.evaluate.counting
        certificate = bundle["validation"]["certificate"]
        assert (certificate["adopted"], certificate["threshold"]) == (False, None)
        assert "models of folds" in certificate["statement"]


def evaluate(config, bundles, fold, split):
    return run_evaluate(config, bundles, fold, split, Console(quiet=True), Silent())


@pytest.fixture
def ensemble(evaluated):
    return all_runs(evaluated[0])[0].ensemble


def test_all_folds_become_one_bundle_with_their_common_point(evaluated, ensemble):
    folder = evaluated[1]
    bundle, pooled = load_bundle(ensemble), read(folder / "pooled/scores.json")
    assert [member.fold for member in bundle.members] == [0, 1]
    assert bundle.operating_point.threshold == pooled["operating_point"]["threshold"]
    assert bundle.mirrored == ("R",)
    assert bundle.validation["summary"] == read(ensemble / "member-1/bundle.json")["validation"][
        "summary"]  # fmt: skip
    assert "those of the ensemble were not measured" in bundle.validation["operating_point"]
    assert (bundle.dataset.training_cases, bundle.dataset.fold) == (4, None)


def test_a_run_is_concluded_once(evaluated, ensemble):
    config, folder = evaluated
    before = (ensemble / "bundle.json").stat().st_mtime_ns
    assert run_train(config, None, "last", Silent()) is False
    assert (ensemble / "bundle.json").stat().st_mtime_ns == before
    assert list(folder.parent.iterdir()) == [folder]


def test_the_ensemble_follows_its_folds_to_another_point(evaluated, ensemble, tmp_path):
    run = all_runs(evaluated[0])[0]
    copies = [tmp_path / str(k) for k in range(2)]
    for k, copy in enumerate(copies):
        shutil.copytree(run.bundle(k), copy)
    shutil.copytree(ensemble, tmp_path / "ensemble")
    bundles = [load_bundle(copy) for copy in copies]
    point = bundles[0].operating_point.model_copy(update={"threshold": 0.85})
    moved = [bundle.model_copy(update={"operating_point": point}) for bundle in bundles]
    assert not renew_ensemble(tmp_path / "none", moved)
    assert not renew_ensemble(tmp_path / "ensemble", moved[::-1])  # not its members
    assert not renew_ensemble(tmp_path / "ensemble", [moved[0], bundles[1]])  # nothing in common
    assert load_bundle(tmp_path / "ensemble") == load_bundle(ensemble)
    assert renew_ensemble(tmp_path / "ensemble", moved)
    renewed = load_bundle(tmp_path / "ensemble")
    assert renewed.operating_point == point
    assert open_members(tmp_path / "ensemble", renewed)


@pytest.mark.parametrize("fold", [0, 1, None])
def test_an_ensemble_of_folds_is_never_validated_on_their_cases(evaluated, ensemble, fold):
    with pytest.raises(ModelError, match="may have trained on these cases"):
        evaluate(evaluated[0], [str(ensemble)], fold, "validation")


def test_a_single_fold_is_evaluated_where_it_held_out_and_nowhere_else(evaluated, ensemble):
    with pytest.raises(ModelError, match="may have trained on these cases"):
        evaluate(evaluated[0], [str(ensemble / "member-1")], 0, "validation")


def test_an_ensemble_predicts_test_cases_as_its_folds_do_together(evaluated, ensemble, tmp_path):
    config, _ = evaluated
    run = all_runs(config)[0]
    scans = (config.data.root / "imagesTs",)
    ways = {"one": (str(ensemble),), "two": (str(run.bundle(0)), str(run.bundle(1)))}
    for name, bundles in ways.items():
        request = PredictRequest(
            bundles, scans, tmp_path / name, engine="keras", probabilities=True, uncertainty=True
        )
        assert run_predict(request, Silent()) is False
    one, two = (read(tmp_path / name / "predict.json") for name in ways)
    assert one["settings"] == two["settings"]
    assert one["settings"]["mirror_axes"] == ["R"]
    assert one["bundle"]["weights_sha256"] == two["bundle"]["weights_sha256"]
    assert (one["bundle"]["name"], one["bundle"]["networks"]) == ("tiny-ensemble", 2)
    for case in one["cases"]:
        for part in ("probability", "entropy", "mutual_information"):
            maps = [read_image(tmp_path / name / case["files"][part])[0] for name in ways]
            assert np.array_equal(maps[0].array, maps[1].array)
        assert 0 < maps[0].array.max() < 1  # two different networks, each under two mirrorings


def test_mirroring_is_that_of_the_operating_point_unless_said_otherwise(
    evaluated, ensemble, tmp_path
):
    config, _ = evaluated
    scans = (next((config.data.root / "imagesTs").glob("*_0000.nii.gz")),)
    channels = tuple(scans[0].with_name(scans[0].name.replace("_0000", f"_000{k}")) for k in (0, 1))
    for mirror, axes in ((False, []), (True, ["R", "A", "S"])):
        request = PredictRequest(
            (str(ensemble),), channels, tmp_path / str(mirror), engine="keras", mirror=mirror
        )
        assert run_predict(request, Silent()) is False
        assert read(tmp_path / str(mirror) / "predict.json")["settings"]["mirror_axes"] == axes


def test_test_cases_are_scored_with_the_mirroring_of_the_operating_point(evaluated, ensemble):
    config, _ = evaluated
    other = config.model_copy(
        update={"predict": config.predict.model_copy(update={"mirror_axes": ()})}
    )
    with pytest.raises(ConfigError, match=r"expected \['R'\], with which the operating point"):
        evaluate(other, [str(ensemble)], 0, "test")
    assert evaluate(config, [str(ensemble)], 0, "test") is False


def test_tiles_overlap_as_they_did_when_the_operating_point_was_chosen(
    evaluated, ensemble, tmp_path
):
    config, _ = evaluated
    wide = config.model_copy(update={"predict": config.predict.model_copy(update={"overlap": 0.7})})
    with pytest.raises(ConfigError, match=r"predict\.overlap: expected 0\.5, with which"):
        evaluate(wide, [str(ensemble)], 0, "test")
    copy = tmp_path / "copy"
    shutil.copytree(all_runs(config)[0].bundle(0), copy)
    assert evaluate(wide, [str(copy)], 0, "validation") is False
    assert load_bundle(copy).overlapped == 0.7
    scans = (next((config.data.root / "imagesTs").glob("*_0000.nii.gz")),)
    channels = tuple(scans[0].with_name(scans[0].name.replace("_0000", f"_000{k}")) for k in (0, 1))
    request = PredictRequest((str(copy),), channels, tmp_path / "out", engine="keras")
    assert run_predict(request, Silent()) is False
    assert read(tmp_path / "out/predict.json")["settings"]["overlap"] == 0.7


def test_a_case_that_fails_does_not_undo_what_the_others_chose(evaluated, tmp_path, monkeypatch):
    config, _ = evaluated
    copy = tmp_path / "copy"
    shutil.copytree(all_runs(config)[0].bundle(0), copy)
    before = load_bundle(copy)
    read_case = predictions.read_case
    bad = make_folds(open_dataset(config.data).cases, config.split)[0].validation[0]

    def failing(case, *rest):
        if case.id == bad:
            raise DataError(case.id, "damaged")
        return read_case(case, *rest)

    monkeypatch.setattr(predictions, "read_case", failing)
    assert evaluate(config, [str(copy)], 0, "validation") is True
    after = load_bundle(copy)
    assert after.validation["cases"] == 1
    assert after.validation != before.validation


def test_what_chose_the_weights_certifies_nothing(evaluated, tmp_path):
    config, _ = evaluated
    certify = config.evaluate.certify.model_copy(update={"alpha": 0.9})
    config = config.model_copy(
        update={"evaluate": config.evaluate.model_copy(update={"certify": certify})}
    )
    copy = tmp_path / "copy"
    shutil.copytree(all_runs(config)[0].bundle(0), copy)
    assert evaluate(config, [str(copy)], 0, "validation") is False
    before = load_bundle(copy).validation
    assert before["certificate"]["threshold"] is not None
    assert before["optimistic"] == [CHOSEN]
    assert CHOSEN in (copy / "model-card.html").read_text()
    fitting = load_bundle(copy).fitting.model_copy(update={"began_selected": True})
    save_bundle(copy, load_bundle(copy).model_copy(update={"fitting": fitting}))
    assert evaluate(config, [str(copy)], 0, "validation") is False
    certificate = load_bundle(copy).validation["certificate"]
    assert certificate["threshold"] is None
    assert "the weights were chosen on these patients" in certificate["statement"]
    assert SELECTED in load_bundle(copy).validation["optimistic"]
    assert SELECTED in (copy / "model-card.html").read_text()


def test_one_network_without_mirroring_disagrees_with_nobody(evaluated, ensemble, tmp_path):
    request = PredictRequest(
        (str(ensemble / "member-0"),), (tmp_path,), tmp_path, uncertainty=True, mirror=False
    )
    with pytest.raises(ConfigError, match="received one network"):
        run_predict(request, Silent())
