"""Places of labels in the drawing of a graph."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np
import pytest

from msrn.visualize.graph_layout import hubs_and_ring, node_places, ring_extent, ring_order


def star(size: int, hub: int = 0) -> np.ndarray:
    """All labels have an edge to one."""
    links = np.zeros((size, size))
    links[:, hub] = 1
    links[hub, hub] = 0
    return links


def test_a_label_with_many_incoming_edges_is_a_hub() -> None:
    assert hubs_and_ring(star(8, hub=3), range(8)) == ([3], [0, 1, 2, 4, 5, 6, 7])
    assert hubs_and_ring(star(4), range(4)) == ([], [0, 1, 2, 3])  # three edges are too few
    assert hubs_and_ring(star(8), [0, 1, 2]) == ([0], [1, 2])


def test_at_most_six_labels_are_hubs_those_with_most_edges() -> None:
    links = np.zeros((60, 60))
    for hub in range(9):
        links[20 : 40 + hub, hub] = 1
    hubs, ring = hubs_and_ring(links, range(60))
    assert hubs == [8, 7, 6, 5, 4, 3]
    assert sorted([*hubs, *ring]) == list(range(60))


@pytest.mark.parametrize("seed", range(5))
def test_labels_that_are_connected_are_side_by_side(seed: int) -> None:
    """Three cliques in a shuffled order come out as three arcs."""
    clique = np.random.default_rng(seed).permutation(np.repeat([0, 1, 2], 4))
    weights = (clique[:, None] == clique[None]).astype(float)
    np.fill_diagonal(weights, 0)
    order = ring_order(weights, weights, range(12), [], None)
    assert sorted(order) == list(range(12))
    changes = sum(clique[one] != clique[other] for one, other in pairwise(order))
    assert changes == 2


def test_label_groups_keep_together_in_their_order() -> None:
    groups = [2, 0, 1, 0, 2, 1, 0]
    weights = np.random.default_rng(0).random((7, 7))
    order = ring_order(weights, (weights > 0.6).astype(float), [0, 1, 2, 3, 4, 6], [5], groups)
    assert [groups[column] for column in order] == [0, 0, 0, 1, 2, 2]


@pytest.mark.parametrize("hubs", [[], [40], [40, 41], [40, 41, 42, 43, 44, 45]])
def test_no_two_labels_overlap(hubs: list[int]) -> None:
    links = np.zeros((46, 46))
    links[:40, hubs] = 1
    places = node_places(range(40), hubs, links, 3.0)
    assert sorted(places) == [*range(40), *hubs]
    assert min(math.dist(places[a], places[b]) for a, b in combinations(places, 2)) > 0.4
    assert all(math.hypot(*places[column]) == pytest.approx(3.0) for column in range(40))
    assert all(math.hypot(*places[hub]) < (0.1 if len(hubs) == 1 else 2) for hub in hubs)


@pytest.mark.parametrize("size", [5, 6, 7])
def test_labels_that_are_all_connected_do_not_overlap(size: int) -> None:
    links = 1 - np.eye(size)
    hubs, ring = hubs_and_ring(links, range(size))
    places = node_places(ring_order(links, links, ring, hubs, None), hubs, links, 2.2)
    assert sorted(places) == list(range(size))
    assert min(math.dist(places[a], places[b]) for a, b in combinations(places, 2)) > 0.4


def test_a_hub_is_placed_towards_the_labels_with_edges_to_it() -> None:
    links = np.zeros((10, 10))
    links[0:4, 8] = links[4:8, 9] = 1  # the right half of the circle, the left half
    places = node_places(range(8), [8, 9], links, 2.0)
    assert places[8][0] > 0.3
    assert places[9][0] < -0.3


@pytest.mark.parametrize("flat", [True, False])
def test_names_are_within_the_extent(flat: bool) -> None:
    places = node_places(range(9), [], np.zeros((9, 9)), 2.0)
    ring = [(places[column], 0.2 * column) for column in range(9)]
    across, up = ring_extent(ring, 2.0, flat=flat)
    for (x, y), long in ring:
        angle = 0.0 if flat else math.atan2(y, x)
        side = math.copysign(1, x) if flat else 1
        assert abs(x + side * long * math.cos(angle)) < across
        assert abs(y + side * long * math.sin(angle)) < up
    assert ring_extent([], 0.0, flat=flat) == (0.0, 0.0)
