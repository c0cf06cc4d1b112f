"""Geometry of the charts of the data page, in the units of their SVG. The template adds colours and text.

The label graph is not here: ``visualize.label_graph`` draws it, for pages and files alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msrn.data.manifest import Manifest

__all__ = ["HeatMap", "Histogram", "SizePlot", "heat_map", "labels_per_image", "seriate", "size_plot"]


@dataclass(frozen=True, slots=True)
class HeatCell:
    """A cell in column x and row y, with its share in [0, 1], the share in per cent as text, and a tooltip."""

    x: int
    y: int
    share: float
    text: str
    tooltip: str


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Cells of ``P(column | row)``: names in order; side of a cell, margin for the names and size of the whole map."""

    names: tuple[str, ...]
    cells: tuple[HeatCell, ...]
    side: int
    margin: float

    @property
    def size(self) -> float:
        """Width and height of the map."""
        return self.margin + self.side * len(self.names) + 4

    @property
    def has_numbers(self) -> bool:
        """Whether the cells are large enough for a number."""
        return self.side >= 30


def heat_map(
    names: Sequence[str], counts: np.ndarray, totals: np.ndarray, shares: np.ndarray, columns: Sequence[int]
) -> HeatMap:
    """Cells of ``P(column | row)`` for some labels, related ones side by side.

    Args:
        names: of ``columns``.
        counts: ``(L, L)`` images with both labels.
        totals: ``(L,)`` images with the label.
        shares: ``(L, L)`` conditional probabilities.
        columns: labels to draw.
    """
    part = shares[np.ix_(columns, columns)]
    order = seriate((part + part.T) / 2)
    cells = []
    for y, row in enumerate(order):
        for x, column in enumerate(order):
            share = float(part[row, column])
            if row == column or not share:
                continue
            i, j = columns[row], columns[column]
            tooltip = f"{names[row]} → {names[column]}: {100 * share:.0f} % ({counts[i, j]:,} of {totals[i]:,})"
            cells.append(HeatCell(x, y, round(share, 3), f"{100 * share:.0f}", tooltip))
    ordered = tuple(names[place] for place in order)
    side = 44 if len(order) <= 8 else 30 if len(order) <= 14 else 22 if len(order) <= 24 else 15
    return HeatMap(ordered, tuple(cells), side, _text_width(ordered, 12))


def seriate(similarity: np.ndarray) -> list[int]:
    """An order of ``(L, L)`` symmetric similarities that puts similar ones side by side: by the Fiedler vector."""
    size = len(similarity)
    if size < 3:
        return list(range(size))
    near = similarity + 1e-3  # the constant connects all
    np.fill_diagonal(near, 0)
    _, vectors = np.linalg.eigh(np.diag(near.sum(1)) - near)
    return list(np.argsort(vectors[:, 1], kind="stable").tolist())


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a split: the number of its colour, its count, the share in per cent, and its height in per cent."""

    split: str
    number: int
    count: int
    share: float
    height: float


@dataclass(frozen=True, slots=True)
class Bin:
    """The bars of all splits for one number of labels."""

    name: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Bins in order."""

    bins: tuple[Bin, ...]


def labels_per_image(splits: Sequence[Manifest], *, most: int = 12) -> Histogram:
    """Share of the images of each split that have 0, 1, 2, ... labels; the last bin holds ``most`` and more."""
    numbers = [Counter(min(most, len(r.positives) + len(r.difficult)) for r in split.records) for split in splits]
    high = max(max(found) for found in numbers)
    shares = [
        [100 * found[k] / len(split) for k in range(high + 1)] for found, split in zip(numbers, splits, strict=True)
    ]
    top = max(max(row) for row in shares)
    bins = []
    for k in range(high + 1):
        bars = (
            Bar(split.split, n % 4, numbers[n][k], round(shares[n][k], 1), round(100 * shares[n][k] / top, 2))
            for n, split in enumerate(splits)
        )
        bins.append(Bin(f"{k}+" if k == most else str(k), tuple(bars)))
    return Histogram(tuple(bins))


@dataclass(frozen=True, slots=True)
class Disc:
    """A disc with its centre, radius and tooltip."""

    x: float
    y: float
    radius: float
    tooltip: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of both axes, at a distance from the origin."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class SizePlot:
    """Images by width and height.

    Fields: discs; ticks; side of the plot; most_frequent, width, height and number of images of the most frequent size;
    sizes, how many different ones there are; median width and height.
    """

    discs: tuple[Disc, ...]
    ticks: tuple[Tick, ...]
    side: float
    most_frequent: tuple[int, int, int] = (0, 0, 0)
    sizes: int = 0
    median: tuple[int, int] = (0, 0)


GRID = 60
"""Places of the size plot in each direction."""


def size_plot(sizes: Sequence[tuple[int, int]], *, side: float = 300) -> SizePlot:
    """One disc per occupied place of a grid of widths and heights; its area shows the number of images.

    Args:
        sizes: width and height in pixels.
        side: of the plot, in its own units.
    """
    if not sizes:
        return SizePlot((), (), side)
    values = np.array(sizes, np.float64)  # (n, 2)
    step = _round_up(float(values.max()) / 4)
    high = step * math.ceil(float(values.max()) / step + 1e-9)
    places = np.floor(values / high * GRID).astype(int)
    discs = []
    for (x, y), count in Counter(map(tuple, places.tolist())).most_common():
        width, height = values[(places == (x, y)).all(1)].mean(0)
        discs.append(
            Disc(
                round(side * width / high, 1),
                round(side * (1 - height / high), 1),
                round(2 + 16 * math.sqrt(count / len(sizes)), 1),
                f"about {width:.0f} × {height:.0f} pixels: {count:,}",
            )
        )
    (width, height), most = Counter(sizes).most_common(1)[0]
    ticks = (Tick(round(side * value / high, 1), f"{value:,}") for value in range(0, int(high) + 1, int(step)))
    middle_width, middle_height = np.median(values, 0).astype(int).tolist()
    median = middle_width, middle_height
    return SizePlot(tuple(discs), tuple(ticks), side, (width, height, most), len(set(sizes)), median)


def _round_up(value: float) -> int:
    """The next of 1, 2, 5, 10, 20, ..."""
    power = 10 ** math.floor(math.log10(max(value, 1)))
    return int(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value))


def _text_width(names: Sequence[str], size: float, *, most: int = 24) -> float:
    """Room for the longest name, cut at ``most`` letters."""
    return 0.58 * size * min(most, max(map(len, names), default=1)) + 8
