"""The study's reading of counts: fewest false positives at a sensitivity, against the control."""

import json

import numpy as np
import pytest

from benchmarks.study import analyse, jobs
from segpipe.config import load


def result(detected, wrong, predicted, shared):
    """One case of 4 lesions and 100 voxels: one size, thresholds as given."""
    return {
        "reference_voxels": 100,
        "detected": [detected],
        "missed": [[4 - d for d in detected]],
        "false_positives": [wrong],
        "predicted_voxels": [predicted],
        "shared_voxels": [shared],
    }


CONTROL = result([4, 3, 2], [20, 10, 2], [200, 150, 100], [90, 80, 60])
BETTER = result([4, 3, 1], [12, 4, 1], [180, 140, 50], [90, 80, 30])


def curves(cases):
    return analyse._curves([cases])


def test_envelope_takes_the_fewest_false_positives_that_reach_a_sensitivity():
    regions, dice = analyse.envelope(curves([CONTROL]), np.ones(1))
    read = dict(zip(np.round(analyse.GRID, 2).tolist(), regions, strict=True))
    assert (read[0.5], read[0.51], read[0.75], read[0.76], read[1.0]) == (2, 10, 10, 20, 20)
    overlaps = dict(zip(np.round(analyse.GRID, 2).tolist(), dice, strict=True))
    assert overlaps[0.75] == pytest.approx(2 * 80 / 250)


def test_arm_is_compared_at_the_controls_best_f1_and_over_its_range():
    both = {"plain": curves([CONTROL]), "all": curves([BETTER])}
    found = analyse.compare(both, "all", np.ones(1))
    assert found["sensitivity"] == pytest.approx(0.5)  # F1: 4/14, 3/8.5, 2/4
    assert found["false_positive_regions"] == 4  # 1 of 4 lesions at the next threshold
    assert found["ratio"] == pytest.approx(2.0)
    steps = np.array([(s + 1e-9 >= analyse.GRID).sum() for s in (0.25, 0.5, 0.75, 1.0)])
    widths = np.diff(np.r_[0, steps])
    control, mine = widths @ [2, 2, 10, 20], widths @ [1, 4, 4, 12]
    assert found["range_ratio"] == pytest.approx(mine / control)
    own = analyse.compare(both, "plain", np.ones(1))
    assert (own["ratio"], own["range_ratio"], own["dice_difference"]) == (1, 1, 0)


def test_only_whole_arms_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "RESULTS", tmp_path)
    folds = jobs.DATASETS["samples"][2]
    for arm, done in (("plain", folds), ("all", folds), ("voxel", folds - 1)):
        for fold in range(done):
            path = jobs.Job("samples", fold, 0, arm).result
            path.parent.mkdir(exist_ok=True)
            counts = {f"c{fold}": CONTROL if arm == "plain" else BETTER}
            path.write_text(json.dumps({"cases": counts}))
    arms, cases, seeds = analyse.load_curves("samples")
    assert (list(arms), len(cases), seeds) == (["plain", "all"], folds, [0])
    table = analyse.table(analyse.analyse("samples"))
    assert table[2].startswith("| plain | 2.0 | 1.00 (1.00 to 1.00) |")


@pytest.mark.parametrize("dataset", list(jobs.DATASETS))
def test_jobs_are_told_apart_and_their_configurations_are_valid(dataset):
    every = list(jobs.all_jobs((dataset,)))
    assert len({job.result for job in every}) == len(every)
    for arm in jobs.ARMS:
        config = load(jobs.DATASETS[dataset][0], jobs.Job(dataset, 0, 2, arm).overrides())
        loss = config.loss
        on = loss.voxel_count.weight, loss.region_count.weight, loss.missed_weight
        names = ("voxel_count", "region_count", "missed")
        assert on == tuple(jobs.ARMS[arm].get(f"loss.{name}.weight", 0.0) for name in names)
        assert bool(config.anatomy.regions) == (not arm.endswith("no anatomy"))
        assert config.train.seed == 2
