"""Figures and findings in words. Missing is a word, never 0; a small value is never 0 either."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from segpipe.lesions.places import NOWHERE

OUTSIDE = "outside all regions"

SPACE = "\N{NO-BREAK SPACE}"
MISSING = "not computed"
SIDES = {"L": "left", "R": "right", "left": "left", "right": "right", "midline": "midline"}


def _is_missing(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


def number(value: float | None, digits: int = 2, missing: str = MISSING) -> str:
    """``value`` with ``digits`` decimals; values that would round to 0 say that they are not.

    Examples
    --------
    >>> number(0.125, 1), number(0.001), number(0.5, 0), number(0.0)
    ('0.1', '<0.01', '<1', '0.00')
    >>> number(None), number(float("nan"))
    ('not computed', 'not computed')
    """
    if value is None or _is_missing(value):
        return missing
    limit = 10.0**-digits
    if 0 < abs(value) <= limit / 2:  # a half is rounded to even, which is 0
        return f"<{limit:.{digits}f}" if value > 0 else f">-{limit:.{digits}f}"
    return f"{value:,.{digits}f}".replace(",", SPACE)


def probability(value: float | None, missing: str = MISSING) -> str:
    """A probability with two decimals; what is not 1 never reads as 1.

    Examples
    --------
    >>> probability(0.8), probability(0.997), probability(1.0), probability(None)
    ('0.80', '>0.99', '1.00', 'not computed')
    """
    if value is not None and 0.995 <= value < 1:
        return ">0.99"
    return number(value, 2, missing)


def signed(value: float | None, digits: int = 2, missing: str = MISSING) -> str:
    """A difference, with its sign.

    Examples
    --------
    >>> signed(-2.171), signed(0.5, 1), signed(0.0), signed(None)
    ('−2.17', '+0.5', '0.00', 'not computed')
    """
    text = number(value, digits, missing).replace("-", "−")
    return f"+{text}" if value is not None and value > 0 and text[0].isdigit() else text


def volume(value_ml: float | None, missing: str = MISSING) -> str:
    """A volume in ml, with its unit.

    Examples
    --------
    >>> volume(0.004), volume(3.14159), volume(123.4), volume(None)
    ('<0.01\\xa0ml', '3.14\\xa0ml', '123.4\\xa0ml', 'not computed')
    """
    if value_ml is None or _is_missing(value_ml):
        return missing
    return number(value_ml, 1 if abs(value_ml) >= 100 else 2) + SPACE + "ml"


def length(value_mm: float | None, missing: str = MISSING) -> str:
    """A length in mm, with its unit.

    Examples
    --------
    >>> length(12.345), length(None)
    ('12.3\\xa0mm', 'not computed')
    """
    if value_mm is None or _is_missing(value_mm):
        return missing
    return number(value_mm, 1) + SPACE + "mm"


def region_name(name: str | None) -> str | None:
    """A region's name for people; None stays None.

    Examples
    --------
    >>> region_name("white_matter"), region_name("none")
    ('white matter', 'outside all regions')
    """
    if name is None:
        return None
    return OUTSIDE if name == NOWHERE else name.replace("_", " ")


def percent(fraction: float | None, missing: str = MISSING) -> str:
    """A fraction in percent; one that would round to 0 or to all says that it is not.

    Examples
    --------
    >>> percent(0.123), percent(0.0), percent(None)
    ('12\\xa0%', '0\\xa0%', 'not computed')
    >>> percent(1 / 300), percent(299 / 300), percent(1.0)
    ('<1\\xa0%', '>99\\xa0%', '100\\xa0%')
    """
    if fraction is None or _is_missing(fraction):
        return missing
    text = number(100 * fraction, 0)
    if fraction < 1 and text == "100":
        text = ">99"
    return text + SPACE + "%"


def count(number_of: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    Examples
    --------
    >>> count(1, "lesion"), count(0, "lesion"), count(2, "case")
    ('1\\xa0lesion', '0\\xa0lesions', '2\\xa0cases')
    """
    return f"{number_of}{SPACE}{one if number_of == 1 else many or one + 's'}"


def limits(bounds: Sequence[float | None] | None, digits: int = 2) -> str:
    """Two limits as they are, or an empty string where one is not known.

    Examples
    --------
    >>> limits([1.0, 1.0]), limits([None, None]), limits(None)
    ('1.00 to 1.00', '', '')
    """
    if bounds is None or any(b is None or _is_missing(b) for b in bounds):
        return ""
    return f"{number(bounds[0], digits)} to {number(bounds[1], digits)}"


def interval(bounds: Sequence[float | None] | None, digits: int = 2) -> str:
    """A 95 % interval of a mean over patients, or an empty string when there is none.

    One without width is none: where all patients have the same value, draws of them say nothing
    about others.

    Examples
    --------
    >>> interval([0.5, 0.75]), interval(None), interval([None, None]), interval([1.0, 1.0])
    ('0.50 to 0.75', '', '', '')
    """
    return "" if bounds is not None and bounds[0] == bounds[1] else limits(bounds, digits)


def p_in_words(p: float) -> str:
    """A p value; one that would round to 0 says that it is not.

    Examples
    --------
    >>> p_in_words(0.03125), p_in_words(0.0001)
    ('p = 0.031', 'p < 0.001')
    """
    text = number(p, 3)
    return f"p < {text[1:]}" if text[0] == "<" else f"p = {text}"


def interval_and_n(spread: Mapping[str, Any], digits: int = 2) -> str:
    """Of a mean in a summary: its 95 % interval, where there is one, and its number of cases.

    Examples
    --------
    >>> interval_and_n({"mean": 0.6, "ci95": [0.5, 0.75], "defined": 4})
    '0.50 to 0.75, n = 4'
    >>> interval_and_n({"mean": 0.6, "ci95": None, "defined": 1}), interval_and_n({})
    ('n = 1', '')
    """
    n = spread.get("defined")
    known = [interval(spread.get("ci95"), digits), "" if n is None else f"n = {n}"]
    return ", ".join(filter(None, known))


def sensitivity_interval_in_words(bins: Sequence[Mapping[str, Any]]) -> str:
    """Which interval :func:`segpipe.metrics.detection.share_interval` gives these bins.

    Examples
    --------
    >>> sensitivity_interval_in_words([{"sensitivity_ci95": None}, {"sensitivity_ci95": [0, 1]}])
    'the wider of Wilson’s over lesions and the bootstrap over patients'
    >>> sensitivity_interval_in_words([{}])
    'Wilson’s over lesions alone'
    """
    if any(cell.get("sensitivity_ci95") for cell in bins):
        return "the wider of Wilson’s over lesions and the bootstrap over patients"
    return "Wilson’s over lesions alone"


def spacing(spacing_mm: Sequence[float] | None, missing: str = MISSING) -> str:
    """Voxel edge lengths.

    Examples
    --------
    >>> spacing((1.0, 0.8984, 6.5))
    '1.00 × 0.90 × 6.50\\xa0mm'
    """
    if spacing_mm is None:
        return missing
    return " × ".join(f"{s:.2f}" for s in spacing_mm) + SPACE + "mm"


def size_range(low_mm3: float | None, high_mm3: float | None) -> str:
    """A bin of sizes in mm³; no upper bound is 'and more'.

    Examples
    --------
    >>> size_range(10, 100), size_range(100, None)
    ('10 to 100\\xa0mm³', '100\\xa0mm³ and more')
    """
    low = 0.0 if low_mm3 is None else low_mm3
    if high_mm3 is None or math.isinf(high_mm3):
        return f"{low:,.0f}{SPACE}mm³ and more".replace(",", SPACE)
    return f"{low:,.0f} to {high_mm3:,.0f}{SPACE}mm³".replace(",", SPACE)


def point_in_words(point: Mapping[str, Any]) -> str:
    """An operating point: threshold and minimum size, and what else it uses.

    Examples
    --------
    >>> point_in_words({"threshold": 0.5, "min_size_mm3": 10.0})
    'threshold 0.5, minimum size 10 mm³'
    >>> point_in_words({"threshold": 0.5, "min_size_mm3": 0, "core_threshold": 0.8,
    ...                 "largest_only": True})
    'threshold 0.5, minimum size 0 mm³, core 0.8, largest region only'
    """
    text = f"threshold {point['threshold']:g}, minimum size {point['min_size_mm3']:g} mm³"
    if point.get("core_threshold") is not None:
        text += f", core {point['core_threshold']:g}"
    return f"{text}, largest region only" if point.get("largest_only") else text


def removal_in_words(point: Mapping[str, Any]) -> str:
    """Which regions an operating point removes; empty where it removes none.

    Examples
    --------
    >>> removal_in_words({"min_size_mm3": 10.0})
    'below 10 mm³'
    >>> removal_in_words({"min_size_mm3": 5, "core_threshold": 0.8, "largest_only": True})
    'below 5 mm³, without a voxel above 0.8, or not the largest'
    """
    reasons = []
    if point["min_size_mm3"] > 0:
        reasons.append(f"below {point['min_size_mm3']:g} mm³")
    if point.get("core_threshold") is not None:
        reasons.append(f"without a voxel above {point['core_threshold']:g}")
    if point.get("largest_only"):
        reasons.append("not the largest")
    return ", ".join([*reasons[:-1], f"or {reasons[-1]}"]) if reasons[1:] else "".join(reasons)


def sentence(text: str) -> str:
    """``text`` as a sentence of its own.

    Examples
    --------
    >>> sentence("spacing is outside the training range"), sentence("Mend it.")
    ('Spacing is outside the training range.', 'Mend it.')
    >>> sentence("case_1.nii: ends early")
    'case_1.nii: ends early.'
    """
    text = text.strip()
    first = text.split(" ")[0]
    start = text[:1].upper() if first.isalpha() else text[:1]  # file names stay as they are
    return start + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
