"""One MLflow run as an observer of training and evaluation."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
from pydantic import BaseModel

import segpipe
from segpipe.errors import ConfigError
from segpipe.tracking.privacy import Identifiers
from segpipe.tracking.quiet import quiet

with quiet():
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
    from mlflow.entities import Run as MlflowRun

Scalar = str | int | float | bool | None
Item = TypeVar("Item")

_LONGEST_PARAM = 6000
_PATHS = frozenset({"file", "image", "init"})
"""Fields of text that may hold a path."""
_SHOWN_DIGEST = 12  # MLflow takes at most 36
_PARAMS_PER_BATCH = 100
_METRICS_PER_BATCH = 1000
_NOT_IN_NAMES = re.compile(r"[^\w\-. /]", re.ASCII)


class Run:
    """What a run knows goes to MLflow. An :class:`segpipe.observer.Observer`.

    Made by :meth:`segpipe.tracking.Store.run`.

    Attributes
    ----------
    run_id, experiment_id : str
    folder : Path
        The run's artifacts on disk.
    """

    def __init__(
        self, client: MlflowClient, run: MlflowRun, identifiers: Identifiers, *, resumed: bool
    ) -> None:
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.folder = local_path(run.info.artifact_uri)
        self._client = client
        self._identifiers = identifiers
        self._resumed = resumed
        self._params: dict[str, str] = dict(run.data.params)
        self._undefined = set(filter(None, run.data.tags.get("undefined_metrics", "").split(", ")))
        self._before: dict[str, set[int]] = {}

    def message(self, text: str) -> None:
        """A line, with its time, at the end of the artifact ``log.txt``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        moment = time.strftime("%Y-%m-%d %H:%M:%S")
        with (self.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{moment} {text}\n")

    def params(self, values: Mapping[str, Scalar]) -> None:
        """Settings of the whole run. The same value again is fine.

        A value of over 6000 characters is cut, with its SHA-256 at the end, and kept whole in
        ``params/NAME.txt``.

        Raises
        ------
        ConfigError
            A value differs from the one that the run began with; lists all of them.
        """
        texts = {
            key: self._identifiers.hide(value) if isinstance(value, str) else _text(value)
            for key, value in values.items()
        }
        short = {_name(key): _shortened(text) for key, text in texts.items()}
        changed = [
            f"{key}: expected {_clip(self._params[key])} as before; received {_clip(text)}"
            for key, text in short.items()
            if self._params.get(key, text) != text
        ]
        if changed:
            raise ConfigError(
                f"run {self.run_id}: settings differ from those it began with: "
                f"{'; '.join(changed)}. Resume with the settings of before, or begin a new run."
            )
        for key, text in texts.items():
            if len(text) > _LONGEST_PARAM:
                self.log_text(text, f"params/{_name(key)}.txt")
        new = [Param(key, text) for key, text in short.items() if key not in self._params]
        for batch in _batches(new, _PARAMS_PER_BATCH):
            self._client.log_batch(self.run_id, params=batch)
        self._params.update(short)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Figures at a step, in one transaction per thousand.

        NaN and infinity are left out and named in the tag ``undefined_metrics``. A resumed run
        leaves out figures of steps that it has already, so that curves have one point per epoch.
        """
        now = int(time.time() * 1000)
        undefined = {_name(key) for key, value in values.items() if not math.isfinite(value)}
        if not undefined <= self._undefined:
            self._undefined |= undefined
            self.tags({"undefined_metrics": ", ".join(sorted(self._undefined))})
        new = [
            Metric(_name(key), float(value), now, step)
            for key, value in values.items()
            if math.isfinite(value) and not self._known(_name(key), step)
        ]
        for batch in _batches(new, _METRICS_PER_BATCH):
            self._client.log_batch(self.run_id, metrics=batch)

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """A picture at a step, beside the curves of the same step: (H, W, 3) uint8.

        A resumed run leaves out the pictures that it has already.
        """
        key = _name(self._identifiers.hide(name)).replace("/", "_")
        if self._resumed and any((self.folder / "images").glob(f"{key}?step?{step}?*")):
            return
        self._client.log_image(self.run_id, pixels, key=key, step=step)

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Nothing: progress is for terminals."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file, or a folder under its own name, to the run's artifacts."""
        path = Path(path)
        if path.is_dir():
            target = f"{folder}/{path.name}" if folder else path.name
            self._client.log_artifacts(self.run_id, str(path), target)
        else:
            self._client.log_artifact(self.run_id, str(path), folder or None)

    def log_text(self, text: str, file: str) -> None:
        """Write an artifact such as ``config.yaml``."""
        self._client.log_text(self.run_id, text, file)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags; one that exists is replaced."""
        tags = [RunTag(key, self._identifiers.hide(value)) for key, value in values.items()]
        for batch in _batches(tags, _PARAMS_PER_BATCH):
            self._client.log_batch(self.run_id, tags=batch)

    def dataset(self, name: str, digest: str, cases: int, context: str) -> None:
        """The dataset that the run reads.

        Parameters
        ----------
        name : str
        digest : str
            SHA-256 of the manifest. MLflow lists its first 12 digits, as it has no room for all;
            all are in the dataset's source and in the tag ``dataset.sha256``.
        cases : int
        context : str
            What its cases are to the run: ``training and validation``, ``validation``, ``test``.
        """
        source = json.dumps({"sha256": digest})
        profile = json.dumps({"num_rows": cases, "cases": cases})
        dataset = Dataset(name, digest[:_SHOWN_DIGEST], "local", source, profile=profile)
        tags = [InputTag("mlflow.data.context", context)]
        self._client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])
        self.tags({"dataset.sha256": digest})

    def _known(self, name: str, step: int) -> bool:
        if not self._resumed:
            return False
        if name not in self._before:
            history = self._client.get_metric_history(self.run_id, name)
            self._before[name] = {metric.step for metric in history}
        return step in self._before[name]


def flatten(section: BaseModel) -> dict[str, Scalar]:
    """A configuration as parameters: ``train.batch`` and so on.

    Lists and mappings become JSON. Of a path only the last part is kept, wherever it stands, as
    the folders above it can name people; the name of a registered model stays whole.
    """
    flat: dict[str, Scalar] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            flat |= {f"{name}.{key}": item for key, item in flatten(value).items()}
        elif isinstance(value, PurePath):
            flat[name] = value.name
        elif isinstance(value, str | int | float) or value is None:
            flat[name] = _without_folders(value, name)
        else:
            plain = section.model_dump(mode="json", include={name})[name]
            flat[name] = json.dumps(_without_folders(plain), ensure_ascii=False)
    return flat


def _without_folders(value: Any, name: str = "") -> Any:
    """Plain values in which paths are cut to their last part; ``name`` is the field's."""
    if isinstance(value, dict):
        return {key: _without_folders(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    if name in _PATHS and isinstance(value, str) and not value.startswith("models:/"):
        return PureWindowsPath(value).name  # it knows the separators of both worlds
    return value


def standard_tags(
    note: str, *, revision: str | None = None, dirty: bool | None = None, device: str = ""
) -> dict[str, str]:
    """Tags that MLflow shows beside a run.

    Parameters
    ----------
    note : str
        Description in a sentence or two; Markdown.
    revision : str, optional
        Commit of the source; None when it is not a checkout.
    dirty : bool, optional
        Whether the source differed from that commit.
    device : str
        What computed, such as ``cpu, 2 threads``.
    """
    tags = {
        "mlflow.note.content": note,
        "mlflow.source.name": "segpipe",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": revision,
        "segpipe.version": segpipe.__version__,
        "segpipe.dirty": None if dirty is None else str(dirty).lower(),
        "segpipe.device": device,
    }
    return {key: value for key, value in tags.items() if value}


def local_path(uri: str) -> Path:
    """The path of a ``file:`` address; a plain path stays as it is."""
    parts = urlparse(uri)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else Path(uri)


def _text(value: float | bool | None) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_PARAM:
        return text
    ending = f"... sha256 {hashlib.sha256(text.encode()).hexdigest()}"
    return text[: _LONGEST_PARAM - len(ending)] + ending


def _clip(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _name(key: str) -> str:
    return _NOT_IN_NAMES.sub("_", key)


def _batches(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
