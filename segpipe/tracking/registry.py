"""The registry: versions of bundles under a name, the best of them with the alias champion.

A version is an MLflow logged model of two parts: ``bundle/``, the folder as it was, and an
``MLmodel`` file with the signature and the flavor ``segpipe``. There is no ``python_function``
flavor on purpose: it would promise that arrays without a grid can be segmented, and MLflow's own
loaders would want a pickled or importable model. ``segpipe predict`` is the loader.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import segpipe
from segpipe.errors import ModelError
from segpipe.files import write_text
from segpipe.model.facts import BUNDLE_FILE
from segpipe.tracking.quiet import quiet
from segpipe.tracking.run import local_path
from segpipe.tracking.store import Store, existing_store

with quiet():
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelOutput
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

CHAMPION = "champion"
ENSEMBLE = "ensemble"
_METRIC_TAG = "metric."
_URI = re.compile(r"models:/(?P<name>[A-Za-z0-9_-]+)(?:@(?P<alias>[\w-]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Registered:
    """A new version, and whether and why it is the champion."""

    version: int
    champion: bool
    reason: str


def register(
    store: Store, name: str, bundle: Path, run_id: str, metric: str, value: float
) -> Registered:
    """Copy a bundle into the registry; make it champion if it beats the present one.

    The reason says so where the present one has its figure from other cases.

    Parameters
    ----------
    store : Store
    name : str
        Of the model: ``Config.name``.
    bundle : Path
        Folder with ``bundle.json``.
    run_id : str
        The run that made it; the model appears on its page.
    metric, value : str, float
        Validation figure by which champions are compared; higher is better. NaN never wins.

    Returns
    -------
    Registered

    Raises
    ------
    ModelError
        The folder is no bundle.
    """
    with store.lock(), quiet():
        champion, reason = _contest(store, name, Path(bundle), metric, value)
        number = _add_version(
            store,
            name,
            Path(bundle),
            run_id,
            tags={f"{_METRIC_TAG}{metric}": repr(float(value))},
            description=f"{metric} {value:.4g} on validation, as trained; {reason}",
        )
        if champion:
            store.client.set_registered_model_alias(name, CHAMPION, str(number))
    return Registered(number, champion, reason)


def register_ensemble(store: Store, name: str, bundle: Path, run_id: str) -> int:
    """Copy an ensemble into the registry and give it the alias ``ensemble``.

    It never is the champion by itself: no case of its dataset was held out from all members, so it
    has no figure to be compared by.

    Parameters
    ----------
    store, name, bundle, run_id
        As in :func:`register`.

    Returns
    -------
    int
        The version.
    """
    described = "an ensemble; no case was held out from all members, so it is no champion"
    with store.lock(), quiet():
        number = _add_version(store, name, Path(bundle), run_id, tags={}, description=described)
        store.client.set_registered_model_alias(name, ENSEMBLE, str(number))
    return number


def update_bundles(store: Store, name: str, bundle: Path) -> list[int]:
    """Give the registered versions of the same weights the description of a bundle, and its card.

    An evaluation chooses the operating point anew; without this, ``models:/NAME@champion`` would
    go on predicting at the old one.

    Parameters
    ----------
    store : Store
    name : str
        Of the model; one that is not registered has no versions.
    bundle : Path
        Folder with the ``bundle.json`` that is now true.

    Returns
    -------
    list of int
        The versions that were updated.
    """
    text = (Path(bundle) / BUNDLE_FILE).read_text(encoding="utf-8")
    weights = json.loads(text)["weights_sha256"]
    card = Path(bundle) / "model-card.html"
    updated = []
    with store.lock(), quiet():
        for version in store.client.search_model_versions(f"name = '{name}'"):
            path = _folder(store, version) / BUNDLE_FILE
            if not path.is_file():
                continue
            if json.loads(path.read_text(encoding="utf-8"))["weights_sha256"] == weights:
                write_text(path, text)
                if card.is_file():
                    write_text(path.with_name(card.name), card.read_text(encoding="utf-8"))
                updated.append(int(version.version))
    return sorted(updated)


def resolve(uri: str, output: Path) -> Path:
    """The bundle folder of ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises
    ------
    ModelError
        Not such an address, or nothing there; the message says what there is instead.
    """
    parts = _URI.fullmatch(uri)
    if parts is None:
        raise ModelError(
            f"bundle {uri}: expected models:/NAME@ALIAS or models:/NAME/VERSION, "
            f"such as models:/samples@{CHAMPION}"
        )
    store = existing_store(output)
    version = _find_version(store, uri, parts["name"], parts["alias"], parts["version"])
    folder = _folder(store, version)
    if not (folder / BUNDLE_FILE).is_file():
        raise ModelError(
            f"bundle {uri}: expected its files in {folder}; received none. They were moved or "
            "deleted: restore them, or train and register again."
        )
    return folder


def _find_version(
    store: Store, uri: str, name: str, alias: str | None, number: str | None
) -> ModelVersion:
    try:
        model = store.client.get_registered_model(name)
    except MlflowException as error:
        page = store.client.search_registered_models()
        names = sorted(found.name for found in page) + ["…"] * bool(page.token)
        raise ModelError(
            f"bundle {uri}: no model {name} in {store.database}. "
            f"Models: {', '.join(names) or 'none; train one first'}"
        ) from error
    try:
        if alias is not None:
            return store.client.get_model_version_by_alias(name, alias)
        return store.client.get_model_version(name, str(number))
    except MlflowException as error:
        versions = store.client.search_model_versions(f"name = '{name}'")
        numbers = ", ".join(map(str, sorted(int(found.version) for found in versions)))
        aliases = ", ".join(sorted(model.aliases))
        missing = f"alias {alias}" if alias is not None else f"version {number}"
        raise ModelError(
            f"bundle {uri}: model {name} has no {missing}. "
            f"Versions: {numbers or 'none'}; aliases: {aliases or 'none'}"
        ) from error


def _folder(store: Store, version: ModelVersion) -> Path:
    """Where the bundle of a version lies, if it still is there."""
    return _on_disk(store, local_path(version.source or "")) / "bundle"


def _on_disk(store: Store, folder: Path) -> Path:
    """Where a folder of the store is now, also after the store was moved as a whole."""
    if folder.exists() or store.artifacts.name not in folder.parts:
        return folder
    parts = folder.parts
    last = len(parts) - 1 - parts[::-1].index(store.artifacts.name)
    return store.artifacts.joinpath(*parts[last + 1 :])


def _contest(store: Store, name: str, bundle: Path, metric: str, value: float) -> tuple[bool, str]:
    if not math.isfinite(value):
        return False, f"not champion: {metric} is undefined"
    try:
        present = store.client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        return True, "champion: there was none"
    tagged = present.tags.get(f"{_METRIC_TAG}{metric}")
    if tagged is None:
        return False, f"not champion: version {present.version}, the champion, has no {metric}"
    mine, theirs = _held_out(bundle), _held_out(_folder(store, present))
    others = " on other cases" if mine and theirs and mine != theirs else ""
    if value > float(tagged):
        return True, f"champion: beats version {present.version} with {float(tagged):.4g}{others}"
    return False, f"not champion: version {present.version} has {float(tagged):.4g}{others}"


def _held_out(bundle: Path) -> tuple[str, int | None, dict] | None:
    """What settles which cases a bundle held out: dataset, fold, division; None: not known."""
    try:
        stored = json.loads((bundle / BUNDLE_FILE).read_text(encoding="utf-8"))
        return stored["dataset"]["digest"], stored["dataset"]["fold"], stored["config"]["split"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _add_version(
    store: Store, name: str, bundle: Path, run_id: str, *, tags: dict[str, str], description: str
) -> int:
    signature, client = _signature(bundle), store.client
    model_id, location = _log_model(client, name, bundle, run_id, signature)
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    version = client.create_model_version(
        name, location, run_id, tags=tags, description=description, model_id=model_id
    )
    number = int(version.version)
    versions = json.dumps([{"name": name, "version": number}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": versions})
    return number


def _log_model(
    client: MlflowClient, name: str, bundle: Path, run_id: str, signature: ModelSignature
) -> tuple[str, str]:
    """Id and location of a new logged model."""
    experiment_id = client.get_run(run_id).info.experiment_id
    logged = client.create_logged_model(experiment_id, name, run_id, model_type="segpipe bundle")
    model = Model(
        artifact_path=logged.artifact_location,
        run_id=run_id,
        signature=signature,
        model_id=logged.model_id,
        flavors={"segpipe": {"bundle": "bundle", "segpipe_version": segpipe.__version__}},
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save(str(Path(folder) / "MLmodel"))
        client.log_model_artifacts(logged.model_id, folder)
    client.log_model_artifacts(logged.model_id, str(bundle), "bundle")
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    return logged.model_id, logged.artifact_location


def _signature(bundle: Path) -> ModelSignature:
    """From a scan on the plan's grid (X, Y, Z, C) to foreground probabilities (X, Y, Z, K)."""
    path = bundle / BUNDLE_FILE
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))["plan"]
        channels, labels = len(plan["channels"]), len(plan["labels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: expected a bundle's description with a plan; received "
            f"{type(error).__name__}: {error}. Register a folder that segpipe train wrote."
        ) from error
    number = np.dtype(np.float32)
    image = TensorSpec(number, (-1, -1, -1, channels), "image")
    probabilities = TensorSpec(number, (-1, -1, -1, labels), "probabilities")
    return ModelSignature(inputs=Schema([image]), outputs=Schema([probabilities]))
