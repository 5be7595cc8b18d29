"""One case that cannot be used stops no other: prepare and predict finish, and say so."""

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segpipe.backend import Device
from segpipe.config import OperatingPoint, parse
from segpipe.data.layouts import Case, ChannelFile
from segpipe.data.nifti import file_sha256, write_volume
from segpipe.errors import ConfigError, DataError, StorageError
from segpipe.observer import Silent
from segpipe.pipeline import fold, predict, predictions
from segpipe.pipeline import prepare as preparing
from segpipe.pipeline.models import Loaded
from segpipe.pipeline.predict import PredictRequest, run_predict
from segpipe.pipeline.prepare import run_prepare
from segpipe.pipeline.train import run_train
from segpipe.prepare import prepare_case
from segpipe.prepare.keys import scan_mark
from segpipe.volume import Volume


class Listener(Silent):
    def __init__(self):
        self.said = []

    def message(self, text):
        self.said.append(text)

    def told(self, start):
        return [line for line in self.said if line.startswith(start)]


def save(path, seed=0):
    voxels = np.random.default_rng(seed).random((6, 6, 6), np.float32) + 1
    write_volume(path, Volume(voxels, np.eye(4)))


def save_mask(path):
    write_volume(path, Volume(np.ones((6, 6, 6), np.uint8), np.eye(4)))


def config_of(tmp_path, cases):
    """Of a dataset of these cases with masks; they are prepared in this process."""
    data = tmp_path / "data"
    for seed, case in enumerate(cases):
        save(data / f"imagesTr/{case}_0000.nii.gz", seed)
        save_mask(data / f"labelsTr/{case}.nii.gz")
    values = {"name": "x", "data": {"root": str(data), "labels": {"lesion": 1}}}
    values |= {"output": str(tmp_path / "runs"), "split": {"folds": 1}, "prepare": {"workers": 1}}
    return parse(values)


def test_prepare_finishes_the_others(tmp_path):
    config = config_of(tmp_path, "abc")
    data = config.data.root
    save(data / "imagesTr/my scan_0000.nii.gz")
    (data / "imagesTr/c_0000.nii.gz").rename(tmp_path / "elsewhere.nii.gz")
    (data / "imagesTr/c_0000.nii.gz").symlink_to(tmp_path / "elsewhere.nii.gz")
    listener = Listener()
    assert run_prepare(config, listener) is True
    (warning,) = listener.told("warning: ")
    assert "my scan_0000.nii.gz: a case id that cannot be used" in warning
    (failure,) = listener.told("failed: ")
    assert failure.startswith("failed: c: ")
    assert "a path that leaves the dataset" in failure
    assert listener.told("prepared 2 cases")
    assert len(list((tmp_path / "runs/cache").glob("*/*/image.b2nd"))) == 2


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Scans of two channels, and a bundle that finds nothing; ``predict()`` returns messages."""
    config = parse({"name": "x", "data": {"root": "d"}})
    trained_on = set()
    bundle = SimpleNamespace(
        name="x",
        config=config,
        config_digest="cd",
        weights_sha256="ab",
        source_revision=None,
        created="2026",
        plan=SimpleNamespace(channels=("A", "B"), labels={"lesion": 1}),
        operating_point=OperatingPoint(),
        validation={},
        counting={"connectivity": 26},
        spacing_range_mm=((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
        dataset=SimpleNamespace(saw=lambda mark: mark in trained_on),
        mirrored=(),
        overlapped=0.5,
        precision="float32",
    )
    model = SimpleNamespace(bundle=bundle, overlap=0.5, mirror_axes=())
    device = Device("tensorflow", "cpu", "Abacus", "float32", True, False)

    def write_nothing(folder, case, *_, **told):
        assert not (folder / f"{case.id}.nii.gz").exists()
        channels = [{"sha256": file_sha256(channel.path)} for channel in case.channels]
        save_mask(folder / f"{case.id}.nii.gz")
        entry = {"case": case.id, "status": "predicted", "channels": channels}
        entry["flags"] = told["flags"]
        return {**entry, "files": {"mask": f"{case.id}.nii.gz"}}

    found = SimpleNamespace(arrays={}, maps={}, registration=None, flags=())
    monkeypatch.setattr(predict, "write_case", write_nothing)
    monkeypatch.setattr(predict, "scan_regions", lambda *_: found)
    monkeypatch.setattr(predictions, "unusual", lambda *_: ())
    for room, part in (
        (predictions, "prepare_volume"),
        (predictions, "predict_scan"),
        (predict, "segment"),
        (predict, "midline_x_mm"),
    ):
        monkeypatch.setattr(room, part, lambda *_, **__: None)
    scans, output = tmp_path / "scans", tmp_path / "out"
    for case in ("a", "b", "c", "d"):
        for channel in (0, 1):
            save(scans / f"{case}_{channel:04d}.nii.gz", channel)

    def run(strict=False, overwrite=False):
        settings = config.model_copy(
            update={"predict": config.predict.model_copy(update={"strict": strict})}
        )
        loaded = Loaded((Path("b"),), (bundle,), (model,), device, "keras", settings)
        monkeypatch.setattr(predict, "load_models", lambda *_, **__: loaded)
        listener = Listener()
        failed = run_predict(
            PredictRequest(("b",), (scans,), output, overwrite=overwrite), listener
        )
        written = json.loads((output / "predict.json").read_text())["cases"]
        return failed, listener, {entry["case"]: entry["status"] for entry in written}

    return SimpleNamespace(scans=scans, output=output, run=run, trained_on=trained_on)


def test_predict_finishes_the_others(world):
    (world.scans / "b_0001.nii.gz").unlink()
    save(world.scans / "c_0000.nii", 5)
    save(world.scans / "my scan.nii.gz")
    failed, listener, statuses = world.run()
    assert failed
    assert statuses == {"a": "predicted", "b": "failed", "c": "failed", "d": "predicted"}
    told = listener.told("failed: ")
    assert len(told) == 3
    assert "b: wrong number of channels" in told[0]
    assert "c_0000.nii.gz: the same image twice" in told[1]
    assert "my scan.nii.gz: a case id that cannot be used" in told[2]
    assert listener.told("2 of 5 cases")
    with pytest.raises(DataError, match="a case id that cannot be used"):
        world.run(strict=True)


@pytest.mark.parametrize("name", ["a.nii.gz", "components/a.nii.gz"])
def test_no_output_replaces_a_scan(world, name):
    scan = world.output / name
    save(scan)
    before = scan.read_bytes()
    for path in world.scans.glob("a_*"):
        path.unlink()
    for channel in (0, 1):
        (world.scans / f"a_{channel:04d}.nii.gz").symlink_to(scan)
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="what is predicted would replace the scan"):
            world.run(overwrite=overwrite)
    assert scan.read_bytes() == before


def test_a_scan_that_changed_since_keeps_its_mask_and_the_others_go_on(world):
    assert not world.run()[0]
    mask = (world.output / "b.nii.gz").read_bytes()
    save(world.scans / "b_0000.nii.gz", 7)
    (world.scans / "c_0001.nii.gz").unlink()
    (world.output / "d.nii.gz").unlink()
    failed, listener, statuses = world.run()
    assert failed
    assert statuses == {"a": "skipped", "b": "predicted", "c": "predicted", "d": "predicted"}
    told = listener.told("failed: ")
    assert "another scan was predicted as b. Give --overwrite" in told[0]
    assert "c: wrong number of channels" in told[1]
    assert len(told) == 2
    assert (world.output / "b.nii.gz").read_bytes() == mask
    assert (world.output / "d.nii.gz").exists()
    assert world.run(overwrite=True)[2] == {
        "a": "predicted",
        "b": "predicted",
        "c": "failed",
        "d": "predicted",
    }
    assert not (world.output / "c.nii.gz").exists()


def test_overwriting_takes_an_old_mask_away_only_for_a_new_one_or_a_failure(world, monkeypatch):
    assert not world.run()[0]
    mask = (world.output / "a.nii.gz").read_bytes()

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(predictions, "predict_scan", stop)
        with pytest.raises(KeyboardInterrupt):
            world.run(overwrite=True)
    assert (world.output / "a.nii.gz").read_bytes() == mask
    written = json.loads((world.output / "predict.json").read_text())["cases"]
    assert [entry["case"] for entry in written] == ["a", "b", "c", "d"]
    (world.scans / "a_0000.nii.gz").write_bytes(b"")
    assert world.run(overwrite=True)[2]["a"] == "failed"
    assert not (world.output / "a.nii.gz").exists()


def test_a_full_disk_is_no_fault_of_a_case_and_takes_no_other_mask_away(world, monkeypatch):
    assert not world.run()[0]

    def full(*_, **__):
        raise StorageError("out: cannot be written; received No space left on device.")

    with monkeypatch.context() as patched:
        patched.setattr(predict, "write_case", full)
        with pytest.raises(StorageError, match="No space left"):
            world.run(overwrite=True)
    assert sorted(path.name for path in world.output.glob("*.nii.gz")) == [
        f"{case}.nii.gz" for case in "bcd"
    ]
    assert world.run()[2] == {"a": "predicted", "b": "skipped", "c": "skipped", "d": "skipped"}


def test_a_scan_that_changes_while_it_is_predicted_has_no_mask(world, monkeypatch):
    seeds = iter(range(10, 20))
    monkeypatch.setattr(
        predictions,
        "predict_scan",
        lambda *_, **__: save(world.scans / "b_0001.nii.gz", next(seeds)),
    )
    failed, listener, statuses = world.run()
    assert failed
    assert statuses == {"a": "predicted", "b": "failed", "c": "predicted", "d": "predicted"}
    assert any("b: its files changed while they were read" in line for line in listener.said)
    assert not (world.output / "b.nii.gz").exists()


def test_a_scan_that_was_trained_on_says_so(world):
    save(world.scans / "b_0000.nii.gz", 9)
    channels = tuple(ChannelFile(world.scans / f"b_{k:04d}.nii.gz") for k in (0, 1))
    world.trained_on.add(scan_mark(Case("another", "name", channels)))
    world.run()
    written = json.loads((world.output / "predict.json").read_text())["cases"]
    flagged = [entry["case"] for entry in written if "trained on this scan" in str(entry["flags"])]
    assert flagged == ["b"]


def test_masks_do_not_lie_among_the_scans(world, tmp_path):
    world.run()
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    world.scans.rename(dataset / "imagesTr")
    for output in (dataset / "imagesTr", dataset):
        request = PredictRequest(("b",), (dataset,), output)
        with pytest.raises(ConfigError, match="expected another folder than that of the scans"):
            run_predict(request, Listener())


def test_nothing_is_removed_before_it_is_known_that_all_is_apart(world, tmp_path):
    """Neither masks of before nor scans go where the call is refused in the end."""
    assert not world.run()[0]
    for path in world.output.glob("*.nii.gz"):
        path.rename(world.scans / path.name)
    (world.output / "predict.json").rename(world.scans / "predict.json")
    before = sorted(path.name for path in world.scans.iterdir())
    for content in (None, "{"):  # as it was written; damaged
        if content is not None:
            (world.scans / "predict.json").write_text(content)
        scans = tuple(sorted(world.scans.glob("*_000?.nii.gz")))
        request = PredictRequest(("b",), scans, world.scans, "auto", overwrite=True)
        with pytest.raises(ConfigError, match=r"-o .*scans"):
            run_predict(replace(request, threshold=0.9), Listener())
        assert sorted(path.name for path in world.scans.iterdir()) == before


def test_a_failed_case_keeps_no_arrays_while_the_others_go_on(world, monkeypatch):
    alive = []

    class Large:
        pass

    def prepare(*_, **__):
        large = Large()
        alive.append(weakref.ref(large))
        gc.collect()
        assert [ref() for ref in alive[:-1]] == [None] * (len(alive) - 1)
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(predictions, "prepare_volume", prepare)
    assert set(world.run()[2].values()) == {"failed"}
    assert len(alive) == 4


def test_a_folder_of_regions_that_is_not_there_is_told(world):
    world.run()
    request = PredictRequest(("b",), (world.scans,), world.output, regions=world.scans / "no")
    with pytest.raises(ConfigError, match=r"--regions .*no: expected a folder"):
        run_predict(request, Listener())


def test_a_scan_that_needs_too_much_memory_stops_no_other(world, monkeypatch):
    sizes = iter([MemoryError("Unable to allocate 9 GiB"), None, RuntimeError("OOM"), None])

    def prepare(*_, **__):
        if (error := next(sizes)) is not None:
            raise error

    monkeypatch.setattr(predictions, "prepare_volume", prepare)
    failed, listener, statuses = world.run()
    assert failed
    assert statuses == {"a": "failed", "b": "predicted", "c": "failed", "d": "predicted"}
    told = listener.told("failed: ")
    assert "case a: needs more memory than there is; received Unable to allocate 9 GiB" in told[0]


def test_what_is_wrong_with_a_prepared_scan_names_its_case(world, monkeypatch):
    def prepare(*_, **__):
        raise DataError("image", "too large at the planned spacing")

    monkeypatch.setattr(predictions, "prepare_volume", prepare)
    with pytest.raises(DataError, match="case a, image: too large"):
        world.run(strict=True)


def test_scans_that_are_held_out_and_trained_on_are_told_before_training(tmp_path, monkeypatch):
    data = tmp_path / "data"
    for case, seed in (("a", 0), ("b", 1), ("copy", 0)):
        save(data / f"imagesTr/{case}_0000.nii.gz", seed)
        save_mask(data / f"labelsTr/{case}.nii.gz")

    class TrainingError(Exception):
        pass

    def begun(*_, **__):
        raise TrainingError

    monkeypatch.setattr(fold, "_fit", begun)
    values = {"name": "x", "data": {"root": str(data), "labels": {"lesion": 1}}}
    values |= {"output": str(tmp_path / "runs"), "tracking": {"enabled": False}}
    values |= {"split": {"folds": 3}, "prepare": {"workers": 1}, "train": {"device": "cpu"}}
    told = {}
    for number in range(3):
        listener = Listener()
        with pytest.raises(TrainingError):
            run_train(parse(values), number, None, listener)
        told[number] = [line.split(": ")[-1] for line in listener.told("warning: fold")]
    assert sorted(told.values()) == [
        [],
        ["a (copy). segpipe check lists such findings"],
        ["copy (a). segpipe check lists such findings"],
    ]


def test_a_scan_that_needs_too_much_memory_is_prepared_by_no_one_and_stops_no_other(
    tmp_path, monkeypatch
):
    def exhausted(loaded, *rest, **options):
        if loaded.case.id == "a":
            raise MemoryError("Unable to allocate 9 GiB")
        return prepare_case(loaded, *rest, **options)

    monkeypatch.setattr(preparing, "prepare_case", exhausted)
    listener = Listener()
    assert run_prepare(config_of(tmp_path, "ab"), listener) is True
    (failure,) = listener.told("failed: ")
    assert "case a: needs more memory than there is" in failure
    assert listener.told("prepared 1 cases")
