"""Checkpoints that survive a kill at any moment.

A checkpoint is one file whose name holds the epoch and the SHA-256 of its content, so a damaged
one is recognised and the one before it is used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.files import write_bytes
from segpipe.model.arrays import pack_arrays, unpack_arrays
from segpipe.observer import Observer

_NAME = re.compile(r"epoch-(\d{6})-([0-9a-f]{16})\.npz")
_STATE = "state"


@dataclass(frozen=True)
class Checkpoint:
    """What was saved after ``epoch`` epochs: arrays by name and a JSON-able state."""

    epoch: int
    arrays: dict[str, np.ndarray]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path, epoch: int, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]
) -> Path:
    """Write a checkpoint atomically and keep only it and the one before.

    Parameters
    ----------
    folder : Path
    epoch : int
        Epochs done.
    arrays : mapping of str to ndarray
        Weights and optimiser; the name ``state`` is taken.
    state : mapping
        JSON-able.
    """
    text = json.dumps(dict(state), sort_keys=True)
    content = pack_arrays({_STATE: np.frombuffer(text.encode(), np.uint8), **arrays})
    digest = hashlib.sha256(content).hexdigest()[:16]
    path = Path(folder) / f"epoch-{epoch:06d}-{digest}.npz"
    write_bytes(path, content)
    before = [old for number, old in _listed(folder) if number < epoch]
    for _, old in _listed(folder):  # others of this epoch or later are damaged, or were given up
        if old not in (path, *before[:1]):
            old.unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path, observer: Observer) -> Checkpoint | None:
    """The newest intact checkpoint, or None; a damaged one is named and passed over."""
    for epoch, path in _listed(folder):
        content = path.read_bytes()
        match = _NAME.fullmatch(path.name)
        if match and hashlib.sha256(content).hexdigest()[:16] == match.group(2):
            arrays = unpack_arrays(content)
            state = json.loads(arrays.pop(_STATE).tobytes())
            return Checkpoint(epoch, arrays, state)
        observer.message(f"{path}: damaged checkpoint; going back to the one before it")
    return None


def _listed(folder: Path) -> list[tuple[int, Path]]:
    """Epoch and path of every checkpoint, newest first."""
    found = []
    for path in Path(folder).glob("epoch-*.npz"):
        match = _NAME.fullmatch(path.name)
        if match:
            found.append((int(match.group(1)), path))
    return sorted(found, reverse=True)
