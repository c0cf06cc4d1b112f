"""The picture of a label graph: every name, every edge, and a file that is whole or not there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from msrn.errors import ConfigError, ShapeError
from msrn.labels.draw import draw_graph, write_figure
from msrn.labels.graph import LabelGraph, graph_of, identity_graph
from msrn.labels.space import LabelSpace


def graph(size: int = 12, seed: int = 0, share: float = 0.15) -> LabelGraph:
    """A random graph in which the last two labels have no edge."""
    draw = np.random.default_rng(seed)
    weights = np.where(draw.random((size, size)) < share, draw.uniform(0.4, 1, (size, size)), 0)
    weights[-2:] = weights[:, -2:] = 0
    return graph_of(weights, labels=LabelSpace([f"label {number}" for number in range(size)]))


def texts(figure: Figure) -> dict[str, tuple[float, float]]:
    """Text to place, in inches."""
    return {text.get_text(): text.get_position() for text in figure.axes[0].texts}


@pytest.mark.parametrize("size", [3, 12, 40, 120])
def test_every_label_is_named_once_and_every_edge_is_drawn(size: int, tmp_path: Path) -> None:
    drawn = graph(size, share=2 / size)
    figure = draw_graph(drawn, totals=np.arange(size))
    write_figure(figure, tmp_path / "graph.svg")
    said = re.findall(r">\s*([^<>]+?)\s*</text>", (tmp_path / "graph.svg").read_text(encoding="utf-8"))
    assert all(said.count(name) == 1 for name in drawn.labels)
    shapes = [part for part in figure.axes[0].collections if isinstance(part, PolyCollection)]
    assert sum(len(part.get_paths()) for part in shapes) == len(drawn.edges())


def test_labels_without_any_edge_stand_below_the_others() -> None:
    drawn = graph()
    places = texts(draw_graph(drawn, totals=np.ones(12)))
    below = max(places[name][1] for name in drawn.isolated)
    assert below < min(places[name][1] for name in drawn.labels if name not in drawn.isolated)
    assert f"without any edge ({len(drawn.isolated)})" in places


def test_a_label_has_the_colour_of_the_group_of_its_largest_share() -> None:
    drawn = graph()
    shares = np.random.default_rng(1).random((12, 3))
    figure = draw_graph(drawn, totals=np.ones(12), groups=shares)
    key = {name for name in texts(figure) if name.startswith("group ")}
    best = shares.argmax(axis=1)
    assert key == {f"group {group + 1}" for group in set(best.tolist())}
    linked = sum(name not in drawn.isolated for name in drawn.labels)
    faces = [patch.get_facecolor() for patch in figure.axes[0].patches if patch.get_zorder() == 3]
    assert len(faces) == 12
    counts = np.bincount(best[:linked], minlength=3)  # the last two have no edge
    seen = sorted(faces[:linked].count(face) for face in set(faces[:linked]))
    assert seen == sorted(counts[counts > 0].tolist())


def test_the_area_of_a_label_grows_with_its_pictures() -> None:
    drawn = graph(4, share=1.0)
    figure = draw_graph(drawn, totals=[400, 100, 0, 0])
    radii = sorted((patch.get_radius() for patch in figure.axes[0].patches if patch.get_zorder() == 3), reverse=True)
    least = 0.035
    assert (radii[1] - least) / (radii[0] - least) == pytest.approx(0.5)


@pytest.mark.parametrize("names", [["a", "$x_1$", "<b> & c"], ["猫", "naïve", "\\frac{a}"], ["x" * 300, "y\tz", "-"]])
def test_any_name_can_be_drawn(names: list[str], tmp_path: Path) -> None:
    drawn = graph_of([[0, 1, 0], [0, 0, 0], [0, 0, 0]], labels=LabelSpace(names))
    for suffix in ("svg", "png", "pdf"):
        write_figure(draw_graph(drawn, totals=[3, 2, 1], title=names[1]), tmp_path / f"graph.{suffix}")
        assert (tmp_path / f"graph.{suffix}").stat().st_size > 1000


@pytest.mark.parametrize("size", [1, 2, 300])
def test_a_graph_without_edges_and_one_of_many_labels_can_be_drawn(size: int) -> None:
    names = LabelSpace([f"label {number}" for number in range(size)])
    assert set(names) < texts(draw_graph(identity_graph(names), totals=np.zeros(size))).keys()
    dense = graph_of(np.ones((size, size)), labels=names)
    assert set(names) < texts(draw_graph(dense, totals=np.zeros(size))).keys()


def test_the_same_graph_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("one.svg", "other.svg"):
        write_figure(draw_graph(graph(), totals=np.ones(12)), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


def test_an_unknown_suffix_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.svg, \.png or \.pdf, got 'graph\.gif'"):
        write_figure(draw_graph(graph(), totals=np.ones(12)), tmp_path / "graph.gif")
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "graph.svg"
    path.write_text("old")

    def broken(self: Figure, file: Path, **_: object) -> None:
        Path(file).write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="no space"):
        write_figure(draw_graph(graph(), totals=np.ones(12)), path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"graph.svg": "old"}


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"totals must be \(L,\) = \(12,\), got \(11,\)"):
        draw_graph(graph(), totals=np.ones(11))
    with pytest.raises(ShapeError, match=r"groups must be \(L, G\) with L = 12, got \(3, 12\)"):
        draw_graph(graph(), totals=np.ones(12), groups=np.ones((3, 12)))
