"""Progress for people: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    import numpy as np

_SECONDS_BETWEEN_LINES = 30.0


class ConsoleObserver:
    """An observer that shows messages and progress; figures are for tracking.

    Parameters
    ----------
    console : rich.console.Console
        Standard error, so that standard output holds results only.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._last_line = time.monotonic()

    def message(self, text: str) -> None:
        """One line, never cut or decorated."""
        self.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def params(self, values: Mapping[str, str | int | float | bool | None]) -> None:
        """Not for the terminal."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Not for the terminal: training says what matters as a message."""

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Not for the terminal."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Not for the terminal."""

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Move the bar, or write a line when the last one is half a minute old."""
        if self.console.is_terminal:
            self._move_bar(done, total, text)
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.message(f"{done}/{total} {text}")

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _move_bar(self, done: int, total: int, text: str) -> None:
        if self._bar is None:
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(
                *columns,
                TextColumn("{task.description}", markup=False),
                console=self.console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total, description=text)
        if done >= total:
            self.close()
