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
    "lesion_sensitivity": ("lesion sensitivity", ".3f"),
    "lesion_f1": ("lesion F1", ".3f"),
    "false_positive_regions": ("false-positive regions", ".2f"),
}


def figures_of(dataset: str, arm: str, name: str) -> dict[int, np.ndarray]:
    """Seed to the (cases,) values of one figure; nan where undefined, and Dice without lesions.

    Dice of a scan without lesions is 0 or undefined as something is found there or not, which the
    false-positive regions tell better.
    """
    found = {}
    for seed in range(SEEDS):
        result = Job(dataset, seed, arm).read()
        if result is not None:
            cases = [case for _, case in sorted(result["cases"].items())]
            left_out = [name == "dice" and case["lesion_f1"] is None for case in cases]
            values = [None if out else c[name] for c, out in zip(cases, left_out, strict=True)]
            found[seed] = np.array([np.nan if v is None else v for v in values], float)
    return found


def comparable(dataset: str, arm: str) -> list[int]:
    """Seeds with which an arm and the control were trained by the same code."""
    seeds = []
    for seed in range(SEEDS):
        own, control = (Job(dataset, seed, one).read() for one in (arm, CONTROL))
        if own is not None and control is not None and own["code"] == control["code"]:
            seeds.append(seed)
    return seeds


def difference(paired: np.ndarray) -> tuple[float, float, float]:
    """Mean of paired differences, with a 95 % interval over the cases.

    Parameters
    ----------
    paired : (seeds, cases) float ndarray
        nan where one of a pair is undefined.

    Returns
    -------
    mean, low, high : float
        nan where no pair is defined. The interval is that of a bootstrap of cases, each with all
        of its seeds.
    """
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
    """Markdown: means of the control, differences of the arms; arms without a pair are left out.

    Empty where the control has no result.
    """
    control = {name: figures_of(dataset, CONTROL, name) for name in _COLUMNS}
    if not control["dice"]:
        return ""
    heads = [title for title, _ in _COLUMNS.values()]
    lines = [
        f"| {dataset} | seeds | " + " | ".join(heads) + " |",
        "|---|---|" + "---|" * len(heads),
    ]
    for arm in ARMS:
        seeds = comparable(dataset, arm)
        cells = []
        for name, (_, form) in _COLUMNS.items():
            own = figures_of(dataset, arm, name)
            if arm == CONTROL:
                every = np.array(list(own.values()))
                cells.append(f"{np.nanmean(every):{form}} {_by_seed(every, form)}")
            elif seeds:
                paired = np.array([own[seed] - control[name][seed] for seed in seeds])
                mean, low, high = difference(paired)
                told = f"{mean:+{form}} ({low:+{form}} to {high:+{form}})"
                cells.append(f"{told} {_by_seed(paired, f'+{form}')}")
        if cells:
            lines.append(f"| {arm} | {', '.join(map(str, seeds))} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _trained_on(dataset)])


def _by_seed(values: np.ndarray, form: str) -> str:
    """The mean of each row, in brackets."""
    means = [row[~np.isnan(row)].mean() if not np.isnan(row).all() else np.nan for row in values]
    return f"[{', '.join(f'{mean:{form}}' for mean in means)}]"


def _trained_on(dataset: str) -> str:
    """The machines, and the states of the code, that the results come from; and those left out."""
    jobs = [Job(dataset, seed, arm) for seed in range(SEEDS) for arm in ARMS]
    done = [(job, found) for job in jobs if (found := job.read())]
    kinds = {name: sorted({one[name] for _, one in done}) for name in ("device", "code")}
    devices = "; ".join(kinds["device"])
    told = f"Trained on {devices}. States of the code: {', '.join(kinds['code'])}."
    lone = [
        f"{job.arm} with seed {job.seed}"
        for job, _ in done
        if job.seed not in comparable(dataset, job.arm)
    ]
    if lone:
        told += f" Left out, as no control was trained by their code: {'; '.join(lone)}."
    return told


def report(page: Path = PAGE) -> None:
    """Put the tables of all datasets between the marks of the page."""
    tables = [text for text in map(table, DATASETS) if text]
    fill_tables(page, "ablation", "\n\n".join(tables) or "Nothing has been trained yet.")
