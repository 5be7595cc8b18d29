"""One-to-one assignment: the best choice of pairs, and the greedy one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def best_assignment(
    reference: np.ndarray, prediction: np.ndarray, overlap: np.ndarray
) -> np.ndarray:
    """Choose candidate pairs so that nobody has two partners.

    Parameters
    ----------
    reference, prediction : (E,) int ndarray
        Candidate pairs, each at most once.
    overlap : (E,) int ndarray
        Above 0.

    Returns
    -------
    (E,) bool ndarray
        The chosen pairs: as many as possible; among such choices the largest total overlap;
        among those the one in which reference components, in label order, have partners with
        the lowest labels, any partner coming before none.

    Examples
    --------
    >>> import numpy as np
    >>> best_assignment(np.array([1, 1, 2]), np.array([1, 2, 1]), np.array([9, 1, 1])).tolist()
    [False, True, True]
    """
    chosen = np.zeros(len(reference), bool)
    for edges in _clusters(reference, prediction):
        chosen[edges[_solve(reference[edges], prediction[edges], overlap[edges])]] = True
    return chosen


def greedy_assignment(
    reference: np.ndarray, prediction: np.ndarray, score: np.ndarray
) -> np.ndarray:
    """Take candidate pairs from the highest score down, each component once.

    Parameters
    ----------
    reference, prediction : (E,) int ndarray
        Candidate pairs, each at most once.
    score : (E,) float ndarray
        Ties go to the lowest reference, then to the lowest prediction.

    Returns
    -------
    (E,) bool ndarray
        The chosen pairs.

    Examples
    --------
    >>> import numpy as np
    >>> pairs = np.array([1, 1, 2]), np.array([1, 2, 1])
    >>> greedy_assignment(*pairs, np.array([0.9, 0.1, 0.1])).tolist()
    [True, False, False]
    """
    chosen = np.zeros(len(reference), bool)
    taken: tuple[set[int], set[int]] = (set(), set())
    for edge in np.lexsort((prediction, reference, -score)).tolist():
        pair = int(reference[edge]), int(prediction[edge])
        if pair[0] not in taken[0] and pair[1] not in taken[1]:
            chosen[edge] = True
            taken[0].add(pair[0])
            taken[1].add(pair[1])
    return chosen


def _clusters(reference: np.ndarray, prediction: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of the edges of every connected part of the graph of candidates."""
    if len(reference) == 0:
        return
    rows = np.unique(reference, return_inverse=True)[1]
    columns = np.unique(prediction, return_inverse=True)[1] + rows.max() + 1
    nodes = columns.max() + 1
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(nodes, nodes))
    part = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(part, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(part[order])) + 1)


def _solve(reference: np.ndarray, prediction: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    rows = np.unique(reference, return_inverse=True)[1]
    columns = np.unique(prediction, return_inverse=True)[1]
    if rows.max() == 0 or columns.max() == 0:  # a star: one pair, and its choice is plain
        return np.array([np.lexsort((columns, rows, -overlap))[0]])
    weights = np.zeros((rows.max() + 1, columns.max() + 1))
    weights[rows, columns] = overlap + (overlap.sum() + 1.0)  # one pair more outweighs all overlap
    partner = _lowest_labels(weights)
    return np.flatnonzero(partner[rows] == columns)


def _lowest_labels(weights: np.ndarray) -> np.ndarray:
    """The optimal partner of every row (-1: none) that comes first in label order."""
    weights = weights.copy()
    best, partner = _optimum(weights)
    for row in range(len(weights)):
        present = partner[row] if partner[row] >= 0 else weights.shape[1]
        for column in np.flatnonzero(weights[row, :present]).tolist():
            total, other = _optimum(_forced(weights, row, column))
            if total == best:
                partner = other
                break
        weights = _forced(weights, row, partner[row])
    return partner


def _forced(weights: np.ndarray, row: int, column: int) -> np.ndarray:
    """The same problem with a row given its partner, or none for -1."""
    forced = weights.copy()
    forced[row] = 0
    if column >= 0:
        forced[:, column] = 0
        forced[row, column] = weights[row, column]
    return forced


def _optimum(weights: np.ndarray) -> tuple[float, np.ndarray]:
    rows, columns = linear_sum_assignment(weights, maximize=True)
    real = weights[rows, columns] > 0
    partner = np.full(len(weights), -1)
    partner[rows[real]] = columns[real]
    return float(weights[rows, columns].sum()), partner
