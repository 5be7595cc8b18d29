"""Runs on disk, and how a user names them."""

import re

import pytest

from segpipe.config import dump, override, parse
from segpipe.errors import ConfigError, ModelError
from segpipe.pipeline.runs import (
    RunFolder,
    all_runs,
    expect_same_configuration,
    find_run,
    finished_bundle,
    finished_run,
    sole_trainer,
)


@pytest.fixture
def config(tmp_path):
    return parse({"name": "x", "output": str(tmp_path / "runs"), "data": {"root": "d"}})


def make(config, run_id, created, bundles=()):
    run = RunFolder(config.output / config.name / run_id)
    run.write_record({"created": created, "note": "λ"})
    for fold in bundles:
        run.bundle(fold).mkdir(parents=True)
        (run.bundle(fold) / "bundle.json").write_text("{}")
    return run


def test_a_run_has_its_record_folds_and_bundles(config):
    run = make(config, "r1", "2026")
    assert run.id == "r1"
    assert run.record() == {"created": "2026", "note": "λ"}
    run.write_record({"created": "2027"})
    assert run.record() == {"created": "2027"}
    assert run.bundle(3) == run.path / "fold-3" / "bundle"


def test_runs_come_newest_first_and_other_folders_are_none(config):
    assert all_runs(config) == []
    make(config, "b", "2026-01-02")
    make(config, "a", "2026-01-03")
    make(config, "c", "2026-01-01")
    (config.output / config.name / "cache").mkdir()
    other = config.model_copy(update={"name": "y"})
    make(other, "z", "2027")
    assert [run.id for run in all_runs(config)] == ["a", "b", "c"]


def test_a_run_is_found_by_folder_id_beginning_or_last(config):
    first = make(config, "20260101-aa", "1")
    second = make(config, "20260102-bb", "2")
    assert find_run(config, str(first.path)) == first
    assert find_run(config, "20260101-aa") == first
    assert find_run(config, "20260102") == second
    assert find_run(config, "last") == second


def test_an_id_that_begins_another_is_found_itself(config):
    short = make(config, "r-1", "1")
    make(config, "r-1-2", "2")
    assert find_run(config, "r-1") == short


def test_runs_that_cannot_be_told_or_found_are_refused(config):
    with pytest.raises(ModelError, match=r"run last: .*experiment x; found none. Known .*: none"):
        find_run(config, "last")
    make(config, "a1", "1")
    make(config, "a2", "2")
    with pytest.raises(ModelError, match=r"found several. Known .*: a2, a1"):
        find_run(config, "a")
    with pytest.raises(ModelError, match=r"found none. Known .*: a2, a1"):
        find_run(config, "b")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"note": 1}'])
def test_a_damaged_record_is_named(config, text):
    run = make(config, "a1", "1")
    (run.path / "run.json").write_text(text)
    with pytest.raises(ModelError, match=r"a1/run\.json: expected"):
        find_run(config, "last")


def test_the_bundle_of_a_fold_is_that_of_the_newest_finished_run(config):
    make(config, "old", "1", bundles=(0, 1))
    middle = make(config, "middle", "2", bundles=(0,))
    newest = make(config, "new", "3")
    newest.bundle(0).mkdir(parents=True)  # begun, not finished
    assert finished_bundle(config, 0) == middle.bundle(0)
    assert finished_bundle(config, 1).parts[-3:] == ("old", "fold-1", "bundle")
    with pytest.raises(ModelError, match=r"fold 2: expected a trained bundle.*--fold 2"):
        finished_bundle(config, 2)


def test_several_folds_are_those_of_one_run(config):
    whole = make(config, "whole", "1", bundles=(0, 1))
    make(config, "newer", "2", bundles=(0,))  # still training, or a fold alone
    assert finished_run(config, (0, 1)) == whole
    with pytest.raises(ModelError, match="fold 2: expected a trained bundle"):
        finished_run(config, (0, 1, 2))


@pytest.mark.parametrize("setting", ["train.batch=7", "train.seed=1", "train.workers=0"])
def test_folds_of_several_runs_belong_together_if_their_settings_do(config, setting):
    for name, fold, settings in (("a", 0, config), ("b", 1, override(config, [setting]))):
        run = make(config, name, name, bundles=(fold,))
        (run.path / "config.yaml").write_text(dump(settings))
    if setting == "train.workers=0":
        assert finished_run(config, (0, 1)) is None
        return
    with pytest.raises(ModelError, match=rf"runs a and b, between which {setting[:10]}"):
        finished_run(config, (0, 1))


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("output=elsewhere", None),
        ("scheduler=tcp://h:1", None),
        ("prepare.workers=1", None),
        ("train.workers=0", None),
        ("train.memory_mb=7", None),
        ("tracking.overlays=0", None),
        ("tracking.enabled=false", "tracking.enabled: True became False"),
        ("card.ethics=none", None),
        ("prepare.crop=false", "prepare.crop: True became False"),
        ("train.batch=7", "train.batch: 4 became 7"),
        ("data.labels={core: 3}", "data.labels.core: None became 3"),
    ],
)
def test_a_run_is_resumed_only_where_its_figures_stay_the_same(config, setting, why):
    run = make(config, "r", "1")
    (run.path / "config.yaml").write_text(dump(config))
    other = override(config, [setting])
    assert other != config
    if why is None:
        expect_same_configuration(other, run)
        return
    with pytest.raises(ConfigError, match=re.escape(why)):
        expect_same_configuration(other, run)


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path):
    run = RunFolder(tmp_path / "run")
    said = r"--resume run: .* another segpipe train is in"
    with sole_trainer(run), pytest.raises(ConfigError, match=said), sole_trainer(run):
        pass
    with sole_trainer(run):
        pass
