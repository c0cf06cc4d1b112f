"""The label graph against a hand-worked example, the published counts and the published network's adjacency."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_counts import COUNTS, TARGET, TOTALS, published

from msrn.errors import LabelError, ShapeError
from msrn.labels.cooccurrence import conditional, cooccurrence
from msrn.labels.graph import (
    graph_of,
    identity_graph,
    label_graph,
    normalise,
    reweight,
    symmetric,
    threshold,
)
from msrn.labels.space import LabelSpace

NAMES = LabelSpace(["boat", "sea", "bird", "shoe"])  # of the hand-worked example


def test_every_step_of_the_hand_worked_example() -> None:
    p = conditional(COUNTS, TOTALS)
    expected = [[0, 1, 1 / 4, 0], [4 / 6, 0, 2 / 6, 0], [1 / 5, 2 / 5, 0, 1 / 5], [0, 0, 1 / 2, 0]]
    np.testing.assert_allclose(p, expected, rtol=1e-15)
    links = threshold(p, 0.4)
    assert links.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    before = reweight(links, 0.25)
    one, two = 0.25 / (1 + 1e-6), 0.25 / (2 + 1e-6)
    np.testing.assert_allclose(before, [[1, two, 0, 0], [one, 1, 0, 0], [0, two, 1, 0], [0, 0, one, 1]], rtol=1e-15)
    d = [(1 + two) ** -0.5, (1 + one) ** -0.5, (1 + two) ** -0.5, (1 + one) ** -0.5]
    by_loops = [[d[i] * before[j, i] * d[j] for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(normalise(before), by_loops, rtol=1e-14)


def test_edges_are_named_and_strongest_first() -> None:
    graph = label_graph(*cooccurrence(TARGET), labels=NAMES)
    assert graph.edges() == [
        ("boat", "sea", 1.0),
        ("sea", "boat", pytest.approx(4 / 6)),
        ("shoe", "bird", 0.5),
        ("bird", "sea", pytest.approx(0.4)),
    ]


def test_a_share_is_one_of_the_images_of_which_both_labels_are_known() -> None:
    boats = [[1, 1], [1, 0], [1, np.nan], [1, np.nan], [1, np.nan], [0, 1]]  # boat, sea
    graph = label_graph(*cooccurrence(boats), labels=LabelSpace(["boat", "sea"]))
    assert graph.edges() == [("boat", "sea", 0.5), ("sea", "boat", 0.5)]
    assert graph.totals.tolist() == [5, 2]


@given(
    target=hnp.arrays(
        np.float32, st.tuples(st.integers(1, 12), st.integers(2, 5)), elements=st.sampled_from([0, 1, np.nan])
    ),
    strength=st.sampled_from([0.0, 0.5, 3.0]),
)
def test_weights_are_those_of_counting_by_hand(target: np.ndarray, strength: float) -> None:
    graph = label_graph(*cooccurrence(target), smoothing=strength)
    for i in range(target.shape[1]):
        for j in range(target.shape[1]):
            seen = [float(row[j]) for row in target if row[i] == 1 and not np.isnan(row[j])]
            known = [float(value) for value in target[:, j] if not np.isnan(value)]
            rate = sum(known) / max(len(known), 1)
            together = sum(seen) + strength * rate if seen or strength else 0.0
            shown = any(row[i] == 1 for row in target)
            expected = together / (len(seen) + strength) if shown and len(seen) + strength else 0.0
            if i != j:
                assert graph.weights[i, j] == pytest.approx(expected, abs=1e-12), (i, j)


def test_smoothing_needs_the_number_of_images() -> None:
    with pytest.raises(LabelError, match="number of images"):
        label_graph(COUNTS, TOTALS, smoothing=1.0)


def test_a_symmetric_graph_joins_both_ways_what_is_joined_one_way() -> None:
    directed = label_graph(COUNTS, TOTALS, labels=NAMES)
    both = label_graph(COUNTS, TOTALS, labels=NAMES, symmetric=True)
    pairs = {(i, j) for i, j, _ in directed.edges()}
    assert {(i, j) for i, j, _ in both.edges()} == pairs | {(j, i) for i, j in pairs}
    assert len(pairs) < len(both.edges())
    assert symmetric([[0, 0.2], [0.7, 0]]).tolist() == [[0, 0.7], [0.7, 0]]
    assert (directed.rule, both.rule) == (
        "at least 40 % of the images with A also show B",
        "at least 40 % of the images with A also show B, or the reverse",
    )


def test_a_graph_of_weights_takes_the_same_last_steps_as_a_counted_one() -> None:
    counted = label_graph(COUNTS, TOTALS, labels=NAMES, threshold=0.3, reweight=0.2)
    given_weights = graph_of(counted.weights, labels=NAMES, threshold=0.3, reweight=0.2)
    assert np.array_equal(given_weights.adjacency, counted.adjacency)
    assert given_weights.edges() == counted.edges()
    assert given_weights.rule == "weight 0.3 or more"
    with pytest.raises(ShapeError):
        graph_of([[0, 1]])
    with pytest.raises(LabelError, match="edge weights"):
        graph_of([[0, -1], [1, 0]])


def test_the_identity_graph_joins_nothing() -> None:
    graph = identity_graph(NAMES)
    assert graph.edges() == []
    assert graph.isolated == NAMES.names
    assert np.array_equal(graph.adjacency, np.eye(4))


def test_a_label_without_images_divides_nothing_by_zero() -> None:
    graph = label_graph([[0, 3, 0], [3, 0, 0], [0, 0, 0]], [3, 4, 0])
    assert np.isfinite(graph.adjacency).all()
    assert conditional(graph.counts, graph.totals)[2].tolist() == [0, 0, 0]
    assert graph.labels.names == ("0", "1", "2")
    assert graph.isolated == ("2",)


def test_isolated_labels_are_warned_of_by_name(caplog: pytest.LogCaptureFixture) -> None:
    counts = [[0, 4, 0, 0], [4, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    with caplog.at_level(logging.WARNING):
        graph = label_graph(counts, [4, 5, 6, 7], labels=NAMES)
    assert graph.isolated == ("bird", "shoe")
    assert "2 of 4 labels have no edge" in caplog.text
    assert "bird, shoe" in caplog.text


def test_many_isolated_labels_are_counted_and_not_all_named(caplog: pytest.LogCaptureFixture) -> None:
    names = LabelSpace(f"label number {number}" for number in range(2000))
    with caplog.at_level(logging.WARNING):
        label_graph(np.zeros((2000, 2000)), np.full(2000, 9), labels=names)
    assert "label number 0, label number 1" in caplog.text
    assert "and 1,980 more" in caplog.text
    assert len(caplog.text) < 1000


def test_a_graph_without_isolated_labels_warns_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    label_graph(COUNTS, TOTALS, labels=NAMES)
    assert not caplog.records


def test_one_directional_counts_give_one_directional_edges() -> None:
    graph = label_graph([[0, 5, 0], [0, 0, 0], [0, 9, 0]], [10, 20, 10], labels=LabelSpace(["red", "dress", "blue"]))
    assert graph.edges() == [("blue", "dress", 0.9), ("red", "dress", 0.5)]
    assert graph.reweighted[0, 1] > 0
    assert graph.reweighted[1, 0] == 0
    assert graph.isolated == ()


@pytest.mark.parametrize(
    ("counts", "totals"),
    [
        ([[0, 1], [1, 0]], [1, 0]),
        ([[0, -1], [1, 0]], [1, 1]),
        ([[0, np.nan], [1, 0]], [1, 1]),
        ([[0, 1], [1, 0]], [1, np.inf]),
    ],
)
def test_counts_that_make_no_sense_are_refused(counts: list[list[float]], totals: list[float]) -> None:
    with pytest.raises(LabelError):
        label_graph(counts, totals)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError):
        conditional([[0, 1, 2], [1, 0, 2]], [1, 2])
    with pytest.raises(ShapeError):
        conditional([[0, 1], [1, 0]], [1, 2, 3])
    with pytest.raises(ShapeError, match="3 names"):
        label_graph([[0, 1], [1, 0]], [1, 2], labels=LabelSpace("abc"[i] for i in range(3)))


@pytest.mark.parametrize("settings", [{"threshold": 0.0}, {"threshold": 1.1}, {"reweight": -0.1}, {"reweight": np.nan}])
def test_settings_out_of_bounds_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(LabelError):
        label_graph(COUNTS, TOTALS, **settings)


def test_the_arrays_of_a_graph_are_read_only_copies() -> None:
    counts = np.array(COUNTS)
    graph = label_graph(counts, TOTALS, labels=NAMES)
    counts[0, 1] = 99
    assert graph.counts[0, 1] == 4
    with pytest.raises(ValueError, match="read-only"):
        graph.adjacency[0, 0] = 0


@given(
    target=hnp.arrays(
        np.float32, st.tuples(st.integers(1, 12), st.integers(2, 6)), elements=st.sampled_from([0, 1, np.nan])
    ),
    seed=st.integers(0, 99),
)
def test_permuting_the_labels_permutes_the_graph(target: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(target.shape[1])
    graph, other = label_graph(*cooccurrence(target)), label_graph(*cooccurrence(target[:, order]))
    assert np.array_equal(other.counts, graph.counts[np.ix_(order, order)])
    np.testing.assert_allclose(other.adjacency, graph.adjacency[np.ix_(order, order)], rtol=1e-6)
    assert set(other.isolated) == {str(np.flatnonzero(order == int(name))[0]) for name in graph.isolated}


@pytest.mark.parametrize("name", ["voc", "coco"])
def test_adjacency_equals_the_published_network(shared: Path, name: str) -> None:
    labels, counts, totals = published(shared, name)
    graph = label_graph(counts, totals, labels=LabelSpace(labels))
    with np.load(shared / "golden" / f"{name}_7_224.npz") as golden:
        np.testing.assert_allclose(graph.reweighted, golden["A"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(graph.adjacency, golden["adj"], rtol=0, atol=1e-6)


def test_the_published_apparel_counts_run_from_colour_to_garment(shared: Path) -> None:
    labels, counts, totals = published(shared, "apparel")
    graph = label_graph(counts, totals, labels=LabelSpace(labels))
    assert {i for i, _, _ in graph.edges()} == {"black", "blue", "brown", "green", "red", "white"}
    assert {j for _, j, _ in graph.edges()} == {"dress", "pants", "shirt", "shoes", "shorts"}
