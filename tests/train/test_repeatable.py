"""Same seed, same bits: whatever the number of workers, interrupted or not."""

import json
import random
import shutil
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

from segpipe.backend import Device
from segpipe.config import SplitConfig, load, parse
from segpipe.data.layouts import open_dataset
from segpipe.data.splits import Fold, make_folds
from segpipe.errors import ConfigError, DataError, ModelError
from segpipe.model.bundle import load_bundle, save_bundle
from segpipe.observer import Silent
from segpipe.pipeline.evaluate import run_evaluate
from segpipe.pipeline.runs import all_runs
from segpipe.pipeline.start import find_start, start_folder, start_record
from segpipe.pipeline.train import run_train
from segpipe.prepare.keys import scan_mark

OTHER_SPLIT = SplitConfig(folds=2, seed=1)


def weights_digest(config):
    run = all_runs(config)[0]
    return json.loads((run.bundle(0) / "bundle.json").read_text())["weights_sha256"]


def train(config, resume=None):
    assert run_train(config, 0, resume, Silent()) is False
    return weights_digest(config)


@pytest.fixture(scope="module")
def timed(tiny_values, tmp_path_factory):
    """A training that was never interrupted, with no loading threads, and how long it took."""
    config = parse({**tiny_values, "output": str(tmp_path_factory.mktemp("whole"))})
    config = config.model_copy(
        update={"train": config.train.model_copy(update={"workers": 0})}, deep=True
    )
    started = time.monotonic()
    train(config)
    return config, time.monotonic() - started


@pytest.fixture(scope="module")
def whole(timed):
    return timed[0]


@pytest.fixture
def uninterrupted(whole):
    return weights_digest(whole)


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_change_nothing(tiny_config, uninterrupted, workers):
    config = load(tiny_config, [f"train.workers={workers}"])
    assert train(config) == uninterrupted


def test_reading_from_disk_changes_nothing(tiny_config, uninterrupted):
    config = load(tiny_config, ["train.memory_mb=0"])
    assert train(config) == uninterrupted


def test_another_seed_changes_everything(tiny_config, uninterrupted):
    config = load(tiny_config, ["train.seed=1"])
    assert train(config) != uninterrupted


class _StopAfter(Silent):
    def __init__(self, epoch):
        self.epoch = epoch

    def metrics(self, values, step):
        if step == self.epoch:
            raise KeyboardInterrupt


def test_interrupted_and_resumed_is_the_same(tiny_config, uninterrupted):
    config = load(tiny_config)
    with pytest.raises(KeyboardInterrupt):
        run_train(config, 0, None, _StopAfter(2))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = config.output / config.name / f".new-{socket.gethostname()}-{dead.pid}-probabilities"
    left.mkdir()
    assert train(config, resume="last") == uninterrupted
    assert not left.exists()  # whichever evaluation was killed, the next one tidies up


def test_a_run_goes_on_with_the_cases_and_regions_it_began_with_or_not_at_all(tiny_config):
    config = load(tiny_config)
    with pytest.raises(KeyboardInterrupt):
        run_train(config, 0, None, _StopAfter(2))
    (path,) = config.output.glob("*/*/fold-0/prepared.json")
    began = json.loads(path.read_text())
    first, *others = began
    for before in (
        {case: began[case] for case in others},  # one could not be prepared at first
        {**began, "gone": ["a", "b"]},  # or cannot now
        {**began, first: [began[first][0], "another region file"]},
    ):
        path.write_text(json.dumps(before))
        with pytest.raises(DataError, match=r"goes on only with the cases.*received others for"):
            run_train(config, 0, "last", Silent())


def test_the_best_weights_survive_an_interruption(tiny_config, tmp_path):
    best = ["train.keep=best", "train.validate_every=1"]
    broken = load(tiny_config, best)
    with pytest.raises(KeyboardInterrupt):
        run_train(broken, 0, None, _StopAfter(3))
    assert train(broken, resume="last") == train(
        load(tiny_config, [*best, f"output={tmp_path / 'second'}"])
    )


def test_killed_after_a_checkpoint_and_resumed_is_the_same(tiny_config, tmp_path, uninterrupted):
    arguments = [f"output={tmp_path / 'killed'}", "train.workers=4"]
    code = "from segpipe.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "train", str(tiny_config), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checkpoints = tmp_path / "killed" / "tiny"
    deadline = time.monotonic() + 240
    while not list(checkpoints.glob("*/fold-0/checkpoints/epoch-*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(random.Random(0).uniform(0, 0.4))
    process.kill()
    process.wait()
    assert train(load(tiny_config, arguments), resume="last") == uninterrupted


def test_killed_at_any_moment_and_resumed_is_the_same(
    tiny_config, tmp_path, timed, killed_at, kill_after, tree
):
    whole, seconds = timed
    arguments = [f"output={tmp_path / 'killed'}", "train.workers=4"]
    modules = "segpipe.pipeline.train, keras"
    kill_after(killed_at * seconds, modules, "train", str(tiny_config), *arguments)
    config = load(tiny_config, arguments)
    train(config, resume="last" if all_runs(config) else None)
    for folder in (lambda c: c.output / "cache", lambda c: all_runs(c)[0].fold(0)):
        assert tree(folder(config)) == tree(folder(whole))
    assert not list(config.output.rglob(".*"))


def test_resuming_with_other_settings_is_refused(tiny_config, whole):
    config = load(tiny_config, [f"output={whole.output}", "train.batch=3"])
    with pytest.raises(ConfigError, match=r"train\.batch: 2 became 3"):
        run_train(config, 0, "last", Silent())


def test_resuming_an_unknown_run_names_the_known(whole):
    with pytest.raises(ModelError, match=all_runs(whole)[0].id):
        run_train(whole, 0, "zzz", Silent())


def test_a_loss_that_is_no_number_names_the_cases(tiny_config):
    config = load(tiny_config, ["train.learning_rate=1e30"])
    with pytest.raises(ModelError, match=r"finite loss.*sample0"):
        run_train(config, 0, None, Silent())


def test_no_training_case_is_an_error(tiny_config, tmp_path):
    empty = tmp_path / "empty"
    for name in ("imagesTr", "labelsTr"):
        (empty / name).mkdir(parents=True)
    (empty / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "FLAIR"},
                "labels": {"background": 0, "lesion": 1},
                "numTraining": 0,
                "file_ending": ".nii.gz",
            }
        )
    )
    with pytest.raises(DataError):
        run_train(load(tiny_config, [f"data.root={empty}"]), 0, None, Silent())


def test_a_fold_whose_held_out_cases_all_fail_is_trained_and_claims_nothing(tiny_values, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(tiny_values["data"]["root"], data)
    values = {**tiny_values, "data": {"root": str(data)}, "output": str(tmp_path / "runs")}
    config = parse({**values, "train": {**tiny_values["train"], "epochs": 1}})
    (first, _) = make_folds(open_dataset(config.data).cases, config.split)
    for case in first.validation:
        for path in (data / "imagesTr").glob(f"{case}_*"):
            path.write_bytes(path.read_bytes()[:-100])
    assert run_train(config, 0, None, Silent()) is True
    folder = all_runs(config)[0].bundle(0)
    bundle = load_bundle(folder)
    assert bundle.validation is None
    assert bundle.operating_point == config.predict.operating_point
    scores = json.loads((folder.parent / "validation/scores.json").read_text())
    assert [row["status"] for row in scores["rows"]] == ["failed"] * len(first.validation)
    assert (folder.parent / "validation/cohort.html").exists()


def test_starting_from_a_bundle_takes_its_weights(tiny_config, whole, uninterrupted):
    bundle = all_runs(whole)[0].bundle(0)
    frozen = [f"train.init={bundle}", "train.learning_rate=1e-30", "train.weight_decay=0"]
    assert train(load(tiny_config, [*frozen, "train.epochs=1"])) == uninterrupted


def test_weights_that_saw_the_held_out_cases_are_no_start(tiny_config, whole):
    bundle = all_runs(whole)[0].bundle(0)
    config = load(tiny_config, [f"train.init={bundle}"])
    with pytest.raises(ConfigError, match="expected a bundle that never saw the cases held out"):
        run_train(config, 1, None, Silent())


def test_a_run_begins_from_one_bundle_whatever_its_name_stands_for_later(
    tiny_config, whole, tmp_path
):
    """``models:/x@champion`` may be another bundle when a run goes on, or by its next fold."""
    first, name = all_runs(whole)[0].bundle(0), tmp_path / "named"
    shutil.copytree(first, name)
    config = load(tiny_config, [f"train.init={name}"])
    recorded = start_record(start_folder(config, None))
    assert recorded["bundle"] == str(name)
    assert start_folder(config, recorded) == name
    moved = tmp_path / "moved"
    name.rename(moved)
    again = load(tiny_config, [f"train.init={moved}"])
    assert start_folder(again, recorded) == moved  # the same weights
    other = json.loads((moved / "bundle.json").read_text())
    (moved / "bundle.json").write_text(json.dumps({**other, "weights_sha256": "ab"}))
    with pytest.raises(ConfigError, match=r"the bundle that this run began from, .*named with"):
        start_folder(again, recorded)
    assert start_folder(whole, None) is None


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("channels", lambda names: names[::-1], "the channels of this training, in order: FLAIR"),
        ("labels", lambda names: {"tumour": 1}, "the labels .*: lesion; received one with tumour"),
    ],
)
def test_a_bundle_of_another_task_is_no_start(tiny_config, whole, tmp_path, part, change, said):
    copy = tmp_path / "copy"
    shutil.copytree(all_runs(whole)[0].bundle(0), copy)
    stored = json.loads((copy / "bundle.json").read_text())
    stored["plan"][part] = change(stored["plan"][part])
    (copy / "bundle.json").write_text(json.dumps(stored))
    with pytest.raises(ConfigError, match=said):
        run_train(load(tiny_config, [f"train.init={copy}"]), 0, None, Silent())


def test_another_network_is_no_start(tiny_config, whole):
    other = [f"train.init={all_runs(whole)[0].bundle(0)}", "model.activation=relu"]
    with pytest.raises(ConfigError, match=r"model\.activation=relu; received one with"):
        run_train(load(tiny_config, other), 0, None, Silent())


class _Listener(Silent):
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def test_scans_are_known_after_any_number_of_trainings_in_between(tiny_config, whole, tmp_path):
    parts = make_folds(open_dataset(whole.data).cases, whole.split)
    first = all_runs(whole)[0].bundle(0)  # trained on what fold 1 holds out
    other = tmp_path / "other"
    shutil.copytree(whole.data.root, other)
    for name in ("imagesTr", "labelsTr"):  # of its scans only those that the first bundle saw
        for path in (other / name).iterdir():
            if not path.name.startswith(parts[0].train):
                path.unlink()
    short = ["train.epochs=1", "split.folds=1", f"data.root={other}", f"train.init={first}"]
    between = load(tiny_config, short)
    train(between)
    second = all_runs(between)[0].bundle(0)
    again = load(tiny_config, [f"train.init={second}"])
    with pytest.raises(ConfigError, match="received one trained on sample"):
        run_train(again, 1, None, Silent())

    shutil.rmtree(other / "imagesTs")
    shutil.rmtree(other / "labelsTs")
    for name in ("images", "labels"):
        (other / f"{name}Ts").mkdir()
        for path in (whole.data.root / f"{name}Tr").iterdir():
            shutil.copy(path, other / f"{name}Ts/copy_{path.name}")
    listener, seen = _Listener(), ", ".join(f"copy_{case}" for case in sorted(parts[0].train))
    run_evaluate(
        load(tiny_config, [f"data.root={other}", "split.folds=1"]),
        [str(second)],
        0,
        "test",
        Console(quiet=True),
        listener,
    )
    warned = [line for line in listener.lines if "their figures are too good" in line]
    assert [line.rpartition(": ")[2] for line in warned] == [seen]


def test_scans_are_known_though_the_dataset_changed_since(tiny_config, whole, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(whole.data.root, changed)
    mask = next((changed / "labelsTr").iterdir())
    stored = nib.load(mask)
    voxels = np.asarray(stored.dataobj).copy()
    voxels.flat[0] = 1 - voxels.flat[0]
    nib.Nifti1Image(voxels, stored.affine).to_filename(mask)
    bundle = all_runs(whole)[0].bundle(0)
    config = load(tiny_config, [f"train.init={bundle}", f"data.root={changed}"])
    with pytest.raises(ConfigError, match="received one trained on sample"):
        run_train(config, 1, None, Silent())


def test_a_bundle_is_not_validated_on_what_it_was_trained_on(whole):
    bundle = str(all_runs(whole)[0].bundle(0))
    for config, fold in ((whole, 1), (whole.model_copy(update={"split": OTHER_SPLIT}), 0)):
        with pytest.raises(ModelError, match="may have trained on these cases"):
            run_evaluate(config, [bundle], fold, "validation", Console(quiet=True), Silent())


def test_resuming_goes_on_with_the_folds_that_the_run_began_with(tiny_config):
    config = load(tiny_config, ["train.epochs=1"])
    with pytest.raises(KeyboardInterrupt):
        run_train(config, "all", None, _StopAfter(1))
    assert run_train(config, None, "last", Silent()) is False
    folds = all_runs(config)[0].record()["folds"]
    assert {fold: entry["status"] for fold, entry in folds.items()} == {
        "0": "finished",
        "1": "finished",
    }


def test_a_bundle_knows_which_scans_chose_its_weights(tiny_config):
    config = load(tiny_config, ["train.keep=best", "train.validate_every=1", "train.epochs=2"])
    train(config)
    folder = all_runs(config)[0].bundle(0)
    bundle, dataset = load_bundle(folder), open_dataset(config.data)
    fold = make_folds(dataset.cases, config.split)[0]
    marks = {case.id: scan_mark(case) for case in dataset.cases}
    other = config.model_copy(update={"split": SplitConfig(leave_one_patient_out=True)})

    def chosen_here(case, digest="of a dataset that changed since"):
        held_out = [SimpleNamespace(id=case, mark=marks.get(case, "new"))]
        one = Fold(0, (), (case,))
        return find_start(folder, other, bundle.plan, one, digest, held_out).selected_here

    assert [chosen_here(case) for case in fold.validation] == [True] * len(fold.validation)
    assert chosen_here("another") is False
    assert chosen_here("another", bundle.dataset.digest) is False
    facts = bundle.dataset.model_copy(update={"chose": ()})  # as of earlier versions
    save_bundle(folder, bundle.model_copy(update={"dataset": facts}))
    assert chosen_here("another", bundle.dataset.digest) is True  # for all that is known
    assert chosen_here("another") is False


def test_what_cannot_predict_afterwards_is_not_trained(tiny_config, tmp_path):
    config = load(tiny_config, ["predict.engine=openvino"]).model_copy(update={"backend": "jax"})
    device = Device("jax", "cpu", "none", "float32", True, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segpipe.pipeline.train.select", lambda *_: device)
        with pytest.raises(ConfigError, match=r"predict\.engine: "):
            run_train(config, 0, None, Silent())
    assert not (tmp_path / "runs").exists()
