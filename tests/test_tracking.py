"""The MLflow store: what a run keeps, how it ends, the registry, the UI."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from segpipe.config import parse
from segpipe.data.layouts import Case, Dataset
from segpipe.errors import ConfigError, DataError, GeometryError, ModelError
from segpipe.observer import Together
from segpipe.pipeline.tracked import settings_of, track_evaluation
from segpipe.tracking import (
    Identifiers,
    Run,
    Store,
    flatten,
    register,
    register_ensemble,
    resolve,
    run_note,
    serve_ui,
    standard_tags,
    update_bundles,
)
from segpipe.tracking.database import database_uri
from segpipe.tracking.quiet import quiet
from segpipe.tracking.view import first_page

with quiet():
    from mlflow import MlflowClient
    from mlflow.store.entities import PagedList
    from sqlalchemy import make_url

SHA = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """One store for all tests: making one runs MLflow's migrations."""
    return Store(tmp_path_factory.mktemp("a folder é") / "runs")


@pytest.fixture
def bundle(tmp_path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    plan = {"channels": ["FLAIR", "T1"], "labels": {"a": 1, "b": 2, "c": 3}}
    (folder / "bundle.json").write_text(json.dumps({"schema": 1, "plan": plan}))
    np.savez(folder / "weights.npz", kernel=np.arange(3))
    return folder


def begin(store: Store, experiment="samples", name="fold 0", **arguments):
    return store.run(experiment, name, system_metrics_seconds=None, **arguments)


def kept(store: Store, run_id: str):
    return store.client.get_run(run_id)


def artifacts(store: Store, run_id: str, folder: str = "") -> set[str]:
    return {item.path for item in store.client.list_artifacts(run_id, folder or None)}


def curve(store: Store, run_id: str, name: str) -> list[tuple[int, float]]:
    history = store.client.get_metric_history(run_id, name)
    return [(point.step, point.value) for point in history]


def test_store_lies_in_the_output_folder_and_nowhere_else(store, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with begin(store) as run:
        run.log_text("name: samples\n", "config.yaml")
    assert store.database.is_file()
    assert run.folder.is_relative_to(store.output / "mlartifacts" / "samples")
    assert (run.folder / "config.yaml").read_text() == "name: samples\n"
    assert list(tmp_path.iterdir()) == []


def test_run_keeps_what_an_observer_hears(store, tmp_path):
    report = tmp_path / "cohort.html"
    report.write_text("<h1>Cohort</h1>")
    folder = tmp_path / "maps"
    folder.mkdir()
    (folder / "a.nii.gz").write_bytes(b"x")
    with begin(store) as run:
        observer = Together([run])
        observer.params({"train.batch": 4, "train.init": None, "model.deep": True, "rate": 2e-3})
        for epoch in (1, 2):
            observer.metrics({"train/loss": 1 / epoch, "lésion F1 @0.5": 0.5}, epoch)
        observer.progress(1, 2)
        observer.message("first")
        observer.message("second")
        observer.artifact(report, "reports")
        observer.artifact(folder, "evaluation")
        assert kept(store, run.run_id).info.status == "RUNNING"
    after = kept(store, run.run_id)
    assert after.info.status == "FINISHED"
    assert after.info.run_name == "fold 0"
    assert after.data.params == {
        "train.batch": "4",
        "train.init": "null",
        "model.deep": "true",
        "rate": "0.002",
    }
    assert curve(store, run.run_id, "train/loss") == [(1, 1.0), (2, 0.5)]
    assert curve(store, run.run_id, "l_sion F1 _0.5") == [(1, 0.5), (2, 0.5)]
    lines = (run.folder / "log.txt").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["first", "second"]
    assert artifacts(store, run.run_id) == {"log.txt", "reports", "evaluation"}
    assert artifacts(store, run.run_id, "reports") == {"reports/cohort.html"}
    assert (run.folder / "evaluation" / "maps" / "a.nii.gz").read_bytes() == b"x"


def test_nested_runs_and_tags(store):
    tags = standard_tags("**All** folds", revision="c" * 40, dirty=False, device="cpu")
    with (
        begin(store, name="train", tags=tags) as parent,
        begin(store, name="fold 1", parent=parent.run_id) as child,
    ):
        pass
    assert kept(store, child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id
    found = kept(store, parent.run_id).data.tags
    assert found["mlflow.note.content"] == "**All** folds"
    assert found["mlflow.source.git.commit"] == "c" * 40
    assert found["segpipe.dirty"] == "false"
    assert "mlflow.parentRunId" not in found
    assert "mlflow.source.git.commit" not in standard_tags("not a checkout")


def test_an_experiment_opens_with_its_scores_and_keeps_a_persons_words(store):
    home = store.experiment("view")
    home = store.client.get_experiment(home.experiment_id)
    kept_view = home.tags["mlflow.sharedViewState.segpipe"]
    view = json.loads(kept_view)
    assert view["name"] == "Scores"
    state = json.loads(view["state"])
    columns = state["selectedColumns"]
    assert "metrics.`scores/lesion_f1`" in columns
    assert "tags.`anatomy`" in columns
    assert state["columnOrder"] == columns, "MLflow heeds no width without an order"
    assert set(state["columnWidths"]) == set(columns)
    page = f"#/experiments/{home.experiment_id}/runs?"
    assert page in home.tags["mlflow.note.content"]
    store.client.set_experiment_tag(home.experiment_id, "mlflow.note.content", "mine")
    again = store.client.get_experiment(store.experiment("view").experiment_id)
    assert again.tags["mlflow.note.content"] == "mine"
    assert (
        again.tags["mlflow.sharedViewState.segpipe"] == home.tags["mlflow.sharedViewState.segpipe"]
    )


def test_ui_opens_at_the_newest_experiment(store):
    with begin(store, "older"):
        pass
    with begin(store, "newer") as run:
        pass
    assert store.newest_experiment() == run.experiment_id
    assert first_page(run.experiment_id).startswith(f"/#/experiments/{run.experiment_id}/runs?")
    assert "viewStateShareKey=segpipe" in first_page(run.experiment_id)
    assert first_page(None).startswith("/#/experiments?")


def test_a_run_describes_what_made_it(store):
    with begin(store) as run:
        note = run_note("A run.", {"data": "a | b\nc"}, {"report": "cohort.html"}, run)
    assert "| data | a \\| b c |" in note
    root = f"#/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts"
    assert f"[report]({root}/cohort.html?workflowType=machine_learning)" in note


def test_pictures_are_kept_by_step_and_once_when_resumed(store):
    store.identifiers.add(["patient_7"])
    pixels = np.zeros((8, 8, 3), np.uint8)
    with begin(store) as run:
        run.image("patient_7/1", pixels, 1)
    with begin(store, run_id=run.run_id) as resumed:
        resumed.image("patient_7/1", pixels, 1)
        resumed.image("patient_7/1", pixels, 2)
    names = sorted(path.name for path in (run.folder / "images").glob("*.png"))
    assert len(names) == 2
    assert "patient_7" not in " ".join(names)
    assert [re.search(r"\+step\+(\d+)\+", name)[1] for name in names] == ["1", "2"]
    assert kept(store, run.run_id).data.tags["mlflow.loggedImages"] == "True"


def test_undefined_metrics_are_named_and_not_zero(store):
    with begin(store) as run:
        run.metrics({"dice": float("nan"), "f1": 0.5, "hausdorff": float("inf")}, 1)
        run.metrics({"dice": 0.25, "f1": float("nan")}, 2)
    data = kept(store, run.run_id).data
    assert data.metrics == {"f1": 0.5, "dice": 0.25}
    assert data.tags["undefined_metrics"] == "dice, f1, hausdorff"


def test_thousands_of_metrics_go_in_few_transactions(store, monkeypatch):
    calls = []
    with begin(store) as run:
        monkeypatch.setattr(
            store.client, "log_batch", lambda *_, metrics: calls.append(len(metrics))
        )
        run.metrics({f"m{number}": float(number) for number in range(2500)}, 0)
        monkeypatch.undo()
    assert calls == [1000, 1000, 500]


def test_dataset_has_the_whole_digest(store):
    with begin(store) as run:
        run.dataset("samples", SHA, 12, "test")
    after = kept(store, run.run_id)
    (entry,) = after.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("samples", SHA[:12])
    assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "test")]
    assert json.loads(entry.dataset.source) == {"sha256": SHA}
    assert json.loads(entry.dataset.profile)["cases"] == 12
    assert after.data.tags["dataset.sha256"] == SHA


def test_long_parameters_are_cut_and_kept_whole(store):
    value = "ä" * 7000
    with begin(store) as run:
        run.params({"anatomy.regions": value})
        run.params({"anatomy.regions": value})
        with pytest.raises(ConfigError, match=r"anatomy\.regions"):
            run.params({"anatomy.regions": value[:-1] + "b"})
    short = kept(store, run.run_id).data.params["anatomy.regions"]
    assert len(short) == 6000
    assert short.startswith("ääää")
    assert "... sha256 " in short
    assert (run.folder / "params" / "anatomy.regions.txt").read_text(encoding="utf-8") == value


def test_exceptions_end_a_run_as_failed(store):
    def divide():
        with begin(store) as run:
            runs.append(run)
            run.params({"a": 1})
            _ = 1 / 0

    runs: list[Run] = []
    with pytest.raises(ZeroDivisionError):
        divide()
    (run,) = runs
    after = kept(store, run.run_id)
    assert after.info.status == "FAILED"
    assert after.info.end_time is not None
    assert after.data.tags["error"] == "ZeroDivisionError: division by zero"
    assert "_ = 1 / 0" in (run.folder / "error.txt").read_text()


def test_ctrl_c_ends_a_run_as_killed(store):
    with pytest.raises(KeyboardInterrupt), begin(store) as run:
        raise KeyboardInterrupt
    after = kept(store, run.run_id)
    assert (after.info.status, after.data.tags["error"]) == ("KILLED", "interrupted")


def test_resumed_run_goes_on_where_it_was(store):
    def fail():
        with begin(store) as run:
            runs.append(run)
            run.params({"seed": 0})
            for epoch in (1, 2, 3):
                run.metrics({"loss": 1 / epoch, "voxels_per_second": 100 + epoch}, epoch)
            raise RuntimeError("power cut")

    runs: list[Run] = []
    with pytest.raises(RuntimeError):
        fail()
    (run,) = runs
    with begin(store, run_id=run.run_id) as resumed:
        assert kept(store, run.run_id).info.status == "RUNNING"
        resumed.params({"seed": 0, "new": "x"})
        for epoch in (2, 3, 4):  # the checkpoint was of epoch 1
            resumed.metrics({"loss": 1 / epoch, "voxels_per_second": 50 + epoch}, epoch)
    after = kept(store, run.run_id)
    assert after.info.status == "FINISHED"
    assert "error" not in after.data.tags
    assert after.data.params == {"seed": "0", "new": "x"}
    assert curve(store, run.run_id, "loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    speeds = curve(store, run.run_id, "voxels_per_second")
    assert speeds == [(1, 101.0), (2, 102.0), (3, 103.0), (4, 54.0)]


def test_resuming_with_other_settings_is_refused(store):
    with begin(store) as run:
        run.params({"seed": 0, "epochs": 5})
    expected = r"seed: expected 0 as before; received 1; epochs: expected 5 as before; received 6"
    with (
        pytest.raises(ConfigError, match=expected),
        begin(store, run_id=run.run_id) as resumed,
    ):
        resumed.params({"seed": 1, "epochs": 6, "unseen": 1})
    assert kept(store, run.run_id).data.params == {"seed": "0", "epochs": "5"}


def test_resuming_what_is_not_there_is_refused(store):
    with begin(store) as run:
        pass
    newest = rf"{run.run_id[:12]} \(samples: fold 0, FINISHED\)"
    with (
        pytest.raises(ModelError, match=rf"received none.*Newest runs: {newest}"),
        begin(store, run_id="0" * 32),
    ):
        pass
    with (
        pytest.raises(ModelError, match="received one of samples"),
        begin(store, "other", run_id=run.run_id),
    ):
        pass
    assert kept(store, run.run_id).info.status == "FINISHED"


def test_configuration_becomes_flat_parameters_without_folders():
    config = parse(
        {
            "name": "samples",
            "output": "/home/jane/runs",
            "data": {"root": "/home/jane/clinic/Task04", "labels": {"lesion": 1}},
            "anatomy": {
                "regions": [
                    {"name": "wm", "source": "template", "file": "wm"},
                    {"name": "csf", "source": "mask", "file": "/home/jane/maps/{case}_csf.nii.gz"},
                ],
                "registration": {"image": "/home/jane/maps/{case}_t1.nii.gz"},
            },
            "train": {"init": "/home/jane/bundles/first"},
        }
    )
    flat = flatten(config)
    assert flat["train.batch"] == config.train.batch
    assert flat["train.patch"] == "[48, 48, 48]"
    assert flat["loss.voxel_count.tau"] == 0.5
    assert flat["data.labels"] == '{"lesion": 1}'
    assert flat["data.root"] == "Task04"
    assert flat["train.init"] == "first"
    assert flat["anatomy.registration.image"] == "{case}_t1.nii.gz"
    assert [region["file"] for region in json.loads(flat["anatomy.regions"])] == [
        "wm",
        "{case}_csf.nii.gz",
    ]
    assert json.loads(flat["anatomy.regions"])[0]["name"] == "wm"
    assert "jane" not in json.dumps(flat)


@pytest.mark.parametrize(
    ("init", "kept"),
    [("models:/ms@champion", "models:/ms@champion"), (r"D:\jane\first", "first"), (None, None)],
)
def test_of_a_bundle_to_start_from_no_folder_is_kept(init, kept):
    config = parse({"name": "x", "data": {"root": "x"}, "train": {"init": init}})
    assert flatten(config)["train.init"] == kept


def test_no_identifier_becomes_a_parameter_or_a_tag(store):
    names = ["DOE-JANE", "MS_0042", "1234567"]
    error = DataError("/scans/DOE-JANE/flair.nii.gz", "not finite", expected="no NaN in MS_0042")
    store.identifiers.add(names)

    def fail():
        with begin(store, tags={"run_folder": "runs/MS_0042"}) as run:
            runs.append(run)
            run.params({"first": "MS_0042_0000.nii.gz", "train.seed": 1234567, "ids": "DOE-JANE"})
            run.tags({"worst": "1234567"})
            run.message("case MS_0042 is the worst")
            raise error

    runs: list[Run] = []
    with pytest.raises(DataError):
        fail()
    (run,) = runs
    after = kept(store, run.run_id)
    texts = json.dumps([after.data.params, after.data.tags])
    assert not [name for name in ("DOE-JANE", "MS_0042") if name in texts]
    assert after.data.tags["worst"] == "<case>"
    assert after.data.params["train.seed"] == "1234567"  # a number is no name
    assert after.data.tags["error"] == "DataError: not finite; expected no NaN in <case>"
    assert "MS_0042" in (run.folder / "log.txt").read_text()  # artifacts may name cases


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lit1 and lit10", "<case> and <case>"),
        ("split1, lit100", "split1, lit100"),
        ("[48, 48, 48]", "[48, 48, 48]"),
    ],
)
def test_identifiers_are_found_as_whole_words(text, expected):
    names = Identifiers()
    names.add(["lit1", "lit10", "48", ""])
    assert names.hide(text) == expected


def test_error_line_has_no_path_and_an_end():
    names = Identifiers()
    error = OSError("cannot read /home/jane/a b.nii, C:\\scans\\doe.nii\nor 1/2 of it " + "x" * 900)
    line = names.one_line(error)
    assert line.startswith("OSError: cannot read <path>, <path> or 1/2 of it xxx")
    assert len(line) == 500


def test_error_line_has_no_folder_with_blanks():
    error = GeometryError("/data/Muster, Anna 1970/flair.nii.gz: not on the same grid")
    assert Identifiers().one_line(error) == "GeometryError: <path>: not on the same grid"


def test_champion_is_beaten_only_by_a_better_one(store, bundle):
    with begin(store) as run:
        figures = [float("nan"), 0.5, 0.5, 0.4, 0.6, float("nan")]
        results = [register(store, "m", bundle, run.run_id, "f1", value) for value in figures]
        other = register(store, "m", bundle, run.run_id, "dice", 0.9)
    assert [result.champion for result in results] == [False, True, False, False, True, False]
    assert [result.version for result in results] == [1, 2, 3, 4, 5, 6]
    assert not other.champion
    assert "has no f1" not in other.reason
    assert "has no dice" in other.reason
    champion = store.client.get_model_version_by_alias("m", "champion")
    assert champion.version in (5, "5")
    assert champion.tags == {"metric.f1": "0.6"}
    assert champion.run_id == run.run_id


def test_a_champion_judged_by_other_cases_is_told_of(store, bundle):
    def reason(value, run, **held_out):
        description = json.loads((bundle / "bundle.json").read_text()) | held_out
        (bundle / "bundle.json").write_text(json.dumps(description))
        return register(store, "judged", bundle, run.run_id, "f1", value).reason

    fold_0, fold_1 = ({"dataset": {"digest": "d", "fold": fold}} for fold in (0, 1))
    with begin(store) as run:
        reasons = [
            reason(0.5, run, **fold_0, config={"split": {"seed": 0}}),
            reason(0.6, run),
            reason(0.7, run, **fold_1),
            reason(0.2, run, config={"split": {"seed": 1}}),
            reason(0.8, run, config={}),
        ]
    assert reasons == [
        "champion: there was none",
        "champion: beats version 1 with 0.5",
        "champion: beats version 2 with 0.6 on other cases",
        "not champion: version 3 has 0.7 on other cases",
        "champion: beats version 3 with 0.7",
    ]


def test_registered_copies_of_the_same_weights_follow_a_new_operating_point(store, tmp_path):
    def description(weights, threshold):
        plan = {"channels": ["FLAIR"], "labels": {"a": 1}}
        return {"plan": plan, "weights_sha256": weights, "operating_point": threshold}

    with begin(store) as run:
        for weights in ("one", "two", "one"):
            folder = tmp_path / weights
            folder.mkdir(exist_ok=True)
            (folder / "bundle.json").write_text(json.dumps(description(weights, 0.5)))
            register(store, "moved", folder, run.run_id, "f1", 0.5)
    (tmp_path / "one/bundle.json").write_text(json.dumps(description("one", 0.3)))
    assert update_bundles(store, "moved", tmp_path / "one") == [1, 3]
    folders = [resolve(f"models:/moved/{version}", store.output) for version in (1, 2, 3)]
    found = [json.loads((folder / "bundle.json").read_text()) for folder in folders]
    assert [one["operating_point"] for one in found] == [0.3, 0.5, 0.3]
    assert update_bundles(store, "never", tmp_path / "one") == []


def test_bundle_comes_back_as_it_was(store, bundle):
    from mlflow.models import Model

    with begin(store) as run:
        made = register(store, "same", bundle, run.run_id, "f1", 0.7)
    assert made.champion
    folder = resolve("models:/same@champion", store.output)
    assert folder == resolve("models:/same/1", store.output)
    assert sorted(path.name for path in folder.iterdir()) == ["bundle.json", "weights.npz"]
    for path in bundle.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    model = Model.load(str(folder.parent))
    assert list(model.flavors) == ["segpipe"]
    assert model.signature.inputs.inputs[0].shape == (-1, -1, -1, 2)
    assert model.signature.outputs.inputs[0].shape == (-1, -1, -1, 3)


def test_an_ensemble_comes_back_with_its_members_and_is_no_champion(store, bundle):
    member = bundle / "member-0"
    member.mkdir()
    (member / "weights.npz").write_bytes(b"w")
    with begin(store) as run:
        register(store, "folds", bundle, run.run_id, "f1", 0.1)
        assert register_ensemble(store, "folds", bundle, run.run_id) == 2
    folder = resolve("models:/folds@ensemble", store.output)
    assert folder == resolve("models:/folds/2", store.output)
    assert (folder / "member-0/weights.npz").read_bytes() == b"w"
    assert resolve("models:/folds@champion", store.output) != folder


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/there@best", r"no alias best\. Versions: 1; aliases: champion"),
        ("models:/there/7", r"no version 7\. Versions: 1; aliases: champion"),
        ("models:/absent/1", r"no model absent in .*Models: .*there"),
        ("models:/there", r"expected models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/../1", r"expected models:/NAME@ALIAS"),
    ],
)
def test_resolve_says_what_there_is(store, bundle, uri, message):
    if store.client.search_registered_models("name = 'there'") == []:
        with begin(store) as run:
            register(store, "there", bundle, run.run_id, "f1", 0.7)
    with pytest.raises(ModelError, match=message):
        resolve(uri, store.output)


def test_a_model_is_found_however_many_there_are(store, bundle, monkeypatch):
    with begin(store) as run:
        register(store, "one-of-many", bundle, run.run_id, "f1", 0.7)
    none = PagedList([], "next")
    monkeypatch.setattr(MlflowClient, "search_registered_models", lambda _: none)
    assert (resolve("models:/one-of-many/1", store.output) / "bundle.json").is_file()
    with pytest.raises(ModelError, match=r"no model other .*Models: …"):
        resolve("models:/other/1", store.output)


def test_the_address_of_a_database_keeps_its_path():
    path = Path("/out/a?b=1#c%20d ü/mlflow.db")
    assert make_url(database_uri(path)).database == str(path)


def test_what_is_no_bundle_is_not_registered(store, tmp_path):
    with begin(store) as run, pytest.raises(ModelError, match=r"bundle\.json: expected a bundle"):
        register(store, "nothing", tmp_path, run.run_id, "f1", 0.7)
    with pytest.raises(ModelError, match="no model nothing"):
        resolve("models:/nothing/1", store.output)


def test_looking_makes_no_store(tmp_path):
    for look in (
        lambda: resolve("models:/a/1", tmp_path),
        lambda: serve_ui(tmp_path),
    ):
        with pytest.raises(ModelError, match=r"mlflow\.db: expected an MLflow store"):
            look()
    assert list(tmp_path.iterdir()) == []


def test_output_that_cannot_be_written(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(ConfigError, match="expected a folder to write to"):
        Store(tmp_path / "runs")


def with_changes(database: Path, change: str) -> None:
    content = database.read_bytes()
    if change == "other schema":
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        connection.close()
    elif change == "damaged page":
        database.write_bytes(content[:4096] + bytes(8192) + content[12288:])
    else:
        database.write_bytes(b"text" if change == "no database" else content[:9000])


@pytest.mark.parametrize(
    ("change", "received"),
    [
        ("no database", "file is not a database"),
        ("cut", "malformed"),
        ("damaged page", "damaged pages"),
        ("other schema", "Detected out-of-date database schema .found version ffffffffffff"),
    ],
)
def test_a_database_that_mlflow_cannot_use_is_named_in_one_line(store, tmp_path, change, received):
    shutil.copy(store.database, tmp_path)
    with_changes(tmp_path / "mlflow.db", change)
    with pytest.raises(ModelError, match=f"{received}.*Restore a copy") as told:
        resolve("models:/x@champion", tmp_path)
    assert str(told.value).startswith(f"{tmp_path / 'mlflow.db'}: expected an intact database")
    assert "\n" not in str(told.value)


def test_system_metrics_are_sampled(store):
    with store.run("samples", "watched", system_metrics_seconds=0.05) as run:
        end = time.monotonic() + 10
        while time.monotonic() < end and (
            "system/cpu_utilization_percentage" not in kept(store, run.run_id).data.metrics
        ):
            time.sleep(0.05)
    metrics = kept(store, run.run_id).data.metrics
    assert metrics["system/system_memory_usage_megabytes"] > 0


WRITER = """
import socket, sys
from pathlib import Path

def refuse(self, address, *rest):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        print("network:", address); raise OSError("refused")
    return connect(self, address, *rest)

connect = socket.socket.connect
socket.socket.connect = socket.socket.connect_ex = refuse
lookup = socket.getaddrinfo
def getaddrinfo(host, *rest, **names):
    if host not in ("127.0.0.1", "::1", "localhost", None):
        print("network:", host); raise OSError("refused")
    return lookup(host, *rest, **names)
socket.getaddrinfo = getaddrinfo

from segpipe.tracking import Store, register
store = Store(Path(sys.argv[1]))
bundle = Path(sys.argv[2])
with store.run("both", sys.argv[3]) as run:
    run.params({f"p{n}": n for n in range(150)})
    for epoch in range(40):
        run.metrics({f"m{n}": float(n) for n in range(10)}, epoch)
    run.log_text("text", "a.txt")
    for n in range(5):
        register(store, "both", bundle, run.run_id, "f1", n / 10 + float(sys.argv[3]))
"""


def test_two_processes_make_and_fill_a_store_quietly_and_offline(tmp_path, bundle):
    output = tmp_path / "runs"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(output), str(bundle), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        for name in ("0.01", "0.02")
    ]
    ends = [(writer.communicate(timeout=400)[0], writer.returncode) for writer in writers]
    assert ends == [("", 0), ("", 0)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "runs"]
    store = Store(output)
    runs = store.client.search_runs([store.experiment("both").experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["0.01", "0.02"]
    for run in runs:
        assert len(run.data.params) == 150
        assert len(curve(store, run.info.run_id, "m9")) == 40
    champion = store.client.get_model_version_by_alias("both", "champion")
    assert float(champion.tags["metric.f1"]) == pytest.approx(0.42)
    moved = tmp_path / "moved"
    output.rename(moved)
    folder = resolve("models:/both@champion", moved)
    assert folder.is_relative_to(moved)
    with pytest.raises(ConfigError, match="expected the store where it was made"):
        Store(moved).experiment("both")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_port_in_use_is_said(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1: expected a free port"):
            serve_ui(store.output, port)


def test_ui_serves_runs_and_reports_and_ends_at_ctrl_c(store):
    with begin(store) as run:
        run.log_text("<h1>Cohort</h1>", "reports/cohort.html")
    port = free_port()
    code = (
        "import signal, sys, pathlib; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "from segpipe.tracking import serve_ui;"  # as a background command starts
        "serve_ui(pathlib.Path(sys.argv[1]), int(sys.argv[2]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.output), str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert re.match(rf"MLflow: http://127\.0\.0\.1:{port}\S* \(Ctrl-C ends it\)\n", line)
        address = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(address, timeout=10) as page:
            assert b"MLflow" in page.read()
        query = f"run_uuid={run.run_id}&path=reports/cohort.html"
        with urllib.request.urlopen(f"{address}/get-artifact?{query}", timeout=10) as page:
            assert page.read() == b"<h1>Cohort</h1>"
        with socket.socket() as probe:  # who listens on all addresses answers here too
            assert probe.connect_ex(("127.0.0.2", port)) != 0
        server.send_signal(signal.SIGINT)
        rest, _ = server.communicate(timeout=60)
        assert (server.returncode, rest) == (0, "")
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("test", [False, True])
def test_no_name_of_a_case_or_patient_is_in_a_tracked_evaluation(store, test):
    config = parse({"name": "x", "data": {"root": "d"}, "output": str(store.output)})
    known = Case("lit01_a", "lit01", ()), Case("lit02_a", "lit02", ())
    parts = (known[:1], known[1:]) if test else (known, ())
    dataset = Dataset("d", Path("d"), "csv", ("flair",), {"lesion": 1}, *parts)
    tracked = track_evaluation(config, dataset, SHA, "test" if test else "validation", None)
    with pytest.raises(RuntimeError), tracked as (run_id, _):
        raise RuntimeError("no lesion in lit02_a of lit02, lit01_a of lit01")
    told = kept(store, run_id).data.tags["error"]
    assert told == "RuntimeError: no lesion in <case> of <case>, <case> of <case>"


def test_what_may_change_is_no_parameter_of_a_run_as_mlflow_lets_none_change():
    settings = settings_of(parse({"name": "x", "data": {"root": "d"}}))
    assert {"prepare.crop", "train.batch"} <= set(settings)
    free = ("output", "scheduler", "prepare.workers", "train.workers", "train.memory_mb")
    assert not set(free) & set(settings)
