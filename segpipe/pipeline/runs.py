"""Where a training lives on disk: ``<output>/<name>/<run>/fold-<k>/``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segpipe.config import Config, flat_values, parse
from segpipe.errors import ConfigError, ModelError
from segpipe.files import locked, write_text
from segpipe.model.facts import BUNDLE_FILE

_RECORD = "run.json"
_LOCK = ".train.lock"
CHANGES_NO_FIGURE = (
    "output",
    "scheduler",
    "tracking.",
    "card.",
    "prepare.workers",
    "train.workers",
    "train.memory_mb",
)
"""How settings begin that may differ between a run and its resumption."""

DECIDED_AT_THE_BEGINNING = ("tracking.enabled",)
"""But not these: a run has a place in MLflow, or none."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one training run."""

    path: Path

    @property
    def id(self) -> str:
        """The run's id: the folder's name."""
        return self.path.name

    def fold(self, index: int) -> Path:
        """Folder of one fold."""
        return self.path / f"fold-{index}"

    def bundle(self, index: int) -> Path:
        """Bundle of one fold; there once its training is finished."""
        return self.fold(index) / "bundle"

    @property
    def ensemble(self) -> Path:
        """Bundle of all folds together; there once all of them are trained and cross-validated."""
        return self.path / "ensemble"

    def record(self) -> dict[str, Any]:
        """What ``run.json`` says.

        Raises
        ------
        ModelError
            If it is no record.
        """
        path = self.path / _RECORD
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: expected the record of a run; received {error}.") from error
        if not isinstance(record, dict) or "created" not in record:
            raise ModelError(f"{path}: expected when the run was created; received nothing.")
        if not isinstance(record.get("folds", {}), dict):
            raise ModelError(f"{path}: expected the record of a run; received folds of no names.")
        return record

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace ``run.json``."""
        write_text(
            self.path / _RECORD, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
        )


@contextlib.contextmanager
def sole_trainer(run: RunFolder) -> Iterator[None]:
    """Keep other trainings out of a run: they would remove each other's checkpoints.

    Raises
    ------
    ConfigError
        If one is in it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(run.path / _LOCK))
        except BlockingIOError as error:
            raise ConfigError(
                f"--resume {run.id}: expected a run that nobody trains; received one that another "
                "segpipe train is in. Wait for its end, or begin a new run."
            ) from error
        yield


def all_runs(config: Config) -> list[RunFolder]:
    """Runs of an experiment, newest first."""
    root = config.output / config.name
    runs = [RunFolder(path.parent) for path in root.glob(f"*/{_RECORD}")]
    return sorted(runs, key=lambda run: run.record()["created"], reverse=True)


def find_run(config: Config, text: str) -> RunFolder:
    """The run that a user names: its folder, its id, the id's unique beginning, or ``last``.

    Raises
    ------
    ModelError
        If there is none, or more than one.
    """
    folder = Path(text)
    if (folder / _RECORD).is_file():
        return RunFolder(folder)
    runs = all_runs(config)
    if text == "last" and runs:
        return runs[0]
    exact = [run for run in runs if run.id == text]
    matches = exact or [run for run in runs if run.id.startswith(text)]
    if len(matches) != 1:
        known = ", ".join(run.id for run in runs[:5]) or "none"
        found = "several" if matches else "none"
        raise ModelError(
            f"run {text}: expected one run of experiment {config.name}; found {found}. "
            f"Known in {config.output / config.name}: {known}."
        )
    return matches[0]


def finished_bundle(config: Config, fold: int) -> Path:
    """Bundle of the newest run in which a fold was trained to the end.

    Raises
    ------
    ModelError
        If there is none.
    """
    for run in all_runs(config):
        if (run.bundle(fold) / BUNDLE_FILE).is_file():
            return run.bundle(fold)
    raise ModelError(
        f"experiment {config.name}, fold {fold}: expected a trained bundle under "
        f"{config.output / config.name}; found none. Train it first (segpipe train CONFIG "
        f"--fold {fold}), or give --bundle."
    )


def finished_run(config: Config, folds: Iterable[int]) -> RunFolder | None:
    """The newest run in which all of these folds were trained to the end.

    Returns
    -------
    RunFolder or None
        None: the newest trainings of the folds lie in several runs, of the same settings.

    Raises
    ------
    ModelError
        If a fold is not trained, or those runs differ: together they would be the
        cross-validation of nothing.
    """
    wanted = list(folds)
    runs = all_runs(config)
    for run in runs:
        if all((run.bundle(fold) / BUNDLE_FILE).is_file() for fold in wanted):
            return run
    newest = {fold: finished_bundle(config, fold).parents[1] for fold in wanted}
    first, *others = dict.fromkeys(newest.values())
    for other in others:
        changed = _differences(_configuration(first), _configuration(other))
        if changed:
            raise ModelError(
                f"experiment {config.name}: expected folds {', '.join(map(str, wanted))} of one "
                f"run, or of runs with the same settings; received runs {first.name} and "
                f"{other.name}, between which {'; '.join(changed)}. Train --fold all, or evaluate "
                "one --fold at a time."
            )
    return None


def expect_same_configuration(config: Config, run: RunFolder) -> None:
    """Refuse to resume with settings that would give other weights.

    Raises
    ------
    ConfigError
        Names what changed.
    """
    changed = _differences(_configuration(run.path), config, DECIDED_AT_THE_BEGINNING)
    if not changed:
        return
    raise ConfigError(
        f"--resume {run.id}: expected the configuration that the run began with; received "
        f"changes ({'; '.join(changed)}). Undo them, or begin a new run."
    )


def _configuration(folder: Path) -> Config:
    path = folder / "config.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        raise ModelError(f"{path}: expected the run's configuration; received {told}.") from error
    return parse(values, str(path))


def _differences(before: Config, now: Config, further: Container[str] = ()) -> list[str]:
    """What became of the settings that change figures, and of those in ``further``."""
    old, new = flat_values(before.model_dump(mode="json")), flat_values(now.model_dump(mode="json"))
    return [
        f"{key}: {old.get(key)} became {new.get(key)}"
        for key in {**old, **new}
        if old.get(key) != new.get(key)
        and (key in further or not key.startswith(CHANGES_NO_FIGURE))
    ]
