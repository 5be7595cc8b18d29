"""Lengths of time as people write them: 90s, 30min, 1h30min."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)min)?(?:(\d+(?:\.\d+)?)s)?")
_SECONDS = (3600.0, 60.0, 1.0)


def parse_duration(text: str) -> float:
    """Seconds of a duration.

    Raises
    ------
    ValueError
        If it is none, or no time at all.

    Examples
    --------
    >>> parse_duration("1h30min"), parse_duration("0.5min")
    (5400.0, 30.0)
    """
    found = _DURATION.fullmatch(text.replace(" ", ""))
    parts = found.groups() if found else ()
    seconds = sum(float(n) * s for n, s in zip(parts, _SECONDS, strict=False) if n is not None)
    if seconds <= 0:
        raise ValueError("expected a length of time above 0, such as 90s, 30min or 1h30min")
    return seconds


def known_duration(text: str) -> str:
    """The same text; for validators.

    Raises
    ------
    ValueError
        As :func:`parse_duration` does.
    """
    parse_duration(text)
    return text


def write_duration(seconds: float) -> str:
    """Seconds as :func:`parse_duration` reads them, rounded to what a person needs.

    Examples
    --------
    >>> write_duration(5400), write_duration(1799.7), write_duration(42.2)
    ('1h30min', '30min', '42s')
    """
    if seconds < 120:
        return f"{seconds:.0f}s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}min" if minutes or not hours else "")
