"""Every command of ``segpipe``, in the order of ``segpipe --help``.

Heavy modules load inside the commands that need them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

import segpipe
from segpipe.cli import around, prediction, scoring, training

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Medical segmentation that counts, penalises and reports false-positive regions. "
    "Research use only; not a medical device. With --debug, errors show their traceback.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"segpipe {segpipe.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


COMMANDS: dict[str, Callable[..., None]] = {
    "check": training.check,
    "plan": training.plan,
    "prepare": training.prepare,
    "train": training.train,
    "predict": prediction.predict,
    "ensemble": prediction.ensemble,
    "evaluate": scoring.evaluate,
    "score": scoring.score,
    "compare": scoring.compare,
    "report": prediction.report,
    "config": around.show_config,
    "samples": around.samples,
    "ui": around.ui,
}
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)
