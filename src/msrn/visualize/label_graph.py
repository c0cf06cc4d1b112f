"""How does a label graph look? Labels on a circle, like beside like; those that many call for in the middle.

An edge is wide where it starts and thin where it ends: most pictures that show the label at its wide end show the other
too. (Tapered edges were read fastest and most surely in Holten and van Wijk's study of directed edges, CHI 2009.)
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from msrn.errors import ConfigError, ShapeError
from msrn.labels.graph import Array, LabelGraph
from msrn.visualize.graph_layout import hubs_and_ring, node_places, ring_extent, ring_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

__all__ = ["FIGURE_SUFFIXES", "draw_graph", "write_figure"]

FIGURE_SUFFIXES = (".svg", ".png", ".pdf")

log = logging.getLogger(__name__)

# Okabe and Ito's colours, which people with any colour vision tell apart, in an order that keeps like hues apart
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6BB1", "#B8A900")
_INK, _GREY, _PALE, _EDGE = "#1c2733", "#66727f", "#c9d1d9", "#2f5d8a"
_STEPS = 24  # points along an edge
_LONGEST = 26  # letters of a name shown
_MOST_FLAT = 14  # labels on the circle that need not be turned
_GROUP_KEY = 0.85  # inches that a group takes in the key


def draw_graph(
    graph: LabelGraph, *, totals: npt.ArrayLike, groups: npt.ArrayLike | None = None, title: str = ""
) -> Figure:
    """The graph as a matplotlib figure, which no window is opened for.

    The area of a label is its number of pictures, the width and darkness of an edge is its weight. Labels without any
    edge stand below, as rings.

    Args:
        graph: of L labels.
        totals: ``(L,)`` pictures that show each label; all zeros where it is not known.
        groups: ``(L, G)`` shares of each label in the groups that MSRN learnt; a label has the colour of its largest.
            The eight colours come again after eight groups.
        title: above the figure; without it, the numbers of labels and edges.

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
    flat = len(ring) <= _MOST_FLAT
    across, up = ring_extent([(places[column], len(names[column]) * letter) for column in ring], radius, flat=flat)
    width = max(2 * across + 0.6, 7.5)
    columns = max(1, int((width - 0.4) / (max((len(names[c]) for c in alone), default=1) * 8.5 / 72 * 0.58 + 0.4)))
    below = 0.5 + math.ceil(len(alone) / columns) * 0.22 if alone else 0.0
    told = sorted(set(best or ()))
    in_a_row = int((width - 0.5) / _GROUP_KEY)
    key = 0.45 + 0.25 * math.ceil(len(told) / in_a_row)
    top, bottom = up + 1.0, -up - 0.25 - below - 0.25 - key
    figure = Figure(figsize=(width, top - bottom), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-width / 2, width / 2)  # one unit is one inch
    axes.set_ylim(bottom, top)

    largest = max(1.0, float(frequencies.max(initial=0)))
    least, most = 0.035, min(0.17, 0.42 * math.tau * radius / max(8, len(ring)) + 0.05)
    sizes = least + (most - least) * (np.sqrt(frequencies / largest) if frequencies.any() else np.full(size, 0.4))
    _draw_edges(axes, graph, places, sizes)
    for column in ring:
        _draw_label(axes, places[column], names[column], float(sizes[column]), colours[column], points, flat=flat)
    for column in hubs:
        _draw_hub(axes, places[column], names[column], float(sizes[column]), colours[column], points + 2)
    if alone:
        _draw_alone(
            axes, [(names[c], _GREY if best is None else colours[c]) for c in alone], -up - 0.45, width, columns
        )
    left = -width / 2 + 0.25
    most = int((width - 0.5) / (14 / 72 * 0.62))  # letters; of a long title, such as a path, the end says more
    title = title if len(title) <= most else f"…{title[1 - most :]}"
    axes.text(left, top - 0.35, title or "Label graph", parse_math=False, fontsize=14, color=_INK, weight="bold")
    said = f"{_several(size, 'label')}, {_several(int(links.sum()), 'edge')} A to B: {graph.rule}"
    axes.text(left, top - 0.6, said, fontsize=9.5, color=_GREY)
    _draw_key(axes, bottom + key - 0.1, width, frequencies, sizes)
    for number, group in enumerate(told):
        x, y = left + 0.06 + _GROUP_KEY * (number % in_a_row), bottom + key - 0.4 - 0.25 * (number // in_a_row)
        axes.add_patch(_dot((x, y), 0.06, _COLOURS[group % len(_COLOURS)]))
        axes.text(x + 0.11, y, f"group {group + 1}", fontsize=8.5, color=_GREY, va="center")
    return figure


def write_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Save as ``.svg``, ``.png`` or ``.pdf``, whole or not at all; a warning counts letters that the font lacks.

    Raises:
        ConfigError: another suffix.
    """
    import matplotlib as mpl

    file = Path(path)
    form = file.suffix.lower().removeprefix(".")
    if f".{form}" not in FIGURE_SUFFIXES:
        raise ConfigError(f"expected a picture as .svg, .png or .pdf, got {file.name!r}", "--draw", "graph.svg")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[form]
    try:
        # SVG keeps its text as text, which a reader can search, and shows in fonts of their own
        with (
            mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "msrn"}),
            warnings.catch_warnings(record=True) as told,
        ):
            warnings.simplefilter("always")
            figure.savefig(partial, format=form, dpi=160, metadata=metadata)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    missing = {str(warning.message) for warning in told if "missing from" in str(warning.message)}
    if missing and form != "svg":
        log.warning("%d letters are missing from the picture's font; an .svg shows them", len(missing))
    for warning in told:
        if str(warning.message) not in missing:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


# ------------------------------------------------------------------------------------------------------- the marks


def _draw_edges(axes: Axes, graph: LabelGraph, places: dict[int, tuple[float, float]], sizes: Array) -> None:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    links = graph.links
    pairs = [(i, j) for i, j in np.argwhere(links).tolist()]
    pairs.sort(key=lambda pair: graph.weights[pair])  # strong ones on top
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
    axes.add_collection(PolyCollection(shapes, facecolors=colours, edgecolors="none", zorder=1))


def _taper(
    start: tuple[float, float], end: tuple[float, float], start_size: float, end_size: float, wide: float, *, both: bool
) -> Array:
    """The outline ``(2 steps, 2)`` of a curve that bends to the middle; two that are mutual part to their left."""
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


def _draw_label(
    axes: Axes, place: tuple[float, float], name: str, size: float, colour: str, points: float, *, flat: bool
) -> None:
    """A label on the circle, its name outwards; ``flat`` names are not turned."""
    from matplotlib.patches import Circle

    x, y = place
    axes.add_patch(Circle(place, size, facecolor=colour, edgecolor="white", linewidth=1.0, zorder=3))
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


def _draw_hub(axes: Axes, place: tuple[float, float], name: str, size: float, colour: str, points: float) -> None:
    from matplotlib.patches import Circle
    from matplotlib.patheffects import withStroke

    x, y = place
    axes.add_patch(Circle(place, size, facecolor=colour, edgecolor="white", linewidth=1.5, zorder=3))
    style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": points, "weight": "bold", "parse_math": False}
    # The halo is a text of its own: one with an effect is written to SVG as outlines, which cannot be searched.
    halo = [withStroke(linewidth=3.5, foreground="white", alpha=0.9)]
    axes.text(x, y - size - 0.05, name, color="white", path_effects=halo, zorder=4, **style)
    axes.text(x, y - size - 0.05, name, color=_INK, zorder=5, **style)


def _draw_alone(axes: Axes, labels: Sequence[tuple[str, str]], top: float, width: float, columns: int) -> None:
    from matplotlib.patches import Circle

    left = -width / 2 + 0.3
    axes.text(left - 0.05, top, f"without any edge ({len(labels):,})", fontsize=9.5, color=_GREY, va="center")
    axes.plot([left - 0.05, width / 2 - 0.25], [top + 0.2] * 2, color=_PALE, linewidth=0.8)
    step = (width - 0.4) / columns
    rows = math.ceil(len(labels) / columns)
    for number, (name, colour) in enumerate(labels):
        x, y = left + step * (number // rows), top - 0.25 - 0.22 * (number % rows)
        axes.add_patch(Circle((x, y), 0.045, facecolor="white", edgecolor=colour, linewidth=1.3, zorder=3))
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
            said = _several(int(totals[column]), "picture")
            axes.text(x + sizes[column] + 0.07, y, said, fontsize=8.5, color=_GREY, va="center")
            x += 0.07 * len(said) + 0.45


def _dot(place: tuple[float, float], size: float, colour: str) -> Circle:
    from matplotlib.patches import Circle

    return Circle(place, size, facecolor=colour, edgecolor="none")


def _several(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
