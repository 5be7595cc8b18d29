"""The ablation of the defaults: its list of jobs, and the arithmetic of its tables."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ablation import analyse, jobs, train
from benchmarks.report import marks


@pytest.mark.parametrize("dataset", list(jobs.DATASETS))
def test_jobs_are_told_apart_and_each_arm_changes_something(dataset):
    every = list(jobs.all_jobs((dataset,)))
    assert len({job.result for job in every}) == len(every) == jobs.SEEDS * len(jobs.ARMS)
    configs = [job.config(Path("work")) for job in every]
    for job, config in zip(every, configs, strict=True):
        assert config.train.seed == job.seed
        assert config.train.total_steps == 300
        assert sum(config == other for other in configs) == 1, job


def write(arm, seed, **figures):
    job = jobs.Job("samples", seed, arm)
    path = job.result
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("dice", "lesion_sensitivity", "lesion_f1", "false_positive_regions")
    count = len(figures["dice"])
    values = {name: figures.get(name, [0.0] * count) for name in names}
    cases = {f"c{i}": {name: values[name][i] for name in names} for i in range(count)}
    content = {"overrides": job.overrides(), "device": "cpu", "code": "abc", "cases": cases}
    path.write_text(json.dumps(content))


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "RESULTS", tmp_path)
    write(jobs.CONTROL, 0, dice=[0.5, 0.7, 0.9])
    write(jobs.CONTROL, 1, dice=[0.6, 0.7, None])
    write("SGD", 0, dice=[0.6, 0.6, 0.9], false_positive_regions=[1.0, 2.0, 3.0])
    write("SGD", 1, dice=[0.7, None, 0.9])
    write("no Dice", 0, dice=[0.1, 0.1, 0.1])


def test_differences_are_paired_by_case_and_seed(results):
    control = analyse.figures_of("samples", jobs.CONTROL, "dice")
    assert {seed: np.nan_to_num(row, nan=-1).tolist() for seed, row in control.items()} == {
        0: [0.5, 0.7, 0.9],
        1: [0.6, 0.7, -1.0],
    }
    own = analyse.figures_of("samples", "SGD", "dice")
    mean, low, high = analyse.difference(np.array([own[seed] - control[seed] for seed in (0, 1)]))
    # Pairs: +0.1 and +0.1 of the first case, -0.1 of the second, 0 of the third.
    assert mean == pytest.approx(0.025)
    assert (low, high) == pytest.approx((-0.1, 0.1))


def test_seeds_that_another_code_trained_are_not_compared(results):
    assert analyse.comparable("samples", "SGD") == [0, 1]
    assert analyse.comparable("samples", "no Dice") == [0]
    job = jobs.Job("samples", 0, "SGD")
    job.result.write_text(json.dumps(json.loads(job.result.read_text()) | {"code": "other"}))
    assert analyse.comparable("samples", "SGD") == [1]
    table = analyse.table("samples")
    assert table.endswith("Left out, as no control was trained by their code: SGD with seed 0.")


def test_dice_is_that_of_scans_with_lesions(results):
    write("no Dice", 0, dice=[0.1, 0.0, 0.1], lesion_f1=[0.5, None, 0.5])
    assert np.isnan(analyse.figures_of("samples", "no Dice", "dice")[0]).tolist() == [0, 1, 0]
    regions = analyse.figures_of("samples", "no Dice", "false_positive_regions")
    assert regions[0].tolist() == [0, 0, 0]


def test_what_is_undefined_everywhere_has_no_difference():
    assert np.isnan(analyse.difference(np.full((1, 2), np.nan))).all()


def test_tables_go_between_the_marks_of_the_page(results, tmp_path):
    page = tmp_path / "page.md"
    first, last = marks("ablation")
    page.write_text(f"before\n\n{first}\n\nold\n\n{last}\n\nafter\n")
    analyse.report(page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert (
        rows[0]
        == "| samples | seeds | Dice | lesion sensitivity | lesion F1 | false-positive regions |"
    )
    assert rows[1].startswith("| control | 0, 1 | 0.680 [0.700, 0.650] | 0.000 [0.000, 0.000] | ")
    assert rows[2].startswith("| SGD | 0, 1 | +0.025 (-0.100 to +0.100) [+0.000, +0.100] | +0.000")
    assert rows[3].startswith("| no Dice | 0 | -0.600 (")
    assert "\n\nTrained on cpu. States of the code: abc.\n\n" in text
    analyse.report(page)
    assert page.read_text() == text


def test_a_result_of_other_settings_is_trained_anew(results):
    job = jobs.Job("samples", 0, "SGD")
    assert job.read()["cases"]["c0"]["dice"] == 0.6
    other = json.loads(job.result.read_text()) | {"overrides": ["train.steps=9"]}
    job.result.write_text(json.dumps(other))
    assert job.read() is None
    assert list(analyse.figures_of("samples", "SGD", "dice")) == [1]


def test_samples_are_made_once_and_whole(tmp_path, monkeypatch):
    def broken(folder, cases, seed):
        (folder / "imagesTr").mkdir(parents=True)
        raise OSError("disk full")

    monkeypatch.setattr(train, "make_samples", broken)
    with pytest.raises(OSError, match="disk full"):
        train.make_data(tmp_path)
    assert list(tmp_path.iterdir()) == []
    made = []
    monkeypatch.setattr(train, "make_samples", lambda folder, *how: made.append(folder.mkdir()))
    train.make_data(tmp_path)
    train.make_data(tmp_path)
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == [jobs.SAMPLES]
    assert jobs.Job(jobs.SAMPLES, 0, "SGD").config(tmp_path).data.root == tmp_path / jobs.SAMPLES
