"""From the results of all jobs to the tables of docs/ablation.md."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.ablation.jobs import ARMS, CONTROL, DATASETS, SEEDS, Job
from benchmarks.report import fill_tables

PAGE = Path(__file__).parents[2] / "docs" / "ablation.md"
DRAWS = 2000
_COLUMNS = {
    "dice": ("Dice", ".3f"),
    "lesion_f1": ("lesion F1", ".3f"),
    "false_positive_regions": ("false-positive regions", ".2f"),
}


def figures_of(dataset: str, arm: str, name: str) -> np.ndarray:
    """(seeds, cases) of one figure; seeds in order as far as they are done, nan where undefined."""
    rows = []
    for seed in range(SEEDS):
        found = Job(dataset, seed, arm).read()
        if found is None:
            break
        cases = found["cases"]
        rows.append([np.nan if cases[c][name] is None else cases[c][name] for c in sorted(cases)])
    return np.array(rows, float)


def difference(arm: np.ndarray, control: np.ndarray) -> tuple[float, float, float]:
    """Mean paired difference of the seeds that both have, with a 95 % interval over the cases.

    Parameters
    ----------
    arm, control : (seeds, cases) float ndarray

    Returns
    -------
    mean, low, high : float
        nan where no pair is defined. The interval is that of a bootstrap of cases, each with all
        of its seeds.
    """
    seeds = min(len(arm), len(control))
    paired = arm[:seeds] - control[:seeds]
    defined = ~np.isnan(paired)
    counts = defined.sum(axis=0)
    sums = np.where(defined, paired, 0).sum(axis=0)[counts > 0]
    counts = counts[counts > 0]
    if not len(counts):
        return np.nan, np.nan, np.nan
    drawn = np.random.default_rng([0, 72]).integers(len(counts), size=(DRAWS, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(sums.sum() / counts.sum()), float(low), float(high)


def table(dataset: str) -> str:
    """Markdown: means of the control, differences of the arms; arms without a result are left out.

    Empty where the control has no result.
    """
    control = {name: figures_of(dataset, CONTROL, name) for name in _COLUMNS}
    if not len(control["dice"]):
        return ""
    heads = [title for title, _ in _COLUMNS.values()]
    lines = [
        f"| {dataset} | seeds | " + " | ".join(heads) + " |",
        "|---|---|" + "---|" * len(heads),
    ]
    for arm in ARMS:
        own = {name: figures_of(dataset, arm, name) for name in _COLUMNS}
        if not len(own["dice"]):
            continue
        cells = []
        for name, (_, form) in _COLUMNS.items():
            if arm == CONTROL:
                cells.append(f"{np.nanmean(own[name]):{form}}")
            else:
                mean, low, high = difference(own[name], control[name])
                cells.append(f"{mean:+{form}} ({low:+{form}} to {high:+{form}})")
        lines.append(f"| {arm} | {len(own['dice'])} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _trained_on(dataset)])


def _trained_on(dataset: str) -> str:
    """The machines, and the states of the code, that the results come from."""
    done = [Job(dataset, seed, arm).read() for seed in range(SEEDS) for arm in ARMS]
    kinds = {name: sorted({one[name] for one in done if one}) for name in ("device", "code")}
    devices = "; ".join(kinds["device"])
    return f"Trained on {devices}. States of the code: {', '.join(kinds['code'])}."


def report(page: Path = PAGE) -> None:
    """Put the tables of all datasets between the marks of the page."""
    tables = [text for text in map(table, DATASETS) if text]
    fill_tables(page, "ablation", "\n\n".join(tables) or "Nothing has been trained yet.")
