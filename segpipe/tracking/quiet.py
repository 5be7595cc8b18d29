"""MLflow without its chatter and without the network.

Import this module before anything of mlflow; every other module of the folder does.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings and log lines of mlflow, alembic and SQLAlchemy from the terminal.

    MLFLOW_LOGGING_LEVEL, where set, still decides what is logged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:  # failures reach the user as exceptions
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


with quiet():
    import mlflow  # noqa: F401
