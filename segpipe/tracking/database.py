"""The SQLite database of a store: opened by MLflow, or an error that names it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from segpipe.errors import ModelError
from segpipe.tracking.quiet import quiet

with quiet():
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

WAIT_SECONDS = 120
"""How long other processes that use the store are waited for."""


def database_uri(database: Path) -> str:
    """How MLflow names a database."""
    return f"sqlite:///{quote(str(database))}"


def open_client(database: Path) -> MlflowClient:
    """A client of a database, which is made when missing.

    Raises
    ------
    ModelError
        If it is damaged, or of an MLflow with another schema.
    """
    uri = database_uri(database)
    try:
        if database.is_file():
            _check_intact(database)
        return MlflowClient(uri, uri)
    except (sqlite3.Error, SQLAlchemyError, MlflowException) as error:
        received, _, _ = str(error).splitlines()[0].partition(". ")
        if "disk is full" in received:
            raise ModelError(
                f"{database}: expected space for the database of MLflow; received: {received}. "
                "Free some, or set output to another folder."
            ) from error
        raise ModelError(
            f"{database}: expected an intact database of MLflow {mlflow.__version__}; received: "
            f"{received}. Restore a copy of a damaged one, upgrade an older one (mlflow db "
            f"upgrade {uri}), or set output to another folder."
        ) from error


def _check_intact(database: Path) -> None:
    """Raise :class:`sqlite3.Error` where pages are damaged: MLflow would notice at some query."""
    with closing(sqlite3.connect(database, timeout=WAIT_SECONDS)) as connection:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"damaged pages: {' '.join(found.split())}")
