"""The study's reading of counts: fewest false positives at a sensitivity, against the control."""

import itertools
import json

import numpy as np
import pytest

from benchmarks import bootstrap
from benchmarks.blob_loss import BlobLoss
from benchmarks.report import marks
from benchmarks.study import analyse, jobs, page, shifted, train
from segpipe.backend import select
from segpipe.config import EvaluateConfig, OperatingPoint, load
from segpipe.evaluate.score import tabulate
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.table import THRESHOLDS
from segpipe.volume import Volume


def counts(detected, wrong, predicted, shared, lesions=4):
    """One case of 4 lesions and 100 voxels: settings as given."""
    return {
        "reference_voxels": 100 if lesions else 0,
        "lesions": lesions,
        "detected": detected,
        "false_positives": wrong,
        "predicted_voxels": predicted,
        "shared_voxels": shared,
    }


CONTROL = counts([4, 3, 2], [20, 10, 2], [200, 150, 100], [90, 80, 60])
BETTER = counts([4, 3, 1], [12, 4, 1], [180, 140, 50], [90, 80, 30])
SETTINGS = [[0.0, 0.5, None], [0.0, 0.95, None], [0.0, 0.999, None]]


def curves(cases):
    return analyse._curves([cases], [0, 1, 2], np.array([False, False, True]))


def read(values):
    return dict(zip(np.round(analyse.GRID, 2).tolist(), values, strict=True))


def write_fold(dataset, arm, seed, fold, own, base="one", **content):
    path = jobs.Job(dataset, fold, seed, arm).result
    path.parent.mkdir(exist_ok=True)
    content = {"base": base, "config": {}, "settings": SETTINGS} | content
    told = {"dataset": dataset, "seed": seed, "fold": fold, "cases": {f"c{fold}": own}}
    path.write_text(json.dumps(told | content))


def test_envelope_takes_the_fewest_false_positives_that_reach_a_sensitivity():
    best = analyse.envelope(curves([CONTROL]), np.ones(1))
    regions, overlaps, edge = read(best.regions), read(best.dice), read(best.at_edge)
    assert [regions[s] for s in (0.5, 0.51, 0.75, 0.76, 1.0)] == [2, 10, 10, 20, 20]
    assert overlaps[0.75] == pytest.approx(2 * 80 / 250)
    assert (edge[0.5], edge[0.51]) == (True, False)  # there may be better ones above 0.999


def test_the_end_of_what_was_swept_is_marked_on_both_sides():
    swept = {
        (0.0, 0.5, None): False,
        (0.0, 0.05, None): True,  # the lowest
        (0.0, 0.2, 0.95): True,  # the lowest with a core
        (0.0, 0.5, 0.95): False,
        (0.0, 0.5, 0.99): True,  # the highest core
        (0.0, 0.99, None): True,
        (100.0, 0.5, 0.95): True,  # the largest size
    }
    assert analyse.at_edge(list(swept)).tolist() == list(swept.values())


def test_of_settings_with_as_few_false_positives_the_masks_decide():
    equal = counts([2, 3, 3], [5, 5, 5], [40, 150, 100], [40, 80, 75])
    best = analyse.envelope(curves([equal]), np.ones(1))
    assert read(best.dice)[0.75] == pytest.approx(2 * 75 / 200)
    assert read(best.regions)[0.5] == 5
    assert np.isnan(read(best.regions)[0.76])


def test_envelope_agrees_with_trying_every_setting():
    rng = np.random.default_rng(7)
    cases, settings, weights = 5, 40, np.array([1.0, 0, 2, 1, 1])
    lesions = np.array([3, 6, 0, 5, 2.0])
    found = np.floor(rng.random((2, cases, settings)) * (lesions[:, None] + 1))
    wrong = rng.integers(0, 6, (2, cases, settings)).astype(float)
    dice = np.where(lesions[:, None] > 0, rng.random((2, cases, settings)), np.nan)
    own = analyse.Curves(found, wrong, dice, lesions, np.zeros(settings, bool))
    best = analyse.envelope(own, weights)
    with_lesions = weights * (lesions > 0)
    for k, sensitivity in enumerate(analyse.GRID):
        regions, overlaps = [], []
        for seed in range(2):
            tried = [
                (
                    sum(weights * wrong[seed, :, m]) / 5,
                    -sum(with_lesions * np.nan_to_num(dice[seed, :, m])) / with_lesions.sum(),
                )
                for m in range(settings)
                if sum(weights * found[seed, :, m]) >= (sensitivity - 1e-12) * 10
            ]
            few, loss = min(tried, default=(np.nan, np.nan))
            regions.append(few)
            overlaps.append(-loss)
        assert best.regions[k] == pytest.approx(np.mean(regions), nan_ok=True)
        assert best.dice[k] == pytest.approx(np.mean(overlaps), nan_ok=True)


def test_arm_is_compared_at_the_controls_best_f1_and_over_the_range_of_both():
    three = {"plain": curves([CONTROL]), "all": curves([BETTER])}
    found = analyse.compare(three, np.ones(1))
    mine = found["all"]
    assert mine["sensitivity"] == pytest.approx(0.5)  # F1: 4/14, 3/8.5, 2/4
    assert mine["false_positive_regions"] == 4  # 1 of 4 lesions at the next threshold
    assert mine["ratio"] == pytest.approx(2.0)
    steps = np.array([(s + 1e-9 >= analyse.GRID).sum() for s in (0.25, 0.5, 0.75, 1.0)])
    widths = np.diff(np.r_[0, steps])
    ratios = (widths @ [1, 4, 4, 12]) / (widths @ [2, 2, 10, 20])
    assert mine["range_ratio"] == pytest.approx(ratios)
    alike = np.exp(widths @ np.log([1 / 2, 4 / 2, 4 / 10, 12 / 20]) / len(analyse.GRID))
    assert mine["range_mean_ratio"] == pytest.approx(alike)
    gained = (
        widths @ [0.4 - 0.6, 160 / 240 - 0.6, 160 / 240 - 0.64, 180 / 280 - 0.6] / len(analyse.GRID)
    )
    assert mine["range_dice_difference"] == pytest.approx(gained)
    assert mine["at_edge"] == [False, True, False, False, False]  # at best F1, then at SHOWN
    own = found["plain"]
    assert (own["ratio"], own["range_ratio"], own["dice_difference"]) == (1, 1, 0)
    assert own["range_mean_ratio"] == 1

    short = counts([3, 3, 1], [4, 4, 1], [140, 140, 50], [80, 80, 30])
    fewer = analyse.compare({**three, "voxel": curves([short])}, np.ones(1))
    assert [arm["common"] for arm in fewer.values()] == pytest.approx([1, 1, 0.75])
    assert fewer["all"]["range_ratio"] == pytest.approx(ratios)  # whatever the others reach
    widths[3] = 0  # it is not read where it, or the control, does not get to
    ratios = (widths @ [1, 4, 4, 0]) / (widths @ [2, 2, 10, 20])
    assert fewer["voxel"]["range_ratio"] == pytest.approx(ratios)


def test_an_arm_that_does_not_reach_the_sensitivity_is_not_excused():
    low = counts([1, 1, 1], [4, 2, 1], [50, 50, 50], [30, 30, 30])
    found = analyse.compare({"plain": curves([CONTROL]), "all": curves([low])}, np.ones(1))
    assert found["all"]["ratio"] == np.inf
    assert np.isnan(found["all"]["dice_difference"])
    assert bootstrap.interval([0.5] * 90 + [np.inf] * 10) == [0.5, None]
    assert bootstrap.interval([0.5, np.nan]) == [0.5, 0.5]
    assert bootstrap.interval([np.nan]) == [None, None]


def test_a_scan_without_lesions_enters_neither_f1_nor_dice():
    free = counts([0, 0, 0], [0, 50, 90], [0, 500, 900], [0, 0, 0], lesions=0)
    alone, both = curves([CONTROL]), curves([CONTROL, free])
    assert analyse.best_f1(both, np.ones(2)) == analyse.best_f1(alone, np.ones(1)) == 0.5
    best = analyse.envelope(both, np.ones(2))
    assert read(best.regions)[0.5] == 10  # (20 + 0) / 2; its regions are false positives
    assert read(best.dice)[0.5] == pytest.approx(2 * 90 / 300)


def test_only_whole_arms_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "RESULTS", tmp_path)
    folds = jobs.DATASETS["samples"][2]
    for arm, done in (("plain", folds), ("all", folds), ("voxel", folds - 1)):
        for fold in range(done):
            write_fold("samples", arm, 0, fold, CONTROL if arm == "plain" else BETTER)
    arms, cases, seeds = analyse.load_curves("samples")
    assert (list(arms), len(cases), seeds) == (["plain", "all"], folds, [0])
    table = page.table(analyse.analyse("samples"))
    assert table[2].startswith("| plain | 2.0* | 1 |  | 1 | 1 |  |")
    assert table[2].endswith(" | 2.0* (0.60), 2.0* (0.60), 10.0 (0.64), 20.0* (0.60) |")
    assert table[3].startswith("| all | 4.0 | 2.00 (2.00 to 2.00) |")

    write_fold("samples", "all", 0, 2, BETTER, base="another")
    assert analyse.load_curves("samples") == ({}, [], [])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"settings": [[0.0, 0.5, None]]}, "settings"),
        ({"config": {"train": {"seed": 1, "steps": 9}, "new": 1}}, "train.steps"),
    ],
)
def test_results_of_other_settings_are_not_pooled(tmp_path, monkeypatch, content, named):
    monkeypatch.setattr(jobs, "RESULTS", tmp_path)
    config = {"train": {"seed": 0, "steps": 8}}
    for fold in range(jobs.DATASETS["samples"][2]):
        write_fold("samples", "plain", 0, fold, CONTROL, config=config)
    same = {"train": {"seed": 1, "steps": 8}, "new": 1}  # a field of a later revision
    for fold in range(jobs.DATASETS["samples"][2]):
        write_fold("samples", "plain", 1, fold, CONTROL, config=same)
    assert analyse.load_curves("samples")[2] == [0, 1]
    write_fold("samples", "plain", 1, 3, CONTROL, **content)
    with pytest.raises(ValueError, match=f"plain, samples, seed 1, fold 3: .* for {named}\\."):
        analyse.load_curves("samples")


def test_an_arm_is_also_read_at_the_thresholds_of_an_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "RESULTS", tmp_path)
    for arm, own in (("plain", CONTROL), ("all", BETTER)):
        for fold in range(jobs.DATASETS["samples"][2]):
            write_fold("samples", arm, 0, fold, own)
    wide, usual = analyse.analyse("samples"), analyse.analyse("samples", "usual")
    # The control's best F1 has 2 of 4 lesions above 0.999, and 3 of 4 where that is not swept.
    assert [found["arms"]["all"]["sensitivity"] for found in (wide, usual)] == pytest.approx(
        [0.5, 0.75]
    )
    assert [found["arms"]["all"]["ratio"] for found in (wide, usual)] == [2.0, 0.4]


def test_the_sweeps_have_the_thresholds_of_an_evaluation_or_higher_ones_too():
    considered = EvaluateConfig()
    swept = {
        name: [one for one in train.SETTINGS if has(one)]
        for name, (_, has) in analyse.SWEEPS.items()
    }
    assert {t for _, t, core in swept["usual"] if core is None} == set(THRESHOLDS)
    assert {core for _, t, core in swept["usual"] if t == 0.8} == {None, 0.85, 0.9, 0.95}
    assert {core for _, _, core in swept["one threshold"]} == {None}
    assert {t for _, t, _ in swept["one threshold"]} == set(train.THRESHOLDS)
    for settings in swept.values():
        assert {size for size, _, _ in settings} >= set(considered.min_sizes_mm3)
        assert min(t for _, t, _ in settings) == min(THRESHOLDS)
    assert max(t for _, t, _ in swept["all"]) == 0.999999
    largest = {name: max(size for size, _, _ in settings) for name, settings in swept.items()}
    assert largest == {"one threshold": 500, "all": 500, "usual": max(considered.min_sizes_mm3)}


def test_hysteresis_is_counted_as_an_evaluation_counts_it():
    reference = np.zeros((12, 1, 1), np.uint8)
    reference[1:3] = 1
    probability = np.zeros((12, 1, 1))
    probability[1:4, 0, 0] = 0.6, 0.99, 0.6  # a lesion, found with a core
    probability[6:8, 0, 0] = 0.6, 0.6  # a false positive without one
    probability[10, 0, 0] = 0.96
    volume = Volume(reference, np.eye(4))
    views = tabulate(
        "c",
        volume,
        volume.with_array(probability),
        {"lesion": (1,)},
        ScoreSettings.from_config(EvaluateConfig(), OperatingPoint()),
        train.THRESHOLDS,
    )
    found = train._counts(views)
    at = {one: k for k, one in enumerate(train.SETTINGS)}
    assert (found["lesions"], found["reference_voxels"]) == (1, 2)

    def of(*setting):
        names = ("detected", "false_positives", "predicted_voxels", "shared_voxels")
        return tuple(found[name][at[setting]] for name in names)

    assert of(0.0, 0.5, None) == (1, 2, 6, 2)
    assert of(0.0, 0.5, 0.9) == (1, 1, 4, 2)
    assert of(0.0, 0.5, 0.98) == (1, 0, 3, 2)
    assert of(0.0, 0.95, None) == (1, 1, 2, 1)
    assert of(3.0, 0.5, None) == (1, 0, 3, 2)
    assert of(0.0, 0.5, 0.999) == (0, 0, 0, 0)


@pytest.mark.parametrize("dataset", list(jobs.DATASETS))
def test_jobs_are_told_apart_and_their_configurations_are_valid(dataset):
    every = list(jobs.all_jobs((dataset,)))
    assert len({job.result for job in every}) == len(every)
    moved = [job.arm == jobs.SHIFTED for job in every]
    assert sum(moved) == jobs.SEEDS * jobs.DATASETS[dataset][2]
    assert len(list(itertools.groupby(every, key=lambda job: job.block))) == sum(moved)
    job = jobs.Job(dataset, 1, 2, jobs.SHIFTED)
    assert job.overrides() == jobs.Job(dataset, 1, 2, "all").overrides()
    assert job.result.name == "seed2-fold1-all-shifted-10-mm.json"
    for arm in jobs.ARMS:
        config = load(jobs.DATASETS[dataset][0], jobs.Job(dataset, 0, 2, arm).overrides())
        loss = config.loss
        on = loss.voxel_count.weight, loss.region_count.weight, loss.missed_weight
        names = ("voxel_count", "region_count", "missed")
        assert on == tuple(jobs.ARMS[arm].get(f"loss.{name}.weight", 0.0) for name in names)
        assert bool(config.anatomy.regions) == (not arm.endswith("no anatomy"))
        assert config.train.seed == 2


def test_a_fold_that_is_not_whole_needs_the_base_that_its_arms_forked_from(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "RESULTS", tmp_path / "results")
    listed = list(jobs.all_jobs(("samples",), 1))
    per_fold = len(jobs.ARMS) + 1
    blocks = [listed[first : first + per_fold] for first in range(0, len(listed), per_fold)]

    def done(job, base, batch=2):
        job.result.parent.mkdir(parents=True, exist_ok=True)
        config = {"name": job.config().name, "train": {"batch": batch}}
        job.result.write_text(json.dumps({"base": base, "config": config}))

    for job in blocks[0]:
        done(job, "of an earlier revision")  # whole: it stays
    for job in blocks[1][:3]:
        done(job, f"{job.base()}-one")
    assert jobs.what_is_left(listed, tmp_path) == blocks[1:]
    (tmp_path / f"{blocks[1][0].base()}-two").mkdir()  # of another machine
    assert jobs.what_is_left(listed, tmp_path) == blocks[1:]
    (tmp_path / f"{blocks[1][0].base()}-two").rename(tmp_path / f"{blocks[1][0].base()}-one")
    assert jobs.what_is_left(listed, tmp_path) == [blocks[1][3:], *blocks[2:]]
    done(blocks[1][1], "of an earlier revision")
    assert jobs.what_is_left(listed, tmp_path)[0] == [blocks[1][1], *blocks[1][3:]]
    for job in blocks[1]:
        done(job, f"{job.base()}-one")
    done(blocks[1][4], "of an earlier revision")  # stopped while it was trained anew
    assert jobs.what_is_left(listed, tmp_path) == [[blocks[1][4]], *blocks[2:]]
    done(blocks[0][2], "of an earlier revision", batch=1)  # a default changed since
    assert jobs.what_is_left(listed, tmp_path)[0] == blocks[0]


def test_the_published_loss_takes_over_at_the_fork_of_its_arm_alone():
    device = select(device="cpu", precision="float32")
    for arm in (*jobs.ARMS, jobs.SHIFTED):
        job = jobs.Job("samples", 0, 0, arm)
        objective = train.objective_of(job, job.config(), device)
        assert (objective == BlobLoss(labelling="host")) == (arm == "blob loss")
        assert (objective is None) == (arm != "blob loss")
    blob = jobs.Job("samples", 0, 0, "blob loss")
    assert blob.overrides() == jobs.Job("samples", 0, 0, jobs.CONTROL).overrides()


def test_a_base_is_that_of_one_fold_seed_and_configuration():
    one = jobs.Job("samples", 0, 0, "all")
    assert one.base() == jobs.Job("samples", 0, 0, "voxel").base()
    assert one.base().startswith("samples-seed0-fold0-")
    others = {jobs.Job("samples", 1, 0, "all"), jobs.Job("samples", 0, 1, "all")}
    assert len({job.base() for job in (one, *others)}) == 3


def test_a_control_that_finds_next_to_nothing_is_read_at_the_lowest_sensitivity():
    rare = counts([1, 20, 20], [0, 5000, 5000], [1] * 3, [1] * 3, lesions=50)
    found = analyse.compare({"plain": curves([rare]), "all": curves([rare])}, np.ones(1))
    assert found["all"]["sensitivity"] == pytest.approx(analyse.GRID[0])


def test_regions_move_by_10_mm_towards_anterior_and_the_edge_fills_in():
    regions = np.zeros((2, 8, 3, 2), np.uint8)
    regions[:, 1, :, 0] = 200
    regions[:, 0, :, 1] = 255
    moved = shifted.shift_regions(regions, (1.0, 3.0, 9.0))  # 3 voxels of 3 mm
    assert moved[0, :, 0, 0].tolist() == [0, 0, 0, 0, 200, 0, 0, 0]
    assert moved[0, :, 0, 1].tolist() == [255, 255, 255, 255, 0, 0, 0, 0]


def test_the_cost_of_moved_regions_is_read_at_equal_false_positives_and_at_one_threshold():
    true, moved = curves([CONTROL]), curves([BETTER])
    found = shifted.compare_shifted(true, moved, np.ones(1), 1)
    # F1 of CONTROL: 8/28, 6/17, 4/8: its best has 2 false positives and 2 of 4 lesions. BETTER has
    # 1 of 4 lesions with at most 2 false positives.
    assert found == {
        "at_equal_false_positives": -0.25,
        "at_threshold": 0.0,
        "sensitivity": 0.5,
        "false_positive_regions": 2.0,
    }
    same = shifted.compare_shifted(true, true, np.ones(1), 0)
    assert (same["at_equal_false_positives"], same["at_threshold"]) == (0, 0)
    never = curves([counts([4, 3, 2], [20, 10, 3], [1, 1, 1], [1, 1, 1])])
    assert np.isnan(shifted.compare_shifted(true, never, np.ones(1), 2)["at_equal_false_positives"])


def test_the_shifted_arm_is_read_with_the_seeds_that_both_arms_have(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "RESULTS", tmp_path)
    assert shifted.analyse_shifted("samples") == {}
    for arm, seeds, own in (("all", 2, CONTROL), (jobs.SHIFTED, 1, BETTER)):
        for seed in range(seeds):
            for fold in range(jobs.DATASETS["samples"][2]):
                settings = [[0.0, t, None] for t in (0.1, 0.5, 0.9)]
                write_fold("samples", arm, seed, fold, own, settings=settings)
    found = shifted.analyse_shifted("samples")
    assert (found["seeds"], found["cases"]) == ([0], 5)
    assert found["at_equal_false_positives_ci95"] == [-0.25, -0.25]
    assert not shifted.is_within(found)
    better = {**found, "at_equal_false_positives": -0.05}
    assert shifted.is_within(better)
    rows = page.moved_table({"samples": {"one threshold": found, "all": better}})[2:]
    assert rows == [
        "| `samples`, one threshold of any height | **-0.250** (-0.250 to -0.250) | +0.000 |",
        f"| `samples`, {analyse.SWEEPS['all'][0]} | -0.050 (-0.250 to -0.250) | +0.000 |",
    ]


def test_the_page_has_a_section_for_each_dataset_with_a_whole_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "RESULTS", tmp_path)
    own, (first, last) = tmp_path / "page.md", marks("study")
    own.write_text(f"before\n{first}\nold\n{last}\nafter\n")
    page.report(own)
    assert own.read_text() == f"before\n{first}\n\nNo seed is whole yet.\n\n{last}\nafter\n"
    for arm in ("plain", "all"):
        for fold in range(jobs.DATASETS["samples"][2]):
            write_fold("samples", arm, 0, fold, CONTROL)
    (tmp_path / "img").mkdir()
    page.report(own)
    text = own.read_text()
    heads = [line for line in text.splitlines() if line.startswith("###")]
    assert heads == ["### `samples`, seed 0"]
    assert text.count("| plain |") == text.count("| all |") == len(analyse.SWEEPS)
    assert [path.name for path in (tmp_path / "img").iterdir()] == ["study-samples.png"]


MOVED = [
    pytest.param(
        dataset,
        sweep,
        marks=[
            pytest.mark.xfail(
                strict=True,
                raises=AssertionError,  # the reading itself, and no fault of what reads it
                reason="measured: -0.058 with three seeds, as told",
            )
        ]
        * ((dataset, sweep) == ("samples", "one threshold")),
    )
    for dataset in jobs.DATASETS
    for sweep in analyse.SWEEPS
]


@pytest.mark.parametrize(("dataset", "sweep"), MOVED)
def test_what_was_measured_keeps_within_what_moved_regions_may_cost(dataset, sweep):
    found = shifted.analyse_shifted(dataset, sweep)
    if not found:
        folds = jobs.DATASETS[dataset][2]
        pairs = [
            [jobs.Job(dataset, k, 0, arm) for arm in ("all", jobs.SHIFTED)] for k in range(folds)
        ]
        done = sum(all(job.result.exists() for job in pair) for pair in pairs)
        pytest.skip(f"{dataset}: {done} of {folds} folds are trained with the first seed")
    assert shifted.is_within(found)
