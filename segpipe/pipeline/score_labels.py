"""What the labels of scored files are called: declared in ``dataset.json``, or found."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.errors import DataError
from segpipe.evaluate.score import LabelValues


@dataclass(frozen=True)
class Declared:
    """What ``dataset.json`` says about labels.

    Parameters
    ----------
    labels : mapping of str to int or tuple of int
        Without the background.
    ignore_label : int or None
    """

    labels: Mapping[str, LabelValues]
    ignore_label: int | None


def declared_labels(references: Path) -> Declared | None:
    """Labels from ``dataset.json`` in the references' folder or its parent; None without one.

    Raises
    ------
    DataError
        If the file exists and cannot be used.
    """
    folder = references if references.is_dir() else references.absolute().parent
    for path in (folder / "dataset.json", folder.absolute().parent / "dataset.json"):
        if path.is_file():
            return _read_declared(path)
    return None


def _read_declared(path: Path) -> Declared | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        stored = content.get("labels")
        if stored is None:
            return None
        if stored and all(key.isdecimal() for key in stored):  # Decathlon: value to name
            stored = {name: int(value) for value, name in stored.items()}
        labels: dict[str, LabelValues] = {
            name: tuple(map(_whole, value)) if isinstance(value, list) else _whole(value)
            for name, value in stored.items()
        }
        if len(set(labels.values())) < len(labels):
            raise ValueError("two labels of one value")
        if not any(value not in (0, (0,)) for n, value in labels.items() if n != "ignore"):
            raise ValueError("no label but the background")
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            path,
            "labels cannot be read",
            expected='JSON with "labels": {"background": 0, "lesion": 1}',
            received=" ".join(str(error).split()),
            fix="Correct the file.",
        ) from error
    ignored = labels.pop("ignore", None)
    foreground = {name: value for name, value in labels.items() if value not in (0, (0,))}
    return Declared(foreground, ignored if isinstance(ignored, int) else None)


def _whole(value: Any) -> int:
    number = int(value)
    if number != float(value):
        raise ValueError(f"{value} is no whole number")
    return number


def chosen_labels(
    references: Path,
    labels: Mapping[str, LabelValues],
    wanted: str | None,
    found: Collection[int] | None = None,
) -> tuple[dict[str, LabelValues], tuple[str, ...]]:
    """All labels, and the names of those to score; ``found`` are the values that files hold.

    Raises
    ------
    DataError
        If the wanted name or value is unknown.
    """
    known = dict(labels)
    if wanted is None:
        return known, tuple(known)
    if wanted in known:
        return known, (wanted,)
    number = int(wanted) if re.fullmatch(r"[0-9]+", wanted) else None
    for name, value in known.items():
        if number is not None and value in (number, (number,)):
            return known, (name,)
    binary = set(known.values()) == {None}  # and undeclared
    if binary and number and (found is None or number in found):
        return {wanted: number}, (wanted,)
    if binary and found:
        known = {str(value): value for value in sorted(found)}
    raise DataError(
        references,
        "unknown label",
        expected=", ".join(
            f"{name} ({value})" if value is not None else name for name, value in known.items()
        ),
        received=wanted,
        fix="Give one of these with --label.",
    )
