"""Tracking by MLflow: runs, the registry of bundles, and the UI. Nothing else imports mlflow."""

from segpipe.tracking.privacy import Identifiers
from segpipe.tracking.registry import (
    Registered,
    register,
    register_ensemble,
    resolve,
    update_bundles,
)
from segpipe.tracking.run import Run, flatten, standard_tags
from segpipe.tracking.store import Store
from segpipe.tracking.ui import serve_ui
from segpipe.tracking.view import run_note

__all__ = [
    "Identifiers",
    "Registered",
    "Run",
    "Store",
    "flatten",
    "register",
    "register_ensemble",
    "resolve",
    "run_note",
    "serve_ui",
    "standard_tags",
    "update_bundles",
]
