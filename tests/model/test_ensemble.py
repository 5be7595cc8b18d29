"""Several bundles as one: what fits together, what is refused, and that nothing is exchanged."""

import json

import numpy as np
import pytest

from segpipe.config import OperatingPoint, digest, parse
from segpipe.errors import ModelError
from segpipe.files import file_sha256
from segpipe.model.bundle import Bundle, load_bundle, load_network, save_bundle, save_weights
from segpipe.model.ensemble import open_members, save_ensemble
from segpipe.model.facts import DatasetFacts, FittingFacts
from segpipe.model.priors import load_priors, save_priors
from segpipe.pipeline.models import load_models
from segpipe.pipeline.points import certificate_void
from segpipe.prepare import PreparePlan
from segpipe.volume import Volume

CREATED = "2026-01-01T00:00:00+00:00"
NOW = "2026-02-02T00:00:00+00:00"
POINT = OperatingPoint(threshold=0.4, min_size_mm3=5.0)
FACTS = {"cases": 4, "operating_point": "highest mean lesion F1"}


def write(folder, number, *, fold=0, seed=0, dataset="e", labels=("a",), spacing=1.0, **changes):
    """A bundle whose first weight is ``number``."""
    config = parse(
        {
            "name": "x",
            "data": {"root": "d"},
            "model": {"features": (2, 4)},
            "train": {"patch": [4, 4, 4], "seed": seed},
            "augment": {"mirror_axes": ["R"]},
        }
    )
    plan = PreparePlan(
        spacing_mm=(spacing, 1, 1),
        normalise="zscore",
        channels=("t1",),
        labels={name: k for k, name in enumerate(labels, start=1)},
    )
    values = {
        "name": f"x-fold{fold}",
        "segpipe": "0.1.0",
        "created": CREATED,
        "source_revision": "abc",
        "dirty": False,
        "config": config,
        "config_digest": digest(config),
        "plan": plan,
        "operating_point": POINT,
        "dataset": DatasetFacts(
            name="d", digest=dataset, training_cases=6, validation_cases=2, fold=fold
        ),
        "spacing_range_mm": ((spacing, 1, 1), (spacing + 1, 1, 1)),
        "intensity_range": ({"low": (number,), "high": (number + 1,)},),
        "validation": FACTS,
        "weights_sha256": "",
    }
    bundle = Bundle(**{**values, **changes})
    network = bundle.build()
    network.variables[0].assign(np.full(network.variables[0].shape, number))
    bundle = bundle.model_copy(update={"weights_sha256": save_weights(folder, network)})
    save_bundle(folder, bundle)
    return folder


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    root = tmp_path_factory.mktemp("folds")
    return [write(root / f"{k}", k, fold=k, spacing=1.0 + k / 10) for k in range(3)]


@pytest.fixture
def made(folds, tmp_path):
    save_ensemble(tmp_path / "made", folds, NOW)
    return tmp_path / "made"


def test_an_ensemble_holds_its_members_byte_for_byte(folds, made):
    bundle = load_bundle(made)
    assert (bundle.name, bundle.created, len(bundle.members)) == ("x-ensemble", NOW, 3)
    for k, (place, member) in enumerate(open_members(made, bundle)):
        assert place == made / f"member-{k}"
        assert member == load_bundle(folds[k])
        for name in ("bundle.json", "weights.npz"):
            assert file_sha256(place / name) == file_sha256(folds[k] / name)
        first = np.asarray(load_network(place, member).variables[0])
        assert (first == k).all()
    weights = [member.weights_sha256 for member in bundle.members]
    assert bundle.weights_sha256 == "+".join(weights)
    assert len(set(weights)) == 3
    assert open_members(folds[0], load_bundle(folds[0])) == [(folds[0], load_bundle(folds[0]))]


def test_the_description_spans_all_members(made):
    bundle = load_bundle(made)
    assert bundle.spacing_range_mm == ((1.0, 1, 1), (2.2, 1, 1))
    (seen,) = bundle.intensity_range
    assert (seen.low, seen.high) == ((0.0,), (3.0,))
    assert bundle.dataset == DatasetFacts(
        name="d", digest="e", training_cases=8, validation_cases=0, fold=None
    )
    assert [(m.name, m.fold, m.seed) for m in bundle.members] == [
        (f"x-fold{k}", k, 0) for k in range(3)
    ]


def test_the_length_of_the_training_is_told_where_all_members_share_it(tmp_path):
    same, also, shorter = (FittingFacts(steps=n, planned=9) for n in (9, 9, 6))
    members = [
        write(tmp_path / str(k), k, fold=k, fitting=facts)
        for k, facts in enumerate((same, also, shorter))
    ]
    assert save_ensemble(tmp_path / "two", members[:2], NOW).fitting == same
    assert save_ensemble(tmp_path / "three", members, NOW).fitting is None


def test_members_that_share_point_and_figures_hand_them_on_as_theirs(made):
    bundle = load_bundle(made)
    assert bundle.operating_point == POINT
    assert bundle.validation["cases"] == 4
    assert bundle.validation["operating_point"].startswith("highest mean lesion F1; the figures")
    assert "on cases that it held out" in bundle.validation["operating_point"]


@pytest.mark.parametrize(
    "change",
    [
        {"operating_point": OperatingPoint(threshold=0.6)},
        {"validation": {"cases": 3}},
        {"validation": None},
        {"mirror_axes": ("R",)},
    ],
)
def test_members_that_differ_leave_the_configured_point_without_figures(folds, tmp_path, change):
    other = write(tmp_path / "other", 7, fold=1, **change)
    bundle = save_ensemble(tmp_path / "made", [other, folds[0]], NOW)
    assert bundle.operating_point == OperatingPoint()
    assert bundle.validation is None


def test_seeds_of_one_fold_still_hold_it_out(tmp_path):
    seeds = [write(tmp_path / str(k), k, fold=1, seed=k) for k in range(2)]
    bundle = save_ensemble(tmp_path / "made", seeds, NOW)
    assert bundle.dataset == load_bundle(seeds[0]).dataset
    assert [member.seed for member in bundle.members] == [0, 1]


def test_one_number_of_folds_of_two_splits_holds_nothing_out(tmp_path):
    parts = [write(tmp_path / str(k), k, fold=1) for k in range(2)]
    other = load_bundle(parts[1])
    split = other.config.split.model_copy(update={"seed": 7})
    config = other.config.model_copy(update={"split": split})
    changed = {"config": config, "config_digest": digest(config)}
    save_bundle(parts[1], other.model_copy(update=changed))
    facts = save_ensemble(tmp_path / "made", parts, NOW).dataset
    assert (facts.fold, facts.training_cases, facts.validation_cases) == (None, 8, 0)


def test_datasets_are_named_and_none_is_held_out(tmp_path):
    parts = [write(tmp_path / name, k, dataset=name) for k, name in enumerate("ef")]
    facts = save_ensemble(tmp_path / "made", parts, NOW).dataset
    assert (facts.digest, facts.training_cases, facts.fold) == ("e+f", 12, None)


def test_an_ensemble_among_the_bundles_gives_its_members(folds, made, tmp_path):
    more = write(tmp_path / "more", 9)
    bundle = save_ensemble(tmp_path / "larger", [more, made], NOW)
    assert len(bundle.members) == 4
    assert len(open_members(tmp_path / "larger", bundle)) == 4


def test_lesion_frequencies_come_along(folds, tmp_path):
    prior = Volume(np.random.default_rng(0).random((3, 3, 3)).astype(np.float32), np.eye(4))
    digests = save_priors(tmp_path / "own", {"often": prior})
    own = write(tmp_path / "own", 5, priors_sha256=digests)
    made = tmp_path / "made"
    bundle = save_ensemble(made, [own, folds[0]], NOW)
    loaded = load_priors(*open_members(made, bundle)[0])
    np.testing.assert_array_equal(loaded["often"].array, prior.array)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ("a", "b")}, "expected the labels of x-fold0"),
        ({"labels": ("b",)}, "received {'b': 1} in x-fold0"),
    ],
)
def test_bundles_of_other_tasks_are_refused(folds, tmp_path, change, said):
    other = write(tmp_path / "other", 7, **change)
    with pytest.raises(ModelError, match="one task") as refused:
        save_ensemble(tmp_path / "made", [folds[0], other], NOW)
    assert said in str(refused.value)
    assert not (tmp_path / "made").exists()


def test_one_network_or_the_same_twice_is_no_ensemble(folds, tmp_path):
    with pytest.raises(ModelError, match="two or more different networks; received one"):
        save_ensemble(tmp_path / "made", folds[:1], NOW)
    with pytest.raises(ModelError, match=r"same weights twice \(x-fold1\)"):
        save_ensemble(tmp_path / "made", [*folds, folds[1]], NOW)


def test_the_same_weights_never_predict_twice(folds, made, tmp_path):
    for names in ([folds[1], folds[0], folds[1]], [made, folds[1]]):
        with pytest.raises(ModelError, match=r"same weights twice \(x-fold1\)\. Give each"):
            load_models([str(name) for name in names], tmp_path, engine="keras")


def test_a_folder_in_use_is_not_written_to(folds, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ModelError, match="expected a new or empty folder"):
        save_ensemble(tmp_path, folds, NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_damaged_sources_are_refused_before_anything_is_written(folds, tmp_path):
    other = write(tmp_path / "other", 7)
    content = bytearray((other / "weights.npz").read_bytes())
    content[-1] ^= 1
    (other / "weights.npz").write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.npz: expected SHA-256"):
        save_ensemble(tmp_path / "made", [folds[0], other], NOW)
    (other / "weights.npz").unlink()
    with pytest.raises(ModelError, match=r"weights\.npz: expected the weights"):
        save_ensemble(tmp_path / "made", [folds[0], other], NOW)
    assert not (tmp_path / "made").exists()


def test_an_exchanged_member_is_refused(folds, made):
    bundle = load_bundle(made)
    path = made / "member-1/bundle.json"
    text = path.read_text()
    path.write_text(text.replace("2026", "2027"))
    with pytest.raises(ModelError, match=r"member-1/bundle\.json: expected SHA-256"):
        open_members(made, bundle)
    path.unlink()
    with pytest.raises(ModelError, match="expected a member's bundle"):
        open_members(made, bundle)


def test_the_weights_that_an_ensemble_names_are_its_members(made):
    path = made / "bundle.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "weights_sha256": "ab"}))
    with pytest.raises(ModelError, match="those of the members"):
        load_bundle(made)


def test_an_ensemble_is_no_single_network(made):
    with pytest.raises(ModelError, match=r"received an ensemble of 3.*member-0"):
        load_network(made, load_bundle(made))


def test_members_compute_in_the_precision_of_their_own_training(tmp_path, monkeypatch):
    monkeypatch.setattr("segpipe.backend.cpu_flags", lambda: {"avx512_bf16"})
    built = []

    def engine(name, network, batch):
        built.append(network.layers[1].compute_dtype)
        return lambda tiles: tiles

    monkeypatch.setattr("segpipe.pipeline.models.make_engine", engine)
    first = write(tmp_path / "0", 0, precision="float32")
    second = write(tmp_path / "1", 1, precision="mixed_bfloat16")
    unknown = write(tmp_path / "2", 2)
    one = load_models([str(first)], tmp_path, engine="keras")
    assert (built, one.device.precision, one.trained_otherwise) == (["float32"], "float32", None)
    both = load_models([str(first), str(second)], tmp_path, engine="keras")
    assert built[1:] == ["float32", "bfloat16"]
    assert both.device.precision == "float32 + mixed_bfloat16"
    assert both.trained_otherwise is None
    load_models([str(unknown)], tmp_path, engine="keras")
    assert built[3:] == ["bfloat16"]  # as train.precision=auto gives here
    monkeypatch.setattr("segpipe.backend.cpu_flags", set)
    here = load_models([str(second)], tmp_path, engine="keras")
    assert built[4:] == ["float32"]
    assert here.trained_otherwise == "mixed_bfloat16"
    assert "this device predicts in float32" in certificate_void(here)
    assert certificate_void(one) is None
