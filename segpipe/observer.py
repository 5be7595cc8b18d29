"""What training and evaluation tell whoever listens: progress bars, logs, tracking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # the command line shows its help without numpy
    import numpy as np


class Observer(Protocol):
    """Listener of a run. Training and evaluation know this protocol and nothing behind it."""

    def message(self, text: str) -> None:
        """A line worth showing to a person."""

    def params(self, values: Mapping[str, str | int | float | bool | None]) -> None:
        """Settings that were chosen once and hold for the whole run."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Named figures at an epoch (training) or at 0 (evaluation). NaN means undefined."""

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """A picture at an epoch: (H, W, 3) uint8."""

    def progress(self, done: int, total: int, text: str = "") -> None:
        """How much of the present work is done."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """A finished file or folder that belongs to the run."""


class Silent:
    """An observer that ignores everything."""

    def message(self, text: str) -> None: ...
    def params(self, values: Mapping[str, str | int | float | bool | None]) -> None: ...
    def metrics(self, values: Mapping[str, float], step: int) -> None: ...
    def image(self, name: str, pixels: np.ndarray, step: int) -> None: ...
    def progress(self, done: int, total: int, text: str = "") -> None: ...
    def artifact(self, path: Path, folder: str = "") -> None: ...


class Together:
    """Passes everything on to several observers, in order."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = list(observers)

    def message(self, text: str) -> None:
        for observer in self.observers:
            observer.message(text)

    def params(self, values: Mapping[str, str | int | float | bool | None]) -> None:
        for observer in self.observers:
            observer.params(values)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        for observer in self.observers:
            observer.metrics(values, step)

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        for observer in self.observers:
            observer.image(name, pixels, step)

    def progress(self, done: int, total: int, text: str = "") -> None:
        for observer in self.observers:
            observer.progress(done, total, text)

    def artifact(self, path: Path, folder: str = "") -> None:
        for observer in self.observers:
            observer.artifact(path, folder)
