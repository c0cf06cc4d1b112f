"""Draw a label graph: labels on a circle, related ones side by side, and labels with many incoming edges inside it.

An edge from A to B is wide at A and narrow at B: most images that show A also show B. Of the ways to draw a directed
edge, tapered ones are read fastest and with the fewest errors (Holten and van Wijk, CHI 2009).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from msrn.errors import ShapeError
from msrn.labels.cooccurrence import Array
from msrn.labels.graph import LabelGraph
from msrn.visualize.figures import HALO, inline_svg
from msrn.visualize.graph_layout import hubs_and_ring, node_places, ring_extent, ring_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

__all__ = ["draw_graph", "graph_svg"]

# The colours of Okabe and Ito, which can be distinguished with any colour vision; similar hues are kept apart.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6BB1", "#B8A900")
_PAPER, _INK, _GREY, _PALE, _EDGE = "#ffffff", "#1c2733", "#66727f", "#c9d1d9", "#2f5d8a"
_ON_PAGE = {
    _PAPER: "var(--card, #fff)",
    _INK: "currentColor",
    _GREY: "var(--soft, currentColor)",
    _PALE: "var(--line, #c9d1d9)",
    _EDGE: "var(--edge, #2f5d8a)",
    "#0072b2": "var(--s0, #0072b2)",
}
"""Colours in a web page: variables of its style sheet, with the colours of a file as fallback."""

_EDGES = "edges"  # gid of the edges
_STEPS = 24  # points along an edge
_MAX_LETTERS = 26  # of a name
_MAX_HORIZONTAL = 14  # labels on the circle up to which names are not rotated
_GROUP_KEY = 0.85  # width of a group in the key, inches


def draw_graph(
    graph: LabelGraph, *, totals: npt.ArrayLike, groups: npt.ArrayLike | None = None, title: str | None = ""
) -> Figure:
    """The graph as a matplotlib figure; no window is opened.

    The area of a label shows its number of images; the width and opacity of an edge show its weight. Labels without an
    edge are listed below, as rings.

    Args:
        graph: of L labels.
        totals: ``(L,)`` images that show each label; all zeros if they are not known.
        groups: ``(L, G)`` shares of each label in the label groups of MSRN; a label has the colour of the group with
            its largest share. There are eight colours, so the ninth group has the colour of the first.
        title: above the figure, with the numbers of labels and edges; empty: "Label graph"; None: no title and no
            numbers.

    Raises:
        ShapeError: totals or groups of another number of labels.
    """
    from matplotlib.figure import Figure

    frequencies = np.asarray(totals, dtype=np.float64)
    size = len(graph.labels)
    if frequencies.shape != (size,):
        raise ShapeError(f"totals must be (L,) = ({size},), got {frequencies.shape}")
    best: list[int] | None = None
    if groups is not None:
        shares = np.asarray(groups)
        if shares.ndim != 2 or len(shares) != size:
            raise ShapeError(f"groups must be (L, G) with L = {size}, got {shares.shape}")
        best = shares.argmax(axis=1).tolist()
    links = graph.links
    linked = [column for column in range(size) if links[column].any() or links[:, column].any()]
    alone = [column for column in range(size) if column not in set(linked)]
    names = [_short(name) for name in graph.labels]
    colours = [_COLOURS[0] if best is None else _COLOURS[best[column] % len(_COLOURS)] for column in range(size)]

    points = 11.0 if len(linked) <= 30 else 9.0 if len(linked) <= 90 else 7.5 if len(linked) <= 180 else 6.0
    letter = points / 72 * 0.58  # inches, the mean width of a letter
    hubs, ring = hubs_and_ring(links, linked)
    ring = ring_order(graph.weights, links, ring, hubs, best)
    radius = max(2.2, len(ring) * points / 72 * 1.45 / math.tau) if linked else 0.0
    places = node_places(ring, hubs, links, radius)
    flat = len(ring) <= _MAX_HORIZONTAL
    across, up = ring_extent([(places[column], len(names[column]) * letter) for column in ring], radius, flat=flat)
    width = max(2 * across + 0.6, 5.0 if title is None else 7.5)
    columns = max(1, int((width - 0.4) / (max((len(names[c]) for c in alone), default=1) * 8.5 / 72 * 0.58 + 0.4)))
    below = 0.5 + math.ceil(len(alone) / columns) * 0.22 if alone else 0.0
    shown_groups = sorted(set(best or ()))
    in_a_row = int((width - 0.5) / _GROUP_KEY)
    key = 0.45 + 0.25 * math.ceil(len(shown_groups) / in_a_row)
    top, bottom = up + (0.3 if title is None else 1.0), -up - 0.25 - below - 0.25 - key
    figure = Figure(figsize=(width, top - bottom), facecolor=_PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-width / 2, width / 2)  # one unit is one inch
    axes.set_ylim(bottom, top)

    largest = max(1.0, float(frequencies.max(initial=0)))
    least, most = 0.035, min(0.17, 0.42 * math.tau * radius / max(8, len(ring)) + 0.05)
    sizes = least + (most - least) * (np.sqrt(frequencies / largest) if frequencies.any() else np.full(size, 0.4))
    _draw_edges(axes, graph, places, sizes)
    for column in ring:
        _draw_label(axes, places[column], names[column], float(sizes[column]), points, flat=flat)
    for column in hubs:
        _draw_hub(axes, places[column], names[column], float(sizes[column]), points + 2)
    for column in (*ring, *hubs):
        _draw_disc(axes, column, places[column], float(sizes[column]), colours[column])
    if alone:
        _draw_alone(
            axes, [(c, names[c], _GREY if best is None else colours[c]) for c in alone], -up - 0.45, width, columns
        )
    left = -width / 2 + 0.25
    if title is not None:
        _draw_title(axes, (left, top - 0.35), title or "Label graph", width)
        numbers = f"{_plural(size, 'label')}, {_plural(int(links.sum()), 'edge')} A to B: {graph.rule}"
        axes.text(left, top - 0.6, numbers, fontsize=9.5, color=_GREY)
    _draw_key(axes, bottom + key - 0.1, width, frequencies, sizes)
    for number, group in enumerate(shown_groups):
        x, y = left + 0.06 + _GROUP_KEY * (number % in_a_row), bottom + key - 0.4 - 0.25 * (number // in_a_row)
        axes.add_patch(_dot((x, y), 0.06, _COLOURS[group % len(_COLOURS)]))
        axes.text(x + 0.11, y, f"group {group + 1}", fontsize=8.5, color=_GREY, va="center")
    return figure


def graph_svg(graph: LabelGraph, *, totals: npt.ArrayLike, name: str = "graph") -> str:
    """The same drawing as an ``<svg>`` element for a web page, without a title; texts under the pointer give numbers.

    It takes its colours from the page: ``currentColor`` and, if they are defined, the variables ``--card``
    (background), ``--soft``, ``--line``, ``--edge`` and ``--s0`` (discs).

    Args:
        graph: of L labels.
        totals: ``(L,)`` images that show each label; all zeros if they are not known.
        name: prefix of the ids; different for each figure of a page.

    Raises:
        ShapeError: totals of another number of labels.
    """
    frequencies = np.asarray(totals)
    titles = {_EDGES: [_edge_title(graph, i, j) for i, j in _pairs(graph)]}
    for column, label in enumerate(graph.labels):
        images = f": {_plural(int(frequencies[column]), 'image')}" if frequencies.any() else ""
        titles[_disc_id(column)] = [_printable(f"{label}{images}")]
    figure = draw_graph(graph, totals=totals, title=None)
    description = f"Label graph: {_plural(len(graph.labels), 'label')}, {_plural(int(graph.links.sum()), 'edge')}"
    return inline_svg(figure, name=name, description=description, colours=_ON_PAGE, titles=titles)


def _edge_title(graph: LabelGraph, i: int, j: int) -> str:
    names = _printable(f"{graph.labels[i]} → {graph.labels[j]}")
    if not graph.totals.any():
        return f"{names}: weight {graph.weights[i, j]:.3g}"
    return f"{names}: {100 * graph.weights[i, j]:.0f} %, {_plural(int(graph.counts[i, j]), 'image')} with both"


# ------------------------------------------------------------------------------------------------------- the marks


def _draw_edges(axes: Axes, graph: LabelGraph, places: dict[int, tuple[float, float]], sizes: Array) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    links, pairs = graph.links, _pairs(graph)
    if not pairs:
        return
    values = np.array([graph.weights[pair] for pair in pairs])
    low, high = graph.threshold, max(float(values.max()), graph.threshold + 1e-9)
    strength = np.clip((values - low) / (high - low), 0, 1)
    crowd = 1 / (1 + len(pairs) / 250)
    ink = np.array(to_rgb(_EDGE))
    shapes, colours = [], []
    for (i, j), share in zip(pairs, strength.tolist(), strict=True):
        wide = (0.035 + 0.065 * share) * (0.45 + 0.55 * crowd)
        shapes.append(_taper(places[i], places[j], float(sizes[i]), float(sizes[j]), wide, both=bool(links[j, i])))
        colours.append((*ink, (0.25 + 0.55 * share) * (0.55 + 0.45 * crowd)))
    edges = PolyCollection(shapes, facecolors=colours, edgecolors="none", zorder=1)
    edges.set_gid(_EDGES)
    axes.add_collection(edges)


def _pairs(graph: LabelGraph) -> list[tuple[int, int]]:
    """Edges in the order in which they are drawn: strong ones on top."""
    pairs = [(i, j) for i, j in np.argwhere(graph.links).tolist()]
    return sorted(pairs, key=lambda pair: graph.weights[pair])


def _taper(
    start: tuple[float, float], end: tuple[float, float], start_size: float, end_size: float, wide: float, *, both: bool
) -> Array:
    """The outline ``(2 steps, 2)`` of a curve that bends to the middle; the two of a mutual pair bend apart."""
    a, b = np.array(start), np.array(end)
    way = b - a
    length = float(np.hypot(*way)) or 1.0
    left = np.array([-way[1], way[0]]) / length
    middle = (a + b) / 2
    control = middle * (0.8 - 0.25 * min(1.0, length / 3)) + left * (0.1 * length if both else 0.0)
    t = np.linspace(0, 1, 200)[:, None]
    curve = (1 - t) ** 2 * a + 2 * t * (1 - t) * control + t**2 * b
    outside = (np.hypot(*(curve - a).T) >= start_size) & (np.hypot(*(curve - b).T) >= end_size + 0.02)
    kept = curve[outside] if outside.sum() > 1 else curve
    kept = kept[np.linspace(0, len(kept) - 1, _STEPS).round().astype(int)]
    slope = np.gradient(kept, axis=0)
    normal = np.stack([-slope[:, 1], slope[:, 0]], axis=1) / np.maximum(np.hypot(*slope.T), 1e-9)[:, None]
    half = np.linspace(wide / 2, 0.006, len(kept))[:, None]
    return np.concatenate([kept + normal * half, (kept - normal * half)[::-1]])


def _draw_label(axes: Axes, place: tuple[float, float], name: str, size: float, points: float, *, flat: bool) -> None:
    """The name of a label on the circle, outside it; ``flat`` names are not rotated."""
    x, y = place
    angle = math.degrees(math.atan2(y, x))
    reach = 1 + (size + 0.06) / math.hypot(x, y)
    left = abs(angle) > 90
    turn: dict[str, Any] = {"rotation": angle + 180 if left else angle, "rotation_mode": "anchor"}
    across = "right" if left else "left"
    if flat:
        turn, up = {}, abs(math.sin(math.radians(angle)))
        across = "center" if up > 0.95 else across
        reach += 0.08 * up / math.hypot(x, y)
    axes.text(
        x * reach, y * reach, name, parse_math=False, ha=across, va="center", fontsize=points, color=_INK, zorder=4,
        **turn,
    )  # fmt: skip


def _draw_hub(axes: Axes, place: tuple[float, float], name: str, size: float, points: float) -> None:
    """The name of a label inside the circle, below its disc."""
    from matplotlib.patheffects import withStroke

    x, y = place
    style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": points, "weight": "bold", "parse_math": False}
    # The halo is a text of its own, because a text with an effect becomes outlines in SVG, which cannot be searched.
    halo = [withStroke(linewidth=3.5, foreground=_PAPER, alpha=0.9)]
    axes.text(x, y - size - 0.05, name, color=_PAPER, path_effects=halo, zorder=4, gid=HALO, **style)
    axes.text(x, y - size - 0.05, name, color=_INK, zorder=5, **style)


def _draw_disc(axes: Axes, column: int, place: tuple[float, float], size: float, colour: str) -> None:
    from matplotlib.patches import Circle

    disc = Circle(place, size, facecolor=colour, edgecolor=_PAPER, linewidth=1.2, zorder=3)
    disc.set_gid(_disc_id(column))
    axes.add_patch(disc)


def _disc_id(column: int) -> str:
    return f"disc-{column}"


def _draw_title(axes: Axes, place: tuple[float, float], title: str, width: float) -> None:
    most = int((width - 0.5) / (14 / 72 * 0.62))  # letters; the end of a long title, such as a path, is kept
    shown = title if len(title) <= most else f"…{title[1 - most :]}"
    axes.text(*place, _printable(shown), parse_math=False, fontsize=14, color=_INK, weight="bold")


def _draw_alone(axes: Axes, labels: Sequence[tuple[int, str, str]], top: float, width: float, columns: int) -> None:
    from matplotlib.patches import Circle

    left = -width / 2 + 0.3
    axes.text(left - 0.05, top, f"without an edge ({len(labels):,})", fontsize=9.5, color=_GREY, va="center")
    axes.plot([left - 0.05, width / 2 - 0.25], [top + 0.2] * 2, color=_PALE, linewidth=0.8)
    step = (width - 0.4) / columns
    rows = math.ceil(len(labels) / columns)
    for number, (column, name, colour) in enumerate(labels):
        x, y = left + step * (number // rows), top - 0.25 - 0.22 * (number % rows)
        ring = Circle((x, y), 0.045, facecolor=_PAPER, edgecolor=colour, linewidth=1.3, zorder=3)
        ring.set_gid(_disc_id(column))
        axes.add_patch(ring)
        axes.text(x + 0.1, y, name, parse_math=False, fontsize=8.5, color=_INK, va="center_baseline", zorder=4)


def _draw_key(axes: Axes, y: float, width: float, totals: Array, sizes: Array) -> None:
    from matplotlib.patches import Polygon

    x = -width / 2 + 0.25
    axes.text(x, y, "A", fontsize=9, color=_GREY, va="center")
    outline = [(x + 0.18, y + 0.045), (x + 0.18, y - 0.045), (x + 0.9, y - 0.006), (x + 0.9, y + 0.006)]
    axes.add_patch(Polygon(outline, facecolor=_EDGE, edgecolor="none", alpha=0.8))
    axes.text(x + 0.96, y, "B", fontsize=9, color=_GREY, va="center")
    x += 1.6
    if totals.any():
        for column in dict.fromkeys((int(totals.argmax()), int(np.argsort(totals)[len(totals) // 2]))):
            axes.add_patch(_dot((x, y), float(sizes[column]), _PALE))
            text = _plural(int(totals[column]), "image")
            axes.text(x + sizes[column] + 0.07, y, text, fontsize=8.5, color=_GREY, va="center")
            x += 0.07 * len(text) + 0.45


def _dot(place: tuple[float, float], size: float, colour: str) -> Circle:
    from matplotlib.patches import Circle

    return Circle(place, size, facecolor=colour, edgecolor="none")


def _plural(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def _short(name: str) -> str:
    return _printable(name if len(name) <= _MAX_LETTERS else f"{name[: _MAX_LETTERS - 1]}…")


def _printable(text: str) -> str:
    """The text without control characters, which SVG cannot hold."""
    return "".join(sign if sign.isprintable() else " " if sign.isspace() else "\ufffd" for sign in text)
