import shutil
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.config import DataConfig, SplitConfig
from segpipe.data.layouts import Case, open_dataset
from segpipe.data.splits import Fold, dataset_digest, make_folds
from segpipe.errors import ConfigError


def cases_of(*sizes):
    return [
        Case(f"p{patient:02d}_{i}", f"p{patient:02d}", ())
        for patient, size in enumerate(sizes)
        for i in range(size)
    ]


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=30),
    st.integers(2, 6),
    st.integers(0, 2**32),
    st.randoms(use_true_random=False),
)
def test_folds_never_divide_a_patient_and_cover_every_case_once(sizes, folds, seed, random):
    cases = cases_of(*sizes)
    split = SplitConfig(folds=min(folds, len(sizes)), seed=seed)
    made = make_folds(cases, split)
    patient = {case.id: case.patient for case in cases}
    for fold in made:
        assert {patient[c] for c in fold.train}.isdisjoint(patient[c] for c in fold.validation)
        assert sorted(fold.train + fold.validation) == sorted(patient)
    assert sorted(c for fold in made for c in fold.validation) == sorted(patient)
    validated = [len(fold.validation) for fold in made]
    assert max(validated) - min(validated) <= max(sizes)
    random.shuffle(cases)
    assert make_folds(cases, split) == made


def test_patients_of_one_case_are_spread_evenly_and_by_seed():
    cases = cases_of(*[1] * 23)
    made = make_folds(cases, SplitConfig(folds=5, seed=3))
    assert sorted(len(fold.validation) for fold in made) == [4, 4, 5, 5, 5]
    assert [fold.index for fold in made] == [0, 1, 2, 3, 4]
    assert made != make_folds(cases, SplitConfig(folds=5, seed=4))


def test_large_patients_do_not_unbalance():
    made = make_folds(cases_of(2, 4, 6, 2, 4), SplitConfig(folds=3))
    assert [len(fold.validation) for fold in made] == [6, 6, 6]


def test_one_fold_trains_on_everything():
    cases = cases_of(1, 2)
    assert make_folds(cases, SplitConfig(folds=1)) == (Fold(0, ("p00_0", "p01_0", "p01_1"), ()),)


def test_leave_one_patient_out_in_order_of_names():
    made = make_folds(cases_of(1, 2, 1)[::-1], SplitConfig(leave_one_patient_out=True, folds=1))
    assert [fold.validation for fold in made] == [("p00_0",), ("p01_0", "p01_1"), ("p02_0",)]
    assert made[0].train == ("p01_0", "p01_1", "p02_0")


@pytest.mark.parametrize("split", [{"folds": 3}, {"leave_one_patient_out": True}])
def test_too_few_patients(split):
    cases = cases_of(4, 1) if "folds" in split else cases_of(4)
    with pytest.raises(ConfigError, match=r"expected at least [23] patients"):
        make_folds(cases, SplitConfig(**split))


def test_digest_is_of_contents_and_patients_not_of_places(tmp_path, save, scan, mask):
    for case in "ab":
        save(tmp_path / f"d/imagesTr/{case}_0000.nii.gz", scan(ord(case)))
        save(tmp_path / f"d/labelsTr/{case}.nii.gz", mask)
    config = DataConfig(root=tmp_path / "d", labels={"lesion": 1})
    dataset = open_dataset(config)
    first = dataset_digest(dataset)
    shutil.copytree(tmp_path / "d", tmp_path / "e")
    moved = open_dataset(config.model_copy(update={"root": tmp_path / "e"}))
    assert dataset_digest(moved) == first
    other = replace(dataset.cases[0], patient="z")
    assert dataset_digest(replace(dataset, cases=(other, dataset.cases[1]))) != first
    save(tmp_path / "e/labelsTr/a.nii.gz", 1 - mask)
    assert dataset_digest(moved) != first
    (tmp_path / "e/labelsTr/a.nii.gz").unlink()
    gone = dataset_digest(moved)  # the case fails when it is prepared; the others are used
    assert gone not in (first, dataset_digest(dataset))
