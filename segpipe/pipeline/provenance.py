"""Which code is running: version and source revision."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import segpipe
from segpipe.backend.switches import switches_of_bits


@dataclass(frozen=True)
class Source:
    """Source revision of the code, None where it does not run from a git checkout."""

    version: str
    revision: str | None
    dirty: bool | None


def source() -> Source:
    """Version, git revision and whether the checkout holds changes.

    A checkout is of segpipe only where its top holds this package: a package that is installed
    inside somebody's repository has none of its revisions.
    """
    top = Path(segpipe.__file__).resolve().parents[1]
    revision = _git(top, "rev-parse", "HEAD")
    whose = _git(top, "rev-parse", "--show-toplevel")
    if revision is None or whose is None or Path(whose).resolve() != top:
        return Source(segpipe.__version__, None, None)
    changed = _git(top, "status", "--porcelain", "--untracked-files=no")
    return Source(segpipe.__version__, revision, None if changed is None else bool(changed))


def now() -> str:
    """Time of the day in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> str:
    """Python, operating system, switches and packages; a line for each.

    Packages are those that are installed, with their version; switches are the variables of the
    process that bits depend on, as comments.
    """
    packages = {(d.name or "").lower(): d.version for d in metadata.distributions()}
    lines = [f"{name}=={version}" for name, version in sorted(packages.items()) if name]
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    switches = [f"# {name}={value}" for name, value in switches_of_bits().items()]
    head = [f"# Python {platform.python_version()}, {system}", *switches]
    return "\n".join([*head, *lines, ""])


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
