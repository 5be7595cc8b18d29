"""Whole files or none: writing that a kill or a full disk cannot leave half done."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary stream that becomes ``path`` when the block ends, and vanishes if it raises.

    Written to a temporary file in the same folder, synced, then renamed, so that a reader sees
    the old file or the new one. What processes that were killed left in the folder goes first.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_prefix(os.getpid()))
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder inside another, which is made if need be; it vanishes with the block.

    It may be renamed inside the block. After a kill, the next one here removes it.
    """
    parent = Path(parent)
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=_prefix(os.getpid())))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files and folders of this machine's processes that were killed."""
    start = _prefix()
    for path in Path(folder).glob(f"{glob.escape(start)}*"):
        process = path.name.removeprefix(start).split("-")[0]
        if not process.isdigit() or psutil.pid_exists(int(process)):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _prefix(process: int | None = None) -> str:
    """How temporary names begin: hidden, with the machine and the process that made them."""
    return f".new-{socket.gethostname()}-" + ("" if process is None else f"{process}-")


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, as :func:`replacing` does."""
    with replacing(path) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file, as :func:`replacing` does."""
    write_bytes(path, text.encode("utf-8"))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal, read in pieces."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
