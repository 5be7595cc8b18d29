"""Every error that a user can cause, as one family.

The command line prints these in one line and exits with code 2; anything else is a bug
and keeps its traceback.
"""

from __future__ import annotations

from pathlib import Path


class SegpipeError(Exception):
    """Base of all errors that the user can act upon."""


class ConfigError(SegpipeError):
    """A configuration that cannot be used; the message lists every problem found."""


class ModelError(SegpipeError):
    """A bundle, checkpoint or device that cannot be used, or a training that diverged."""


class GeometryError(SegpipeError):
    """Volumes that do not lie on one grid, or a grid that is no grid."""


class StorageError(SegpipeError):
    """A folder that cannot be written: a fault of the machine, and of no case."""


class DataError(SegpipeError):
    """An input file or dataset that cannot be used.

    Parameters
    ----------
    where : str or Path
        The file, folder or case at fault.
    problem : str
        What is wrong, in a few words.
    expected, received : str
        What would have been right, and what was found instead.
    fix : str
        What the user can do about it.
    """

    def __init__(
        self,
        where: str | Path,
        problem: str,
        *,
        expected: str = "",
        received: str = "",
        fix: str = "",
    ) -> None:
        self.where = str(where)
        self.problem = problem
        self.expected = expected
        self.received = received
        self.fix = fix
        parts = [f"{self.where}: {problem}"]
        if expected:
            parts.append(f"expected {expected}")
        if received:
            parts.append(f"received {received}")
        message = "; ".join(parts)
        super().__init__(f"{message}. {fix}" if fix else message)

    def __reduce__(self):  # keyword-only arguments survive the way back from a worker process
        return _rebuild_data_error, (
            self.where,
            self.problem,
            self.expected,
            self.received,
            self.fix,
        )


def _rebuild_data_error(where, problem, expected, received, fix):
    return DataError(where, problem, expected=expected, received=received, fix=fix)


def without_frames(error: SegpipeError) -> SegpipeError:
    """An error to keep while others go on: without the frames that it came through.

    They hold on to whatever was in memory there, such as the arrays of a scan.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def exceeds_memory(where: str | Path, error: BaseException) -> DataError:
    """What to say of a scan that does not fit into memory."""
    return DataError(
        where,
        "needs more memory than there is",
        received=" ".join(str(error).split())[:200] or type(error).__name__,
        fix="Check size and spacing in the scan's header, or use a machine with more memory.",
    )
