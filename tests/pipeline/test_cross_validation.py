"""``--fold all``: every patient once, at an operating point that others chose."""

import json

import pandas as pd
import pytest
from rich.console import Console

from segpipe.config import parse
from segpipe.data.layouts import open_dataset
from segpipe.data.splits import make_folds
from segpipe.observer import Silent
from segpipe.pipeline.evaluate import run_evaluate
from segpipe.pipeline.runs import all_runs
from segpipe.pipeline.scoring import choose_point
from segpipe.pipeline.train import run_train


@pytest.fixture(scope="module")
def evaluated(tiny_values, tmp_path_factory):
    """A configuration of two folds, trained, and the folder of its pooled evaluation."""
    values = {**tiny_values, "output": str(tmp_path_factory.mktemp("folds"))}
    values["train"] = {**values["train"], "epochs": 2}
    values["evaluate"] = {**values["evaluate"], "choose": "certified"}
    config = parse(values)
    assert run_train(config, "all", None, Silent()) is False
    assert run_evaluate(config, [], None, "validation", Console(quiet=True), Silent()) is False
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
        certificate = bundle["validation"]["certificate"]
        assert (certificate["adopted"], certificate["threshold"]) == (False, None)
        assert "models of folds" in certificate["statement"]
