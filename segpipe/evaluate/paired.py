"""Two runs on the same lesions: which only one of them found, and where false positives differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from segpipe.errors import DataError
from segpipe.evaluate.bootstrap import mean_interval, ratio_interval
from segpipe.evaluate.permutation import sign_flip_p
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.table import read_views
from segpipe.lesions.components import size_bins
from segpipe.lesions.limits import Limits
from segpipe.metrics.detection import SIZE_EDGES_MM3

OUTCOMES = ("both", "only_a", "only_b", "neither")


@dataclass(frozen=True)
class Point:
    """At which a case was scored.

    Parameters
    ----------
    threshold, removal_size_mm3 : float
    core_threshold : float or None
    largest_only : bool
    """

    threshold: float
    removal_size_mm3: float
    core_threshold: float | None = None
    largest_only: bool = False

    def limits(self, settings: ScoreSettings) -> Limits:
        """The counting limits of a run's settings, at this point."""
        return replace(
            settings.limits(),
            removal_size_mm3=self.removal_size_mm3,
            core_threshold=self.core_threshold,
            largest_only=self.largest_only,
        )


def found_lesions(
    table: pd.DataFrame, settings: ScoreSettings, points: Mapping[str, Point]
) -> pd.DataFrame:
    """Every required lesion, and whether it was found.

    Parameters
    ----------
    table : DataFrame
        Of components, as :func:`segpipe.evaluate.table.component_table` makes it.
    settings : ScoreSettings
        Rule, connectivity and minimum size by which the run was counted.
    points : mapping of str to Point
        Case id to the point that it was scored at; other cases are left out.

    Returns
    -------
    DataFrame
        ``case``, ``label``, ``component``, ``region``, ``size_mm3``, ``found``. Empty where the
        table does not have the threshold of a case; masks (threshold nan) have one view only.
    """
    thresholds = {case: point.threshold for case, point in points.items()}
    known = table["case"].map(thresholds).astype(float)
    at_point = np.isclose(table["threshold"], known, rtol=0, atol=1e-9)
    chosen = table[at_point | (table["threshold"].isna() & known.notna())]
    parts = []
    for view in read_views(chosen):
        counts = view.count(points[view.case].limits(settings))
        lesions = np.flatnonzero(counts.counted) + 1
        parts.append(
            pd.DataFrame(
                {
                    "case": view.case,
                    "label": view.label,
                    "component": lesions,
                    "region": [view.reference.region[i - 1] for i in lesions],
                    "size_mm3": view.lesion_mm3[lesions - 1],
                    "found": np.isin(lesions, counts.matching.detected),
                }
            )
        )
    columns = ["case", "label", "component", "region", "size_mm3", "found"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def pair_lesions(a: pd.DataFrame, b: pd.DataFrame, name: str) -> pd.DataFrame:
    """The lesions that both runs were asked for.

    Parameters
    ----------
    a, b : DataFrame
        Of :func:`found_lesions`.
    name : str
        Of run b, for errors.

    Returns
    -------
    DataFrame
        ``case``, ``label``, ``component``, ``region``, ``size_mm3``, ``outcome``: one of
        :data:`OUTCOMES`.

    Raises
    ------
    DataError
        If a lesion has another size in the other run, or is in one alone though the other has
        lesions of its case and label: the references differ.
    """
    keys, scored = ["case", "label", "component"], ["case", "label"]
    both = a.merge(b, on=keys, suffixes=("", "_b"))
    for one, other, own in ((a, b, "the other run"), (b, a, name)):
        alone = one[_among(one, other, scored) & ~_among(one, other, keys)]
        if len(alone):
            first = alone.iloc[0]
            raise DataError(
                name,
                f"lesion {first['component']} of case {first['case']} is in {own} alone",
                fix="Compare runs that were scored against the same references.",
            )
    other = both[~np.isclose(both["size_mm3"].astype(float), both["size_mm3_b"].astype(float))]
    if len(other):
        first = other.iloc[0]
        raise DataError(
            name,
            f"lesion {first['component']} of case {first['case']} is another one",
            expected=f"{first['size_mm3']:g} mm³, as in the other run",
            received=f"{first['size_mm3_b']:g} mm³",
            fix="Compare runs that were scored against the same references.",
        )
    found = both["found"].astype(bool), both["found_b"].astype(bool)
    outcome = np.select(
        [found[0] & found[1], found[0], found[1]], ["both", "only_a", "only_b"], "neither"
    )
    columns = ["case", "label", "component", "region", "size_mm3"]
    return both[columns].assign(outcome=outcome)


def _among(one: pd.DataFrame, other: pd.DataFrame, keys: list[str]) -> np.ndarray:
    """(N,) bool: rows of ``one`` whose keys ``other`` has too."""
    return pd.MultiIndex.from_frame(one[keys]).isin(pd.MultiIndex.from_frame(other[keys]))


def lesion_groups(
    lesions: pd.DataFrame, patients: Mapping[str, str], bootstrap: int = 1000, seed: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Outcomes of one label's paired lesions: all, by size and by anatomical region.

    Parameters
    ----------
    lesions : DataFrame
        Of :func:`pair_lesions`.
    patients : mapping of str to str
        Case id to patient; a case that is not there is a patient.
    bootstrap, seed : int

    Returns
    -------
    dict
        ``all``, ``by_size``, ``by_region``: lists of ``name`` (or ``low_mm3``, ``high_mm3``),
        ``lesions``, a count per outcome, ``difference`` of sensitivity (B - A, over all lesions
        of the group), ``ci95`` over patients and ``p``
        (:func:`~segpipe.evaluate.permutation.sign_flip_p`); None in a group without a lesion.
    """

    def group(rows: pd.DataFrame, **name: Any) -> dict[str, Any]:
        counts = {outcome: int((rows["outcome"] == outcome).sum()) for outcome in OUTCOMES}
        gained = (rows["outcome"] == "only_b").astype(int) - (rows["outcome"] == "only_a")
        by_case = gained.groupby(rows["case"]).agg(["sum", "size"])
        owners = [patients.get(case, case) for case in by_case.index]
        counted = by_case["sum"].to_numpy(), by_case["size"].to_numpy()
        interval = ratio_interval(*counted, owners, bootstrap, seed)
        total = len(rows)
        return {
            **name,
            "lesions": total,
            **counts,
            "difference": float(gained.sum() / total) if total else None,
            "ci95": list(interval) if interval else None,
            "p": sign_flip_p(counted[0], owners, seed) if total else None,
        }

    sizes = size_bins(lesions["size_mm3"].to_numpy(float), SIZE_EDGES_MM3)
    return {
        "all": [group(lesions, name="all")],
        "by_size": [
            group(
                lesions[sizes == index],
                low_mm3=float(low),
                high_mm3=float(high) if np.isfinite(high) else None,
            )
            for index, (low, high) in enumerate(pairwise(SIZE_EDGES_MM3))
        ],
        "by_region": [
            group(rows, name=str(region)) for region, rows in lesions.groupby("region", sort=False)
        ],
    }


def false_positive_groups(
    details_a: Sequence[Mapping[str, Any]],
    details_b: Sequence[Mapping[str, Any]],
    patients: Mapping[str, str],
    bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, list[dict[str, Any]]]:
    """False-positive regions per scan of one label, paired by case.

    Parameters
    ----------
    details_a, details_b : sequence of mapping
        Details of the label in two score documents.
    patients, bootstrap, seed
        As in :func:`lesion_groups`.

    Returns
    -------
    dict
        ``by_size``, ``by_region``: lists of ``name`` (or ``low_mm3``, ``high_mm3``), ``cases``,
        ``mean_a``, ``mean_b``, ``difference`` (B - A), ``ci95`` and ``p``.
    """
    first, second = ({row["case"]: row for row in rows} for rows in (details_a, details_b))
    both = [case for case in first if case in second]

    def group(pairs: dict[str, tuple[float, float]], **name: Any) -> dict[str, Any]:
        values = np.array(list(pairs.values()), float).reshape(-1, 2)
        change = values[:, 1] - values[:, 0]
        owners = [patients.get(case, case) for case in pairs]
        interval = mean_interval(change, owners, bootstrap, seed)
        return {
            **name,
            "cases": len(pairs),
            "mean_a": float(values[:, 0].mean()),
            "mean_b": float(values[:, 1].mean()),
            "difference": float(change.mean()),
            "ci95": list(interval) if interval else None,
            "p": sign_flip_p(change, owners, seed),
        }

    def bins(case: str) -> list[tuple[Mapping, Mapping]]:
        return list(zip(first[case]["by_size"], second[case]["by_size"], strict=True))

    wrong = "false_positive_regions"
    by_size = []
    for index, (size, _) in enumerate(bins(both[0]) if both else ()):
        pairs = {case: tuple(one[wrong] for one in bins(case)[index]) for case in both}
        by_size.append(group(pairs, low_mm3=size["low_mm3"], high_mm3=size["high_mm3"]))
    places = {case: (first[case]["regions"], second[case]["regions"]) for case in both}
    places = {case: maps for case, maps in places.items() if None not in maps}
    names = dict.fromkeys(name for a, b in places.values() for name in a if name in b)
    by_region = []
    for name in names:
        pairs = {
            case: (a[name][wrong], b[name][wrong])
            for case, (a, b) in places.items()
            if name in a and name in b
        }
        by_region.append(group(pairs, name=name))
    return {"by_size": by_size, "by_region": by_region}
