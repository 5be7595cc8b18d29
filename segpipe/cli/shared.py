"""Arguments that several commands take, and how all of them print and end."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from segpipe.cli.console import ConsoleObserver
from segpipe.errors import ConfigError

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML configuration.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Override key.path=value.")
]
DataOverrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="How it is read, such as data.ignore_label=9."),
]
FoldOption = Annotated[str | None, typer.Option("--fold", help="Fold number, or all.")]
BundleOption = Annotated[
    list[str] | None, typer.Option("--bundle", help="Bundle folder, or models:/NAME@alias.")
]


_BARS = ExitStack()


def output_console() -> Console:
    """Standard output; into a file or pipe as wide as tables are, not as a terminal of 80."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def observer() -> ConsoleObserver:
    """Messages and progress on standard error, until :func:`close_bars`."""
    made = ConsoleObserver(Console(stderr=True))
    _BARS.callback(made.close)
    return made


def close_bars() -> None:
    """Give the terminal its cursor back, however the command ended."""
    _BARS.close()


def fold_number(text: str | None) -> int | None:
    """The fold's number; None means all."""
    if text == "all":
        return None
    if text is None:
        return 0
    if not text.isdecimal():
        raise ConfigError(f"--fold: expected a number or all; received {text!r}.")
    return int(text)


def leave(failed: bool) -> None:
    """Exit code 1 where a case failed or something was found."""
    if failed:
        raise typer.Exit(1)
