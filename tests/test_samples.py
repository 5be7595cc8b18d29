"""The generator on a coarse grid, and the committed samples as they lie in data_samples/."""

import json
from functools import lru_cache
from pathlib import Path

import cc3d
import numpy as np
import pytest

from segpipe.anatomy import mni152_dice
from segpipe.config import DataConfig
from segpipe.data.layouts import open_dataset
from segpipe.data.nifti import file_sha256, read_image, read_labels
from segpipe.errors import ConfigError
from segpipe.samples import make_sample, make_samples, plan_cases
from segpipe.samples.readme import README

COMMITTED = Path(__file__).parents[1] / "data_samples"
PLAN = plan_cases(16)
WITH_LESIONS = [plan for plan in PLAN if plan[2] > 0]


def case_id(plan):
    return f"sample{plan[0]:03d}"


@lru_cache
def committed(plan, name):
    index, split, _ = plan
    folder = {"flair": f"images{split}", "t1": f"images{split}", "reference": f"labels{split}"}
    end = {"flair": "_0000", "t1": "_0001", "reference": ""}.get(name, f"_{name}")
    path = COMMITTED / folder.get(name, "anatomy") / f"sample{index:03d}{end}.nii.gz"
    return read_labels(path)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return folder, make_samples(folder, cases=2, spacing_mm=4)


def hashes(folder):
    return {
        str(p.relative_to(folder)): file_sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()
    }


# the generator


def test_layout_is_nnunet_raw_with_anatomy(tiny):
    folder, ids = tiny
    assert ids == ["sample001", "sample002"]
    regions = ("wm", "cortex", "ventricles", "infratentorial")
    expected = {"dataset.json", "README.md"}
    expected |= {f"anatomy/{i}_{r}.nii.gz" for i in ids for r in regions}
    for split, name in (("Tr", "sample001"), ("Ts", "sample002")):
        expected |= {f"images{split}/{name}_000{c}.nii.gz" for c in (0, 1)}
        expected.add(f"labels{split}/{name}.nii.gz")
    assert set(hashes(folder)) == expected
    described = json.loads((folder / "dataset.json").read_text())
    assert described["channel_names"] == {"0": "FLAIR", "1": "T1"}
    assert described["labels"] == {"background": 0, "lesion": 1}
    assert described["numTraining"] == 1


def test_same_seed_same_bytes_and_another_seed_other_voxels(tiny, tmp_path):
    folder, _ = tiny
    make_samples(tmp_path / "again", cases=2, spacing_mm=4)
    assert hashes(tmp_path / "again") == hashes(folder)
    make_samples(tmp_path / "other", cases=2, seed=1, spacing_mm=4)
    ours, theirs = hashes(folder), hashes(tmp_path / "other")
    assert all(ours[name] != theirs[name] for name in ours if name.startswith("images"))


def test_a_case_depends_on_its_number_alone(tiny):
    folder, _ = tiny
    alone = make_sample(2, PLAN[0][2], spacing_mm=4)
    stored = read_labels(folder / "imagesTs" / "sample002_0001.nii.gz")
    assert np.array_equal(alone.t1, stored.array)
    assert np.allclose(alone.affine, stored.affine, atol=1e-4)


def test_plan_has_a_healthy_case_at_the_end_of_each_split():
    assert [split for _, split, _ in PLAN] == ["Tr"] * 10 + ["Ts"] * 6
    assert [index for index, _, load in PLAN if load == 0] == [10, 16]
    for cases in range(1, 30):
        plan = plan_cases(cases)
        assert [index for index, _, _ in plan] == list(range(1, cases + 1))
        assert plan[0][1:] == ("Tr", 0.1)
        assert all(0 <= load <= 1 for _, _, load in plan)


def test_distractors_are_as_bright_as_lesions_and_elsewhere():
    sample = make_sample(2, 1.0, spacing_mm=2)
    lesion, other = sample.reference > 0, sample.distractors
    assert not (lesion & other).any()
    white = (sample.regions["wm"] > 0) & ~lesion & ~other
    level = np.mean(sample.flair[white])
    spread = np.std(sample.flair[white])
    assert np.mean(sample.flair[lesion]) > level + 2 * spread
    assert np.mean(sample.flair[other]) > level + spread
    assert other.sum() > 0.5 * lesion.sum()
    assert np.mean(sample.regions["wm"][lesion]) > 0.9
    assert np.mean(sample.regions["wm"][other]) < 0.3


def test_no_load_no_lesions_but_distractors():
    sample = make_sample(5, 0.0, spacing_mm=3)
    assert not sample.reference.any()
    assert sample.distractors.any()
    assert "lesion" not in {kind for kind, _ in sample.kinds}


def test_fluid_is_dark_and_tissues_are_ordered_as_on_mr():
    sample = make_sample(1, 0.0, spacing_mm=2)
    flair, t1 = sample.flair.astype(float), sample.t1.astype(float)
    wm, cortex, ventricles = (sample.regions[k] > 0 for k in ("wm", "cortex", "ventricles"))
    assert np.median(flair[ventricles]) < 0.6 * np.median(flair[wm]) < np.median(flair[cortex])
    assert np.median(t1[ventricles]) < np.median(t1[cortex]) < 0.9 * np.median(t1[wm])


@pytest.mark.parametrize(
    ("cases", "seed", "spacing"), [(0, 0, 4), (2, -1, 4), (2, 0, 0.5), (2, 0, 7)]
)
def test_impossible_requests_are_refused(cases, seed, spacing, tmp_path):
    with pytest.raises(ConfigError, match="expected"):
        make_samples(tmp_path, cases=cases, seed=seed, spacing_mm=spacing)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dataset.json", '{"channel_names": {"0": "FLAIR"}, "numTraining": 6}'),
        ("README.md", "my notes"),
        ("imagesTr/patient1_0000.nii.gz", ""),
    ],
)
def test_a_folder_with_files_of_others_is_left_alone(name, text, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"received one with {name}"):
        make_samples(tmp_path, cases=2, spacing_mm=4)
    assert path.read_text() == text
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_samples_are_made_again_where_some_lie(tmp_path):
    make_samples(tmp_path, cases=1, spacing_mm=6)
    (tmp_path / "dataset.json").unlink()  # as a kill leaves it
    assert len(make_samples(tmp_path, cases=2, spacing_mm=6)) == 2
    assert len(make_samples(tmp_path, cases=2, spacing_mm=6)) == 2
    assert len(make_samples(tmp_path, cases=4, spacing_mm=6)) == 4  # the second was a test case
    dataset = open_dataset(DataConfig(root=tmp_path))
    found = [case.id for case in (*dataset.cases, *dataset.test_cases)]
    assert found == make_samples(tmp_path, cases=4, spacing_mm=6)
    make_samples(tmp_path, cases=1, spacing_mm=6)
    assert len(list(tmp_path.rglob("*.nii.gz"))) == 2 + 1 + 4


# the committed samples


def test_committed_samples_are_complete_and_small():
    files = [p for p in COMMITTED.rglob("*") if p.is_file()]
    assert len(files) == 16 * (2 + 1 + 4) + 2
    assert sum(p.stat().st_size for p in files) < 15e6
    text = (COMMITTED / "README.md").read_text(encoding="utf-8")
    assert text == README.format(cases=16, seed=0, spacing=1.5)


def test_committed_case_is_what_the_generator_makes():
    index, _, load = PLAN[13]
    sample = make_sample(index, load)
    for name, made in (("flair", sample.flair), ("reference", sample.reference)):
        stored = committed(PLAN[13], name).array
        assert stored.shape == made.shape
        assert np.mean(stored == made) > 0.999  # rounding may differ between machines


@pytest.mark.parametrize("plan", PLAN, ids=case_id)
def test_committed_case_is_sound(plan):
    reference, wm = committed(plan, "reference"), committed(plan, "wm")
    flair = committed(plan, "flair")
    assert np.allclose(flair.spacing_mm, 1.5)
    assert flair.axcodes == "RAS"
    labels = cc3d.connected_components(reference.array, connectivity=26)
    sizes = np.bincount(labels.ravel())[1:] * 1.5**3
    assert (sizes.size > 0) == (plan[2] > 0)
    if sizes.size:
        assert sizes.min() >= 10
        assert sizes.max() <= 5000
        assert np.count_nonzero(sizes < 30) <= 2
        assert np.mean(wm.array[reference.array > 0]) > 0.95


@pytest.mark.parametrize("plan", PLAN[::5], ids=case_id)
def test_committed_case_lies_in_mni152_space(plan):
    index, split, _ = plan
    image, flags = read_image(COMMITTED / f"images{split}" / f"sample{index:03d}_0000.nii.gz")
    assert flags == ()
    assert mni152_dice(image) > 0.92


@lru_cache
def threshold_dice(plan):
    """Dice of every (threshold in standard deviations, minimum size in mm³) on one case."""
    flair, truth = committed(plan, "flair").array, committed(plan, "reference").array > 0
    inside = flair > 0
    normal = (flair - flair[inside].mean()) / flair[inside].std()
    scores = {}
    for threshold in np.arange(0.8, 4.0, 0.2):
        labels, count = cc3d.connected_components(
            normal > threshold, connectivity=26, return_N=True
        )
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        hits = np.bincount(labels[truth], minlength=count + 1)[1:]
        for min_size_mm3 in (0, 10, 20, 50, 100, 200, 400):
            kept = sizes * 1.5**3 >= min_size_mm3
            total = sizes[kept].sum() + truth.sum()
            scores[round(threshold, 1), min_size_mm3] = 2 * hits[kept].sum() / total
    return scores


@pytest.mark.parametrize("splits", [("Tr", "Ts"), ("Ts",)], ids=["all", "held-out"])
def test_no_global_threshold_solves_the_task(splits):
    tables = [threshold_dice(plan) for plan in WITH_LESIONS if plan[1] in splits]
    best = max(np.mean([table[key] for table in tables]) for key in tables[0])
    assert 0.05 < best < 0.5
