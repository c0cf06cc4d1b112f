"""Place the labels of a graph: on a circle, related ones side by side, and those with many incoming edges inside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from msrn.labels.cooccurrence import Array

__all__ = ["hubs_and_ring", "node_places", "ring_extent", "ring_order"]

_HUB_SHARE = 0.12  # a label with edges from this share of all linked labels is a hub, and placed inside the circle
_MIN_HUB_EDGES, _MAX_HUBS = 4, 6


def hubs_and_ring(links: Array, linked: Sequence[int]) -> tuple[list[int], list[int]]:
    """Hubs, which are labels with many incoming edges, and the other labels."""
    required = max(_MIN_HUB_EDGES, _HUB_SHARE * len(linked))
    incoming = links.sum(axis=0)
    hubs = sorted((c for c in linked if incoming[c] >= required), key=lambda c: (-incoming[c], c))[:_MAX_HUBS]
    return hubs, [column for column in linked if column not in set(hubs)]


def ring_order(
    weights: Array, links: Array, ring: Sequence[int], hubs: Sequence[int], groups: Sequence[int] | None
) -> list[int]:
    """The order around the circle: label groups one after another, and related labels side by side in each."""
    if groups is None:
        return _seriate(weights, links, ring)
    order = []
    for group in sorted({groups[column] for column in ring}):
        order += _seriate(weights, links, [column for column in ring if groups[column] == group])
    return order


def _seriate(weights: Array, links: Array, columns: Sequence[int]) -> list[int]:
    """Recursive spectral bisection: an edge counts most, then a weight, then a shared target."""
    part = np.ix_(columns, columns)
    near = np.minimum(weights[part], 1) + 3 * links[part]
    near = near + near.T + 0.5 * links[columns] @ links[columns].T + 1e-3  # the constant connects all
    np.fill_diagonal(near, 0)
    return [columns[place] for place in _bisect(near, list(range(len(columns))))]


def _bisect(near: Array, places: list[int]) -> list[int]:
    if len(places) < 3:
        return places
    part = near[np.ix_(places, places)]
    scale = 1 / np.sqrt(part.sum(axis=1))
    _, vectors = np.linalg.eigh(np.eye(len(part)) - part * scale * scale[:, None])
    values = vectors[:, 1] * scale  # Fiedler vector: its change of sign is a small cut
    order = np.argsort(values, kind="stable").tolist()
    cut = int((values < 0).sum())
    if not 0 < cut < len(order):
        return [places[place] for place in order]
    return _bisect(near, [places[p] for p in order[:cut]]) + _bisect(near, [places[p] for p in order[cut:]])


def ring_extent(ring: Sequence[tuple[tuple[float, float], float]], radius: float, *, flat: bool) -> tuple[float, float]:
    """Half the width and height of the circle with the names around it, rotated or ``flat``, in inches."""
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
    """Coordinates in inches; hubs are placed towards the labels with edges to them."""
    places = {}
    for number, column in enumerate(ring):
        angle = math.pi / 2 - math.tau * (number + 0.5) / len(ring)
        places[column] = (radius * math.cos(angle), radius * math.sin(angle))
    if len(hubs) == 1:
        places[hubs[0]] = (0.0, 0.0)
        return places
    pulls = {}
    for hub in hubs:
        sources = [places[column] for column in ring if links[column, hub]]
        pulls[hub] = (
            math.atan2(*(sum(values) for values in reversed(list(zip(*sources, strict=True))))) if sources else 0
        )
    turned = sorted(hubs, key=lambda hub: pulls[hub])
    inner = radius * min(0.5, 0.22 + 0.06 * len(hubs))
    first = pulls[turned[0]] if turned else 0.0
    for number, hub in enumerate(turned):
        angle = first + math.tau * number / len(turned)
        places[hub] = (inner * math.cos(angle), inner * math.sin(angle))
    return places
