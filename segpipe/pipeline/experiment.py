"""What all folds of a training have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.backend import Device
from segpipe.config import Config
from segpipe.data.layouts import Dataset
from segpipe.pipeline.tracked import Origin, settings_of


@dataclass(frozen=True)
class Experiment:
    """A configuration and the data, device and bundle that it is trained on and from.

    Parameters
    ----------
    config, dataset, dataset_digest
        As in :class:`~segpipe.pipeline.tracked.Origin`.
    device : Device
    engine : str
        What predicts once a fold is trained.
    start : Path or None
        The bundle of ``train.init``.
    """

    config: Config
    dataset: Dataset
    dataset_digest: str
    device: Device
    engine: str
    start: Path | None

    @property
    def origin(self) -> Origin:
        """What its numbers come from."""
        return Origin.here(self.config, self.dataset, self.dataset_digest, self.device.describe())

    def params(self) -> dict[str, Any]:
        """Parameters of every run of it."""
        return {**settings_of(self.config), **self.device.to_params()}
