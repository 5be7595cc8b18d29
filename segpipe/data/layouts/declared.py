"""What a dataset declares in ``dataset.json``: channels and labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from segpipe.config import DataConfig
from segpipe.errors import DataError

_LARGEST_BYTES = 64 << 20
_FIX = "Correct dataset.json, or name them in the configuration (data.channels, data.labels)."


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    DataError
        If the file cannot be read, is too large, or is no JSON object.
    """
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise DataError(path, "too large", expected=f"at most {_LARGEST_BYTES:,} bytes")
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            path,
            "not readable as JSON",
            expected="a JSON object in UTF-8",
            received=str(error),
            fix="Correct the file.",
        ) from error
    if not isinstance(document, dict):
        raise DataError(path, "not a JSON object", expected="{…}", received=type(document).__name__)
    return document


def declared_channels(document: dict[str, Any], where: Path, config: DataConfig) -> tuple[str, ...]:
    """Channel names by position, from ``channel_names`` or ``modality``.

    Where neither is there, or names are empty or used twice (as nnU-Net's ``noNorm`` may be) and
    ``data.channels`` has as many, those; else ().

    Raises
    ------
    DataError
        If the positions are not 0, 1, 2, … or a name is empty or used twice.
    """
    entries = document.get("channel_names", document.get("modality"))
    if entries is None:
        return config.channels or ()
    wanted = [str(i) for i in range(len(entries))] if isinstance(entries, dict) else None
    names = [entries.get(i) for i in wanted] if wanted else []
    valid = all(isinstance(name, str) and name.strip() for name in names)
    if not names or not valid or len(set(names)) != len(names):
        if config.channels and len(config.channels) == len(names):
            return config.channels
        raise DataError(
            where,
            "channels that cannot be used",
            expected='one different name per position, such as {"0": "FLAIR", "1": "T1"}',
            received=json.dumps(entries)[:200],
            fix=_FIX,
        )
    return tuple(names)


def choose_channels(
    declared: tuple[str, ...], config: DataConfig, where: Path
) -> tuple[tuple[str, int], ...]:
    """Names and stored positions of the channels to use, in the configured order.

    Raises
    ------
    DataError
        If a configured channel is not declared.
    """
    if not declared:
        return tuple((name, i) for i, name in enumerate(config.channels or ()))
    wanted = config.channels or declared
    unknown = [name for name in wanted if name not in declared]
    if unknown or len(set(wanted)) != len(wanted):
        raise DataError(
            where,
            "channels that the dataset does not have, or one of them twice",
            expected=f"some of {', '.join(declared)}",
            received=", ".join(wanted),
            fix="Correct data.channels or the names in dataset.json; or predict with a bundle for "
            "channels of these names.",
        )
    return tuple((name, declared.index(name)) for name in wanted)


def choose_labels(entries: object, config: DataConfig, where: Path) -> dict[str, int]:
    """Label name to value without background: as configured, else as declared.

    Parameters
    ----------
    entries : object
        Name to value (nnU-Net) or value to name (Decathlon).

    Raises
    ------
    DataError
        If the labels are missing, are regions (lists of values), or share a name or value.
    """
    labels = config.labels if config.labels is not None else _declared_labels(entries, where)
    if "ignore" in labels and config.labels is None and config.ignore_label is None:
        raise DataError(
            where,
            "the dataset declares an ignore label",
            expected="data.ignore_label to say which value counts for nobody",
            fix=f"Set data.ignore_label: {labels['ignore']}.",
        )
    kept = {name: value for name, value in labels.items() if value not in (0, config.ignore_label)}
    values = list(kept.values())
    if not kept or len(set(values)) != len(values) or min(values) < 0:
        raise DataError(
            where,
            "labels that cannot be used",
            expected="at least one label beside background, values different and above 0",
            received=str(labels),
            fix=_FIX,
        )
    return kept


def _declared_labels(entries: object, where: Path) -> dict[str, int]:
    if not isinstance(entries, dict) or not entries:
        raise DataError(
            where,
            "no labels are declared",
            expected='"labels" such as {"background": 0, "lesion": 1}',
            received=json.dumps(entries)[:200],
            fix=_FIX,
        )
    if any(isinstance(value, list) for value in entries.values()):
        raise DataError(
            where,
            "labels that overlap (region-based training)",
            expected="one value per label",
            received=json.dumps(entries)[:200],
            fix="Declare the values that the masks hold, one label each.",
        )
    by_name = {name: _whole(value) for name, value in entries.items()}
    by_value = {str(name): _whole(value) for value, name in entries.items()}
    for labels in (by_name, by_value):
        if len(labels) == len(entries) and all(value is not None for value in labels.values()):
            return {name: value for name, value in labels.items() if value is not None}
    raise DataError(
        where,
        "labels that cannot be used",
        expected='name to value ({"lesion": 1}) or value to name ({"1": "lesion"}), each once',
        received=json.dumps(entries)[:200],
        fix=_FIX,
    )


def _whole(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return None
