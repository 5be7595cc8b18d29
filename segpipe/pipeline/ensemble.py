"""``segpipe ensemble``: several bundles become one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segpipe.model.bundle import Bundle
from segpipe.model.ensemble import save_ensemble
from segpipe.observer import Observer
from segpipe.pipeline.models import bundle_folder
from segpipe.pipeline.provenance import now
from segpipe.report.wording import point_in_words


def run_ensemble(names: Sequence[str], folder: Path, store: Path, observer: Observer) -> Bundle:
    """Copy bundles into one and say where its operating point comes from.

    Parameters
    ----------
    names : sequence of str
        Folders or ``models:/…``.
    folder : Path
        New or empty.
    store : Path
        Output folder with the MLflow store.
    observer : Observer

    Raises
    ------
    ModelError
        If the bundles do not belong together.
    """
    sources = [bundle_folder(name, store) for name in names]
    made = save_ensemble(folder, sources, now())
    observer.message(f"{len(made.members)} networks in {folder}")
    why = "the configuration's, as the bundles have no point in common; evaluate to choose one"
    if made.validation is not None:
        why = str(made.validation["operating_point"])
    words = point_in_words(made.operating_point.model_dump())
    observer.message(f"operating point: {words} ({why})")
    return made
