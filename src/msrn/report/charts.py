"""Where does each mark of the page's figures stand? Numbers in the units of their SVG; colours and text are the page's.

Every function returns plain dictionaries and lists for ``show.html``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from msrn.data.manifest import Manifest
from msrn.labels.space import LabelSpace

__all__ = ["graph_figure", "heat_figure", "labels_per_picture", "seriate", "size_figure"]

Figure = dict[str, Any]


def seriate(similarity: np.ndarray) -> list[int]:
    """An order of ``(L, L)`` symmetric similarities that puts like beside like: by the Fiedler vector."""
    size = len(similarity)
    if size < 3:
        return list(range(size))
    near = similarity + 1e-3  # ties what nothing ties
    np.fill_diagonal(near, 0)
    _, vectors = np.linalg.eigh(np.diag(near.sum(1)) - near)
    return list(np.argsort(vectors[:, 1], kind="stable").tolist())


def heat_figure(
    names: Sequence[str], counts: np.ndarray, totals: np.ndarray, shares: np.ndarray, columns: Sequence[int]
) -> Figure:
    """Cells of ``P(column | row)`` for some labels, like beside like.

    Args:
        names: of ``columns``.
        counts: ``(L, L)`` pictures with both labels.
        totals: ``(L,)`` pictures with the label.
        shares: ``(L, L)`` conditional probabilities.
        columns: labels to draw.
    """
    part = shares[np.ix_(columns, columns)]
    order = seriate((part + part.T) / 2)
    side = 44 if len(order) <= 8 else 30 if len(order) <= 14 else 22 if len(order) <= 24 else 15
    margin = _text_width([names[place] for place in order], 12)
    cells = []
    for y, row in enumerate(order):
        for x, column in enumerate(order):
            share = float(part[row, column])
            if row == column or not share:
                continue
            i, j = columns[row], columns[column]
            told = f"{names[row]} → {names[column]}: {100 * share:.0f} % ({counts[i, j]:,} of {totals[i]:,})"
            cells.append({"x": x, "y": y, "share": round(share, 3), "told": told, "text": f"{100 * share:.0f}"})
    return {
        "names": [names[place] for place in order],
        "cells": cells,
        "side": side,
        "margin": margin,
        "size": margin + side * len(order) + 4,
        "numbers": side >= 30,
    }


def graph_figure(
    names: LabelSpace,
    counts: np.ndarray,
    totals: np.ndarray,
    shares: np.ndarray,
    edges: np.ndarray,
    nodes: Sequence[int],
) -> Figure:
    """Labels on a circle, like beside like, and an arrow for every edge, bent towards the middle.

    Args:
        names: all labels.
        counts: ``(L, L)`` pictures with both labels.
        totals: ``(L,)`` pictures with the label.
        shares: ``(L, L)`` conditional probabilities.
        edges: ``(L, L)`` zeros and ones, from row to column.
        nodes: labels to draw.
    """
    part = shares[np.ix_(nodes, nodes)]
    order = [nodes[place] for place in seriate((part + part.T) / 2)]
    radius = max(150.0, 18.0 * len(order) / math.tau)
    margin = _text_width([names[column] for column in order], 12) + 18
    centre = radius + margin
    largest = max(1, max((int(totals[column]) for column in order), default=1))
    places: dict[int, tuple[float, float, float]] = {}
    marks = []
    for number, column in enumerate(order):
        angle = math.tau * number / max(1, len(order)) - math.pi / 2
        x, y = centre + radius * math.cos(angle), centre + radius * math.sin(angle)
        size = 3 + 8 * math.sqrt(int(totals[column]) / largest)
        places[column] = (x, y, size)
        degrees = math.degrees(angle)
        left = math.cos(angle) < -1e-9
        reach = radius + size + 6
        marks.append(
            {
                "name": names[column],
                "x": round(x, 1),
                "y": round(y, 1),
                "size": round(size, 1),
                "text_x": round(centre + reach * math.cos(angle), 1),
                "text_y": round(centre + reach * math.sin(angle), 1),
                "turn": round(degrees + 180 if left else degrees, 1),
                "left": left,
                "alone": not edges[column].any() and not edges[:, column].any(),
                "told": f"{names[column]}: {int(totals[column]):,} pictures",
            }
        )
    lines = []
    for i in order:
        for j in order:
            if edges[i, j] and not (edges[j, i] and i > j):
                both = bool(edges[j, i])
                told = f"{names[i]} → {names[j]}: {100 * shares[i, j]:.0f} % ({counts[i, j]:,} of {totals[i]:,})"
                told += f"; back: {100 * shares[j, i]:.0f} % of {totals[j]:,}" if both else ""
                strength = round(float(max(shares[i, j], shares[j, i] if both else 0)), 3)
                path = _bend(places[i], places[j], centre, both=both)
                lines.append({"path": path, "both": both, "told": told, "share": strength})
    return {"size": round(2 * centre, 1), "nodes": marks, "edges": lines, "shown": len(order)}


def _bend(one: tuple[float, float, float], other: tuple[float, float, float], centre: float, *, both: bool) -> str:
    """A curve between the rims of two nodes, with room for arrow heads."""
    bend = 0.45
    mid = np.array([(one[0] + other[0]) / 2, (one[1] + other[1]) / 2])
    control = mid + bend * (np.array([centre, centre]) - mid)
    start, end = (_rim(node, control, gap) for node, gap in ((one, 5 if both else 1), (other, 5)))
    points = (start, control, end)
    (a, b), (c, d), (e, f) = (point.round(1).tolist() for point in points)
    return f"M{a} {b}Q{c} {d} {e} {f}"


def _rim(node: tuple[float, float, float], towards: np.ndarray, gap: float) -> np.ndarray:
    x, y, size = node
    way = towards - np.array([x, y])
    rim: np.ndarray = np.array([x, y]) + way / max(1e-9, float(np.hypot(*way))) * (size + gap)
    return rim


def labels_per_picture(splits: Sequence[Manifest], *, most: int = 12) -> Figure:
    """Share of each split's pictures that have 0, 1, 2, ... labels; ``most`` and more share the last bar."""
    numbers = [Counter(min(most, len(r.positives) + len(r.difficult)) for r in split.records) for split in splits]
    high = max(max(found) for found in numbers)
    shares = [
        [100 * found[k] / len(split) for k in range(high + 1)] for found, split in zip(numbers, splits, strict=True)
    ]
    top = max(max(row) for row in shares)
    bins = []
    for k in range(high + 1):
        bars = [
            {
                "split": split.split,
                "number": number % 4,
                "count": numbers[number][k],
                "share": round(shares[number][k], 1),
                "height": round(100 * shares[number][k] / top, 2),
            }
            for number, split in enumerate(splits)
        ]
        bins.append({"name": f"{k}+" if k == most else str(k), "bars": bars})
    return {"bins": bins, "top": round(top, 1)}


def size_figure(sizes: Sequence[tuple[int, int]], *, side: float = 300) -> Figure:
    """Pictures by width and height: one disc per place of a 60 by 60 grid, its area by their number.

    Args:
        sizes: width and height in pixels.
        side: of the plot, in its own units.
    """
    if not sizes:
        return {"discs": [], "ticks": [], "side": side, "most": (0, 0, 0), "kinds": 0, "median": (0, 0)}
    values = np.array(sizes, np.float64)
    step = _round_up(float(values.max()) / 4)
    high = step * math.ceil(float(values.max()) / step + 1e-9)
    found = Counter(map(tuple, np.floor(values / high * 60).astype(int).tolist()))
    discs = []
    for (x, y), count in found.most_common():
        inside = (np.floor(values / high * 60).astype(int) == (x, y)).all(1)
        width, height = values[inside].mean(0)
        discs.append(
            {
                "x": round(side * width / high, 1),
                "y": round(side * (1 - height / high), 1),
                "r": round(2 + 16 * math.sqrt(count / len(sizes)), 1),
                "told": f"about {width:.0f} × {height:.0f} pixels: {count:,}",
            }
        )
    (wide, high_), most = Counter(sizes).most_common(1)[0]
    ticks = [
        {"at": round(side * value / high, 1), "text": f"{value:,}"} for value in range(0, int(high) + 1, int(step))
    ]
    middle = np.median(values, 0).astype(int).tolist()
    return {
        "discs": discs,
        "ticks": ticks,
        "side": side,
        "most": (wide, high_, most),
        "kinds": len(set(sizes)),
        "median": middle,
    }


def _round_up(value: float) -> int:
    """The next of 1, 2, 5, 10, 20, ..."""
    power = 10 ** math.floor(math.log10(max(value, 1)))
    return int(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value))


def _text_width(names: Sequence[str], size: float, *, most: int = 24) -> float:
    """Room for the longest name, cut at ``most`` letters."""
    return 0.58 * size * min(most, max(map(len, names), default=1)) + 8
