"""Four programs' lesion masks, ranked by overlap and by what they invent; draws the figure too."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.oracle.volumes import DATA, PROGRAMS, program_pairs

FIGURE = Path(__file__).parents[1] / "docs" / "img" / "ranking.png"
_FIGURES = {
    "Dice": "dice",
    "surface Dice": "surface_dice",
    "lesion sensitivity": "lesion_sensitivity",
    "lesion F1": "lesion_f1",
    "false-positive regions": "false_positive_regions",
    "false-positive ml": "false_positive_volume_ml",
}
_LESS_IS_BETTER = ("false-positive regions", "false-positive ml")


def run(repeat: int, smoke: bool) -> list[dict[str, Any]]:
    """Means over the scans and ranks, a row per program; none without the data."""
    dataset = DATA / "ms_lesions"
    if not (dataset / "predictions").is_dir():
        print(f"ranking: left out, no predictions in {dataset}")
        return []
    rows = ranked(score(dataset))
    if not smoke:
        draw(rows, FIGURE)
    return rows


def score(dataset: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of ``score_labels`` by program."""
    from benchmarks.oracle.ours import figures

    rows: dict[str, list[dict[str, Any]]] = {program: [] for program in PROGRAMS}
    for pair in program_pairs(dataset):
        rows[pair.name.partition("-")[0]].append(figures(pair, "any"))
    return rows


def ranked(scores: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Means of every figure with the rank of the program (1: best), by falling Dice."""
    means = {
        program: {n: statistics.fmean(row[f] for row in rows) for n, f in _FIGURES.items()}
        for program, rows in scores.items()
    }
    table = []
    for program in sorted(means, key=lambda name: -means[name]["Dice"]):
        row: dict[str, Any] = {"program": program}
        for name, value in means[program].items():
            sign = 1 if name in _LESS_IS_BETTER else -1
            better = sum(sign * other[name] < sign * value for other in means.values())
            row |= {name: value, f"rank by {name}": better + 1}
        table.append(row)
    return table


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """One line per program from its rank by Dice to its ranks by lesions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = ("Dice", "lesion F1", "lesion sensitivity", "false-positive regions")
    figure, axes = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
    for row, marker in zip(rows, "osD^", strict=True):
        ranks = [row[f"rank by {name}"] for name in columns]
        (line,) = axes.plot(range(len(columns)), ranks, marker=marker, markersize=9, linewidth=2)
        for place, name in enumerate(columns):
            first = place == 0
            axes.annotate(
                f"{row['program']}  {_short(row[name])}" if first else _short(row[name]),
                (place, ranks[place]),
                (-12, 0) if first else (0, 15),
                textcoords="offset points",
                ha="right" if first else "center",
                va="center",
                color=line.get_color(),
                fontweight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
    axes.set_xticks(range(len(columns)), [f"by {name}" for name in columns])
    axes.set_yticks(range(1, len(rows) + 1), ["best", *[""] * (len(rows) - 2), "worst"])
    axes.set_xlim(-0.75, len(columns) - 0.7)
    axes.set_ylim(0.5, len(rows) + 0.3)
    axes.invert_yaxis()
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _short(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"
