"""Planning and preparing a dataset from its folder."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
import yaml

from segpipe.config import load, parse
from segpipe.data.layouts import open_dataset
from segpipe.data.splits import make_folds
from segpipe.errors import ConfigError, DataError
from segpipe.observer import Silent
from segpipe.pipeline.plan import render, run_plan
from segpipe.pipeline.prepare import chosen_fold, plan_for, prepare_cases, run_prepare
from segpipe.planning import Choice


class Listener(Silent):
    def __init__(self):
        self.lines = []
        self.steps = []

    def message(self, text):
        self.lines.append(text)

    def progress(self, done, total, text=""):
        self.steps.append((done, total))


def make_dataset(root, cases=4, label="lesion", spacings=None):
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for index in range(cases):
        rng = np.random.default_rng([6, index])
        affine = np.diag([1.0, 1.0, (spacings or [1.0] * cases)[index], 1])
        reference = np.zeros((12, 12, 12), np.uint8)
        reference[4:6, 4:6, 4:6] = 1
        image = rng.normal(100, 10, (12, 12, 12)).astype(np.float32)
        nib.Nifti1Image(image, affine).to_filename(root / f"imagesTr/c{index}_0000.nii.gz")
        nib.Nifti1Image(reference, affine).to_filename(root / f"labelsTr/c{index}.nii.gz")
    manifest = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, label: 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(manifest))
    return root


@pytest.fixture
def config(tmp_path):
    return parse(
        {
            "name": "x",
            "output": str(tmp_path / "runs"),
            "data": {"root": str(make_dataset(tmp_path / "data"))},
            "split": {"folds": 2},
            "prepare": {"workers": 1},
        }
    )


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("segpipe.pipeline.plan.has_gpu", lambda backend: False)


@pytest.mark.usefixtures("no_gpu")
def test_a_plan_is_a_configuration_whose_choices_say_why(tmp_path):
    root = make_dataset(tmp_path / "my data.v2", label="left spot")
    path = tmp_path / "plans" / "p.yaml"
    listener = Listener()
    text = run_plan(root, (), path, listener)
    assert path.read_text(encoding="utf-8") == text
    assert listener.lines == [f"planned 4 cases: {path}"]
    config = load(path)
    assert config == parse(yaml.safe_load(text))
    assert (config.name, str(config.data.root), config.data.layout) == (
        "my-data",
        str(root),
        "nnunet",
    )
    assert config.train.patch == (12, 12, 12)
    assert config.prepare.spacing_mm == (1, 1, 1)
    assert config.split.folds == 4
    assert config.augment.mirror_axes == ("A", "S")
    lines = [line for line in text.splitlines() if "# chosen: " in line]
    assert len(lines) == 16
    assert any("mirror_axes" in line and "left spot" in line for line in lines)
    assert all("#" in line for line in text.splitlines() if line)
    with pytest.raises(ConfigError, match=r"p\.yaml: exists already"):
        run_plan(root, (), path, listener)


@pytest.mark.usefixtures("no_gpu")
def test_what_was_asked_for_is_in_the_plan_and_marked(tmp_path):
    root = make_dataset(tmp_path / "d")
    asked = {
        "name": "mine",
        "data.ignore_label": "9",
        "prepare.spacing_mm": "[0.5, 0.5, 0.5]",
        "model.deep_supervision": "true",
        "loss.region_count.weight": "0.1",
        "train": "{budget: 1h30min, precision: float32, device: cpu}",
    }
    path = tmp_path / "p.yaml"
    text = run_plan(root, [f"{key}={value}" for key, value in asked.items()], path, Silent())
    config = load(path)
    assert (config.name, config.data.ignore_label, config.data.root) == ("mine", 9, root)
    assert config.prepare.spacing_mm == (0.5, 0.5, 0.5)
    assert config.model.deep_supervision
    assert config.loss.region_count.weight == 0.1
    assert (config.train.budget_seconds, config.train.precision) == (5400, "float32")
    assert config.train.patch == (24, 24, 24)  # 12 mm
    marked = {
        line.split(":")[0].strip() for line in text.splitlines() if "chosen: as asked" in line
    }
    stands = "name ignore_label spacing_mm deep_supervision weight budget precision device"
    assert marked == set(stands.split())
    assert sum("chosen: as asked" in line for line in text.splitlines()) == 8


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("train.budget=soon", r"overrides: train\.budget.*length of time"),
        ("train.epoch=3", r"overrides: train\.epoch: unknown name.*Did you mean epochs"),
        ("predict.mirror_axes=[R]", r"plan: .*predict\.mirror_axes: expected axes that training"),
    ],
)
def test_what_is_invalid_or_contradicts_the_plan_is_refused(tmp_path, asked, said):
    root = make_dataset(tmp_path / "d", label="left spot")  # which is not mirrored along R
    with pytest.raises(ConfigError, match=said):
        run_plan(root, [asked], tmp_path / "p.yaml", Silent())
    assert not (tmp_path / "p.yaml").exists()


def test_cpu_asked_for_is_planned_for_whatever_else_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr("segpipe.pipeline.plan.has_gpu", lambda backend: True)
    monkeypatch.setattr("segpipe.pipeline.plan.cores", lambda: 3)
    text = run_plan(make_dataset(tmp_path / "d"), ["train.device=cpu"], None, Silent())
    assert "as asked; planned for a CPU of 3 cores" in text


@pytest.mark.usefixtures("no_gpu")
def test_long_and_foreign_folder_names_make_names(tmp_path):
    for folder, name in (("a" * 80, "a" * 64), ("Ünï", "n"), ("数据", "experiment")):
        text = run_plan(make_dataset(tmp_path / folder, cases=2), (), None, Silent())
        assert parse(yaml.safe_load(text)).name == name


def test_a_dataset_without_training_cases_is_refused(tmp_path):
    root = make_dataset(tmp_path / "d", cases=1)
    (root / "imagesTr").rename(root / "imagesTs")
    (root / "labelsTr" / "c0.nii.gz").unlink()
    with pytest.raises(DataError, match="no training case"):
        run_plan(root, (), None, Silent())


@pytest.mark.usefixtures("no_gpu")
def test_a_plan_needs_a_reference_and_is_named_for_the_folder_of_a_manifest(tmp_path):
    root = make_dataset(tmp_path / "brains", cases=2)
    (root / "dataset.json").unlink()
    rows = "case,image,reference\n"
    for case in ("c0", "c1"):
        rows += f"{case},imagesTr/{case}_0000.nii.gz,labelsTr/{case}.nii.gz\n"
    table = root / "manifest.csv"
    table.write_text(rows)
    assert parse(yaml.safe_load(run_plan(table, (), None, Silent()))).name == "brains"
    table.write_text(re.sub(r"labelsTr/c\d.nii.gz", "", rows))
    with pytest.raises(DataError, match="no training case has a reference"):
        run_plan(table, (), None, Silent())


def test_reasons_stay_comments_whatever_they_hold():
    config = parse({"name": "x", "data": {"root": "d"}})
    reason = "left\nname: evil # tell the sides apart"
    text = render(config, [Choice("augment.mirror_axes", ("A",), reason)])
    planned = parse(yaml.safe_load(text))
    assert planned.name == "x"
    assert planned.augment.mirror_axes == ("A",)
    assert planned.model_copy(update={"augment": config.augment}) == config


def test_choices_that_do_not_validate_are_refused():
    config = parse({"name": "x", "data": {"root": "d"}})
    with pytest.raises(ConfigError, match=r"plan: train.batch"):
        render(config, [Choice("train.batch", 0, "none")])


def test_every_case_is_prepared_once_for_folds_that_share_a_plan(config):
    listener = Listener()
    assert run_prepare(config, listener) is False
    assert listener.lines == [
        "fold 0: 4 cases at 1 × 1 × 1 mm",
        f"prepared 4 cases in {config.output / 'cache'}",
        f"look at the regions: {config.output / 'x' / 'prepare' / 'index.html'}",
    ]
    assert listener.steps == [(1, 4), (2, 4), (3, 4), (4, 4)] * 2  # prepared, then drawn
    assert len(list((config.output / "cache").glob("*/*/case.json"))) == 4


def test_a_plan_comes_from_the_training_cases_of_its_fold(tmp_path):
    root = make_dataset(tmp_path / "data", spacings=[1.0, 2.0, 3.0, 9.0])
    config = parse(
        {
            "name": "x",
            "data": {"root": str(root)},
            "split": {"folds": 4},
            "prepare": {"workers": 1},
        }
    )
    dataset = open_dataset(config.data)
    spacing = dict(zip([c.id for c in dataset.cases], (1.0, 2.0, 3.0, 9.0), strict=True))
    for fold in make_folds(dataset.cases, config.split):
        expected = np.median([spacing[case] for case in fold.train])
        assert plan_for(dataset, fold, config).spacing_mm == pytest.approx((1, 1, expected))
        assert chosen_fold(dataset, config, fold.index) == fold
    for index in (-1, 4):
        with pytest.raises(ConfigError, match=rf"--fold: expected 0 to 3 or all; received {index}"):
            chosen_fold(dataset, config, index)


@pytest.fixture
def broken(config):
    path = config.data.root / "imagesTr" / "c1_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    return config


def test_a_broken_case_is_told_at_the_end_and_the_others_are_prepared(broken):
    listener = Listener()
    assert run_prepare(broken, listener) is True
    told = [line for line in listener.lines if line.startswith("failed: ")]
    assert len(told) == 1
    assert told[0].startswith("failed: c1: ")
    assert "c1_0000.nii.gz" in told[0]
    assert listener.lines[-2].startswith("prepared 3 cases in ")


def test_strict_stops_at_the_first_broken_case(broken):
    strict = broken.model_copy(
        update={"predict": broken.predict.model_copy(update={"strict": True})}
    )
    dataset = open_dataset(strict.data)
    plan = plan_for(dataset, chosen_fold(dataset, strict, 0), strict)
    listener = Listener()
    with pytest.raises(DataError, match="c1_0000"):
        prepare_cases(dataset.cases, dataset, plan, strict, listener)
    assert listener.steps[-1] == (2, 4)


def test_prepared_cases_come_in_the_order_asked_for_and_keep_their_flags(config):
    region = {"name": "wm", "source": "mask", "file": "wm/{case}.nii.gz", "optional": True}
    with_region = parse({**config.model_dump(mode="json"), "anatomy": {"regions": [region]}})
    dataset = open_dataset(with_region.data)
    plan = plan_for(dataset, chosen_fold(dataset, with_region, 0), with_region)
    asked = dataset.cases[::-1]
    prepared = prepare_cases(asked, dataset, plan, with_region, Silent())
    assert list(prepared.cases) == [case.id for case in asked]
    assert prepared.failed == {}
    case = prepared.cases["c0"]
    assert case.region_names == ()
    assert any("wm" in flag for flag in case.flags)
    assert len(case.foreground[1]) == 8
