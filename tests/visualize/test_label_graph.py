"""The drawing of a label graph: every name and every edge, in a figure and inside a web page."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from msrn.errors import ShapeError
from msrn.labels.graph import LabelGraph, graph_of, identity_graph, label_graph
from msrn.labels.space import LabelSpace
from msrn.visualize.figures import write_figure
from msrn.visualize.label_graph import draw_graph, graph_svg


def graph(size: int = 12, seed: int = 0, share: float = 0.15) -> LabelGraph:
    """A random graph in which the last two labels have no edge."""
    draw = np.random.default_rng(seed)
    weights = np.where(draw.random((size, size)) < share, draw.uniform(0.4, 1, (size, size)), 0)
    weights[-2:] = weights[:, -2:] = 0
    return graph_of(weights, labels=LabelSpace([f"label {number}" for number in range(size)]))


def texts(figure: Figure) -> dict[str, tuple[float, float]]:
    """Text to place, in inches."""
    return {text.get_text(): text.get_position() for text in figure.axes[0].texts}


def names_in(svg: Path) -> list[str]:
    """The texts of an SVG file, as a search finds them."""
    return re.findall(r">\s*([^<>]+?)\s*</text>", svg.read_text(encoding="utf-8"))


@pytest.mark.parametrize("size", [3, 12, 40, 120])
def test_every_label_is_named_once_and_every_edge_is_drawn(size: int, tmp_path: Path) -> None:
    drawn = graph(size, share=2 / size)
    figure = draw_graph(drawn, totals=np.arange(size))
    write_figure(figure, tmp_path / "graph.svg")
    found = names_in(tmp_path / "graph.svg")
    assert all(found.count(name) == 1 for name in drawn.labels)
    shapes = [part for part in figure.axes[0].collections if isinstance(part, PolyCollection)]
    assert sum(len(part.get_paths()) for part in shapes) == len(drawn.edges())


@pytest.mark.parametrize("title", ["VOC 2007", "w" + "/some folder with a name" * 20 + "/train"])
def test_a_title_stays_within_the_figure_by_its_end(title: str) -> None:
    figure = draw_graph(graph(), totals=np.ones(12), title=title)
    (drawn,) = [text for text in figure.axes[0].texts if text.get_text().endswith(title[-8:])]
    figure.canvas.draw()
    assert drawn.get_window_extent().x1 < figure.bbox.x1
    assert (drawn.get_text() == title) is (len(title) < 20)


def test_labels_without_an_edge_are_below_the_others() -> None:
    drawn = graph()
    places = texts(draw_graph(drawn, totals=np.ones(12)))
    below = max(places[name][1] for name in drawn.isolated)
    assert below < min(places[name][1] for name in drawn.labels if name not in drawn.isolated)
    assert f"without an edge ({len(drawn.isolated)})" in places


def test_a_label_has_the_colour_of_the_group_of_its_largest_share() -> None:
    drawn = graph()
    shares = np.random.default_rng(1).random((12, 3))
    figure = draw_graph(drawn, totals=np.ones(12), groups=shares)
    key = {name for name in texts(figure) if name.startswith("group ")}
    best = shares.argmax(axis=1)
    assert key == {f"group {group + 1}" for group in set(best.tolist())}
    dots = [patch for patch in figure.axes[0].patches if isinstance(patch, Circle)]

    def colour(place: tuple[float, float]) -> tuple[float, ...]:
        """Of the dot beside a text; a label without an edge has a ring."""
        dot = min(dots, key=lambda dot: math.dist(dot.center, place))
        face = tuple(dot.get_facecolor())
        return tuple(dot.get_edgecolor()) if face == (1, 1, 1, 1) else face

    places = texts(figure)
    for column, name in enumerate(drawn.labels):
        assert colour(places[name]) == colour(places[f"group {best[column] + 1}"])
    assert len({colour(places[name]) for name in key}) == len(key) > 1


def test_names_appear_once_and_unchanged_inside_the_circle_around_it_and_below(tmp_path: Path) -> None:
    """Matplotlib would read a name between dollars as a formula."""
    names = LabelSpace([f"$x_{number}$" for number in range(10)])
    weights = np.zeros((10, 10))
    weights[:9, 4] = 0.8
    figure = draw_graph(graph_of(weights, labels=names), totals=np.ones(10), title="$t_1$")
    assert math.hypot(*texts(figure)[names[4]]) < 0.5 < math.hypot(*texts(figure)[names[0]])
    write_figure(figure, tmp_path / "graph.svg")
    found = names_in(tmp_path / "graph.svg")
    assert [found.count(name) for name in (*names, "$t_1$")] == [1] * 11


@pytest.mark.parametrize("start", [0, 1])
def test_an_edge_is_wide_where_it_starts(start: int) -> None:
    weights = np.zeros((2, 2))
    weights[start, 1 - start] = 0.9
    names = LabelSpace(["one", "two"])
    figure = draw_graph(graph_of(weights, labels=names), totals=np.ones(2))
    (edge,) = [part for part in figure.axes[0].collections if isinstance(part, PolyCollection)]
    outline = edge.get_paths()[0].vertices[:-1]  # there along one side, back along the other
    one, other = outline[: len(outline) // 2], outline[len(outline) // 2 :][::-1]
    wide = np.hypot(*(one - other).T)
    widest, thinnest = (((one + other) / 2)[place] for place in (wide.argmax(), wide.argmin()))
    places = texts(figure)
    assert wide.max() > 3 * wide.min()
    assert min(names, key=lambda name: math.dist(places[name], widest)) == names[start]
    assert min(names, key=lambda name: math.dist(places[name], thinnest)) == names[1 - start]


def test_the_area_of_a_label_grows_with_its_images() -> None:
    drawn = graph(4, share=1.0)
    figure = draw_graph(drawn, totals=[400, 100, 0, 0])
    radii = sorted((patch.get_radius() for patch in figure.axes[0].patches if patch.get_zorder() == 3), reverse=True)
    least = 0.035
    assert (radii[1] - least) / (radii[0] - least) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "names", [["a", "$x_1$", "<b> & c"], ["猫", "naïve", "\\frac{a}"], ["x" * 300, "y\u2003z", "_"]]
)
def test_any_name_can_be_drawn(names: list[str], tmp_path: Path) -> None:
    drawn = graph_of([[0, 1, 0], [0, 0, 0], [0, 0, 0]], labels=LabelSpace(names))
    for suffix in ("svg", "png", "pdf"):
        write_figure(draw_graph(drawn, totals=[3, 2, 1], title=names[1]), tmp_path / f"graph.{suffix}")
        assert (tmp_path / f"graph.{suffix}").stat().st_size > 1000


@pytest.mark.parametrize("size", [1, 2, 300])
def test_a_graph_without_edges_and_one_of_many_labels_can_be_drawn(size: int) -> None:
    names = LabelSpace([f"label {number}" for number in range(size)])
    assert set(names) < texts(draw_graph(identity_graph(names), totals=np.zeros(size))).keys()
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    joined = graph_of((apart < 8).astype(float), labels=names)  # with each of its fourteen neighbours in a row
    assert set(names) < texts(draw_graph(joined, totals=np.zeros(size))).keys()


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"totals must be \(L,\) = \(12,\), got \(11,\)"):
        draw_graph(graph(), totals=np.ones(11))
    with pytest.raises(ShapeError, match=r"groups must be \(L, G\) with L = 12, got \(3, 12\)"):
        draw_graph(graph(), totals=np.ones(12), groups=np.ones((3, 12)))


class Element:
    """The SVG of a graph, parsed."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.root = ElementTree.fromstring(text)

    def all(self, tag: str) -> list[ElementTree.Element]:
        return self.root.findall(f".//{tag}")

    def titles(self) -> list[str]:
        return [title.text or "" for title in self.all("title")]

    def texts(self) -> list[str]:
        return [text.text or "" for text in self.all("text")]


def counted() -> LabelGraph:
    """boat -> sea and sun; sun -> sea and boat; sand has no edge."""
    counts = np.array([[0, 6, 4, 0], [6, 0, 5, 1], [4, 5, 0, 0], [0, 1, 0, 0]])
    return label_graph(counts, [8, 1000, 10, 30], labels=LabelSpace(["boat", "sea", "sun", "sand"]))


def test_a_page_shows_the_names_edges_and_numbers_of_the_graph() -> None:
    svg = Element(graph_svg(counted(), totals=[8, 1000, 10, 30]))
    assert {"boat", "sea", "sun", "sand", "without an edge (1)"} < set(svg.texts())
    assert "Label graph" not in svg.texts()
    assert sorted(svg.titles()) == [
        "boat → sea: 75 %, 6 images with both",
        "boat → sun: 50 %, 4 images with both",
        "boat: 8 images",
        "sand: 30 images",
        "sea: 1,000 images",
        "sun → boat: 40 %, 4 images with both",
        "sun → sea: 50 %, 5 images with both",
        "sun: 10 images",
    ]
    assert svg.root.get("aria-label") == "Label graph: 4 labels, 4 edges"


def test_each_number_belongs_to_the_edge_that_shows_it() -> None:
    drawn = graph(9, share=0.4)
    figure = draw_graph(drawn, totals=np.arange(9), title=None)
    (edges,) = [part for part in figure.axes[0].collections if isinstance(part, PolyCollection)]
    svg = Element(graph_svg(drawn, totals=np.arange(9)))
    height = float(svg.root.get("viewBox", "").split()[3])
    places = {
        path[0].text: tuple(map(float, re.findall(r"-?[\d.]+", path.get("d", ""))[:2]))
        for path in svg.all("path")
        if len(path)
    }
    lines = sorted(drawn.edges(), key=lambda edge: edge[2])
    assert len(lines) > 5
    for (one, other, weight), line in zip(lines, edges.get_paths(), strict=True):
        x, y = figure.axes[0].transData.transform(line.vertices[0]) * 72 / figure.dpi
        assert places[f"{one} → {other}: weight {weight:.3g}"] == pytest.approx((x, height - y), abs=0.2)


def test_a_page_gives_the_drawing_its_background_ink_and_font() -> None:
    svg = Element(graph_svg(counted(), totals=np.ones(4)))
    styles = " ".join(element.get("style", "") for element in svg.root.iter())
    assert "currentColor" in styles
    assert "font-family" not in styles
    assert "DejaVu" not in svg.text
    assert not svg.all("style")  # its rules would apply to the whole page
    assert not re.search(r": #[0-9a-f]{6}", styles)  # colours are variables, with a fallback


def test_two_drawings_of_a_page_share_no_id() -> None:
    one, other = (Element(graph_svg(counted(), totals=np.ones(4), name=name)) for name in ("one", "other"))
    ids = [{element.get("id") for element in svg.root.iter() if element.get("id")} for svg in (one, other)]
    assert not ids[0] & ids[1]
    for svg, known in zip((one, other), ids, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", svg.text)) <= known


@pytest.mark.parametrize(
    "names", [["a", "$x_1$", "<b> & c"], ["猫", '"naïve"', "]]>"], ["x" * 300, "y\u2003z", "[31m"]]
)
def test_any_name_can_be_shown_in_a_page(names: list[str]) -> None:
    svg = Element(graph_svg(graph_of([[0, 1, 0], [0, 0, 1], [0, 0, 0]], labels=LabelSpace(names)), totals=[3, 2, 1]))
    assert len([title for title in svg.titles() if "→" in title]) == 2
    assert "<b>" not in svg.text


def test_the_name_of_a_hub_has_no_outlines_in_a_page() -> None:
    weights = np.zeros((10, 10))
    weights[:9, 4] = 0.8
    svg = Element(graph_svg(graph_of(weights), totals=np.zeros(10)))
    assert svg.texts().count("4") == 1
    untitled = [path for path in svg.all("path") if not len(path)]
    assert len(untitled) == 3  # the background, the line above the label without an edge, the arrow of the key
