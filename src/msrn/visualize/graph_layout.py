"""Where does each label of a drawn graph stand? On a circle, like beside like; those that many call for inside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from msrn.labels.graph import Array

__all__ = ["hubs_and_ring", "node_places", "ring_extent", "ring_order"]

_HUB_SHARE = 0.12  # a label that this share of all linked labels call for stands in the middle
_LEAST_HUB, _MOST_HUBS = 4, 6


def hubs_and_ring(links: Array, linked: Sequence[int]) -> tuple[list[int], list[int]]:
    """Labels that many call for, and the others."""
    least = max(_LEAST_HUB, _HUB_SHARE * len(linked))
    calls = links.sum(axis=0)
    hubs = sorted((c for c in linked if calls[c] >= least), key=lambda c: (-calls[c], c))[:_MOST_HUBS]
    return hubs, [column for column in linked if column not in set(hubs)]


def ring_order(
    weights: Array, links: Array, ring: Sequence[int], hubs: Sequence[int], groups: Sequence[int] | None
) -> list[int]:
    """The order around the circle: group by group, and within, like beside like."""
    if groups is None:
        return _seriate(weights, links, ring)
    order = []
    for group in sorted({groups[column] for column in ring}):
        order += _seriate(weights, links, [column for column in ring if groups[column] == group])
    return order


def _seriate(weights: Array, links: Array, columns: Sequence[int]) -> list[int]:
    """Spectral bisection, again and again: an edge counts most, then a weight, then a shared target."""
    part = np.ix_(columns, columns)
    near = np.minimum(weights[part], 1) + 3 * links[part]
    near = near + near.T + 0.5 * links[columns] @ links[columns].T + 1e-3  # the last ties what nothing ties
    np.fill_diagonal(near, 0)
    return [columns[place] for place in _bisect(near, list(range(len(columns))))]


def _bisect(near: Array, places: list[int]) -> list[int]:
    if len(places) < 3:
        return places
    part = near[np.ix_(places, places)]
    scale = 1 / np.sqrt(part.sum(axis=1))
    _, vectors = np.linalg.eigh(np.eye(len(part)) - part * scale * scale[:, None])
    values = vectors[:, 1] * scale  # the Fiedler vector: small cuts lie at its change of sign
    order = np.argsort(values, kind="stable").tolist()
    cut = int((values < 0).sum())
    if not 0 < cut < len(order):
        return [places[place] for place in order]
    return _bisect(near, [places[p] for p in order[:cut]]) + _bisect(near, [places[p] for p in order[cut:]])


def ring_extent(ring: Sequence[tuple[tuple[float, float], float]], radius: float, *, flat: bool) -> tuple[float, float]:
    """Half the width and height that the circle takes with the names around it, turned or flat, in inches."""
    if not ring:
        return 0.0, 0.0 if not radius else 0.6
    if flat:
        return max(abs(x) + long + 0.25 for (x, _), long in ring), max(abs(y) + 0.45 for (_, y), _ in ring)
    ends = [1 + (0.25 + long) / radius for _, long in ring]
    across = max(abs(x) * end for ((x, _), _), end in zip(ring, ends, strict=True))
    up = max(abs(y) * end for ((_, y), _), end in zip(ring, ends, strict=True))
    return across, up


def node_places(
    ring: Sequence[int], hubs: Sequence[int], links: Array, radius: float
) -> dict[int, tuple[float, float]]:
    """Coordinates in inches; hubs lean towards those that call for them."""
    places = {}
    for number, column in enumerate(ring):
        angle = math.pi / 2 - math.tau * (number + 0.5) / len(ring)
        places[column] = (radius * math.cos(angle), radius * math.sin(angle))
    if len(hubs) == 1:
        places[hubs[0]] = (0.0, 0.0)
        return places
    pulls = {}
    for hub in hubs:
        callers = [places[column] for column in ring if links[column, hub]]
        pulls[hub] = (
            math.atan2(*(sum(values) for values in reversed(list(zip(*callers, strict=True))))) if callers else 0
        )
    turned = sorted(hubs, key=lambda hub: pulls[hub])
    inner = radius * min(0.5, 0.22 + 0.06 * len(hubs))
    first = pulls[turned[0]] if turned else 0.0
    for number, hub in enumerate(turned):
        angle = first + math.tau * number / len(turned)
        places[hub] = (inner * math.cos(angle), inner * math.sin(angle))
    return places
