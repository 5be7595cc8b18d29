"""Scans that do not fit into memory: a fault of theirs, which must not end all others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from segpipe.backend import is_out_of_memory
from segpipe.data.layouts import Case
from segpipe.errors import exceeds_memory


@contextmanager
def within_memory(case: Case) -> Iterator[None]:
    """Turn what is raised where memory is exhausted into an error that names the case.

    Raises
    ------
    DataError
        Instead of MemoryError and of what the backends raise.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, MemoryError) and not is_out_of_memory(error):
            raise
        raise exceeds_memory(f"case {case.id}", error) from error
