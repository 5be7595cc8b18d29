"""Whole files or none: writing that a kill or a full disk cannot leave half done."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil

try:
    import fcntl
except ImportError:  # no POSIX system
    fcntl = None  # type: ignore[assignment]

UMASK = os.umask(0o077)
"""Rights that the user withholds from new files; read at import, as reading it sets it."""
os.umask(UMASK)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary stream that becomes ``path`` when the block ends, and vanishes if it raises.

    Written to a temporary file in the same folder, synced, then renamed, so that a reader sees
    the old file or the new one. It has the old one's rights, or those that the umask leaves. What
    processes that were killed left in the folder goes first.

    Parameters
    ----------
    path : Path
        Its folder is made if need be.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    handle, temporary = _claimed(_temporary_file, path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            os.chmod(temporary, _rights(path))
            os.replace(temporary, path)  # while it is held: nobody takes it for a leftover
        _sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # as on a full disk
            error.filename = str(path)
        raise


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder inside another, which is made if need be; it vanishes with the block.

    It may be renamed inside the block. After a kill, the next one here removes it.
    """
    parent = Path(parent)
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent)
    handle, folder = _claimed(_temporary_folder, parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files and folders of this machine's processes that were killed.

    A process that cannot be seen from here may live in another container of the same host name;
    so what somebody holds stays.
    """
    start = _prefix()
    for path in Path(folder).glob(f"{glob.escape(start)}*"):
        process = path.name.removeprefix(start).split("-")[0]
        if not process.isdecimal() or psutil.pid_exists(int(process)):
            continue
        try:
            handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        except OSError:  # gone by now, or another user's
            continue
        try:
            if _hold(handle) is False:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        finally:
            os.close(handle)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, which is there for as long; its folder is made if need be.

    Without effect where the system or the file system knows no locks. A process that dies lets go.

    Raises
    ------
    BlockingIOError
        If another process holds it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _claim(handle, path):
                continue  # its last holder has removed it meanwhile
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(handle)


def _claimed(make: Callable[[Path], tuple[int, Path]], folder: Path) -> tuple[int, Path]:
    """A temporary file or folder that nobody took for a leftover before it was held."""
    while True:
        handle, path = make(folder)
        with contextlib.suppress(BlockingIOError):
            if _claim(handle, path):
                return handle, path
        os.close(handle)


def _claim(handle: int, path: Path) -> bool:
    """Hold an open file; returns whether it is still there.

    Raises
    ------
    BlockingIOError
        If another process holds it.
    """
    if _hold(handle) is False:
        raise BlockingIOError(errno.EWOULDBLOCK, "held by another process", str(path))
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _hold(handle: int) -> bool | None:
    """Whether this process holds the file now; None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _temporary_file(folder: Path) -> tuple[int, Path]:
    handle, path = tempfile.mkstemp(dir=folder, prefix=_prefix(os.getpid()))
    return handle, Path(path)


def _temporary_folder(parent: Path) -> tuple[int, Path]:
    folder = tempfile.mkdtemp(dir=parent, prefix=_prefix(os.getpid()))
    return os.open(folder, os.O_RDONLY), Path(folder)


def _rights(path: Path) -> int:
    """Of the file that is replaced, or of a new one."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0o666 & ~UMASK


def _prefix(process: int | None = None) -> str:
    """How temporary names begin: hidden, with the machine and the process that made them."""
    return f".new-{socket.gethostname()}-" + ("" if process is None else f"{process}-")


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # network file systems and FUSE that cannot sync a folder say so
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, as :func:`replacing` does."""
    with replacing(path) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file, as :func:`replacing` does."""
    write_bytes(path, encoded(text))


def encoded(text: str) -> bytes:
    """Text as UTF-8; bytes of file names that are none as ``\\udcXX``, which JSON reads back."""
    return text.encode("utf-8", "backslashreplace")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal, read in pieces."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
