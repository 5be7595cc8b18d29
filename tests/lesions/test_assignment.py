from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.lesions.assignment import best_assignment


def brute_force(edges):
    """Every subset of edges: most pairs, largest overlap, then the lowest partners in order."""
    references = sorted({r for r, _, _ in edges})
    best = None
    for size in range(len(edges) + 1):
        for chosen in combinations(edges, size):
            rows, columns = [e[0] for e in chosen], [e[1] for e in chosen]
            if len(set(rows)) < size or len(set(columns)) < size:
                continue
            partner = {r: p for r, p, _ in chosen}
            order = [partner.get(r, 10**6) for r in references]
            key = (-size, -sum(e[2] for e in chosen), order)
            if best is None or key < best[0]:
                best = (key, chosen)
    return {(r, p) for r, p, _ in best[1]}


edges_strategy = st.dictionaries(
    st.tuples(st.integers(1, 4), st.integers(1, 4)), st.integers(1, 4), max_size=9
)


@settings(max_examples=150, deadline=None)
@given(edges_strategy)
def test_equals_brute_force(overlaps):
    edges = sorted((r, p, v) for (r, p), v in overlaps.items())
    columns = np.array(edges, int).reshape(-1, 3).T
    chosen = best_assignment(*columns)
    assert {(r, p) for (r, p, _), c in zip(edges, chosen, strict=True) if c} == brute_force(edges)


@pytest.mark.parametrize("seed", range(3))
def test_cardinality_and_overlap_equal_networkx(seed):
    networkx = pytest.importorskip("networkx")
    rng = np.random.default_rng(seed)
    pairs = np.unique(rng.integers(1, 25, size=(60, 2)), axis=0)
    overlap = rng.integers(1, 50, len(pairs))
    graph = networkx.Graph()
    for (r, p), v in zip(pairs, overlap, strict=True):
        graph.add_edge(("r", int(r)), ("p", int(p)), weight=int(v))
    expected = networkx.max_weight_matching(graph, maxcardinality=True)
    chosen = best_assignment(pairs[:, 0], pairs[:, 1], overlap)
    assert chosen.sum() == len(expected)
    assert overlap[chosen].sum() == sum(graph.edges[edge]["weight"] for edge in expected)
