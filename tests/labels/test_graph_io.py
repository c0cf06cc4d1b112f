"""Edges read back as written and bound by name; every broken line is reported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msrn.errors import LabelError
from msrn.labels.graph import graph_of, label_graph
from msrn.labels.graph_io import read_edges, read_published_counts, write_edges
from msrn.labels.published import PUBLISHED_ORDERS
from msrn.labels.space import LabelSpace

NAMES = LabelSpace(["boat", "sea", "red, green", "Ünïcode 猫"])
SUFFIXES = (".csv", ".tsv", ".json", ".npz")

odd_names = st.text(
    st.characters(exclude_categories=("C", "Zl", "Zp")) | st.sampled_from('",;\t -_\'"'), min_size=1, max_size=9
)


def error_of(file: Path, text: str, labels: LabelSpace = NAMES) -> LabelError:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(LabelError) as caught:
        read_edges(file, labels)
    return caught.value


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_edges_come_back_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    weights = np.array([[0, 0.9, 0, 0], [0.1, 0, 1 / 3, 0], [0, 0, 0, 0.5], [0.25, 0, 0, 0]])
    graph = graph_of(weights, labels=NAMES, threshold=0.2)
    file = tmp_path / "deep" / f"edges{suffix}"
    write_edges(graph, file)
    assert np.array_equal(read_edges(file, NAMES), np.where(weights >= 0.2, weights, 0))
    assert [found.name for found in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=25)
@given(names=st.lists(odd_names, min_size=2, max_size=5), seed=st.integers(0, 9))
def test_odd_names_survive_every_suffix(tmp_path_factory: pytest.TempPathFactory, suffix, names, seed) -> None:  # type: ignore[no-untyped-def]
    try:
        labels = LabelSpace(names)
    except LabelError:
        return  # not valid label names
    weights = np.random.default_rng(seed).random((len(labels), len(labels)))
    np.fill_diagonal(weights, 0)
    file = tmp_path_factory.mktemp("edges") / f"edges{suffix}"
    write_edges(graph_of(weights, labels=labels, threshold=0.5), file)
    order = LabelSpace(reversed(labels.names))
    assert np.array_equal(read_edges(file, order)[::-1, ::-1], np.where(weights >= 0.5, weights, 0))


def test_a_weight_may_be_left_out_and_counts_as_one(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("\ufefffrom,to\r\nboat,sea\r\n\r\n", encoding="utf-8")
    (tmp_path / "e.json").write_text('{"edges": [["boat", "sea"], {"from": "sea", "to": "boat", "weight": 0.5}]}')
    assert read_edges(tmp_path / "e.csv", NAMES)[0, 1] == 1
    assert read_edges(tmp_path / "e.json", NAMES)[:2, :2].tolist() == [[0, 1], [0.5, 0]]


def test_all_broken_edges_are_reported_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "edges.csv"
    lines = [
        "from,to,weight",
        "boat,sea,0.9",
        "baot,sea,0.5",
        "boat,boat,1",
        "sea,boat,much",
        "sea,boat,-1",
        "boat,sea,1",
    ]
    error = error_of(file, "\n".join(lines))
    assert [problem.where for problem in error.problems] == [f"{file}, line {line}" for line in (3, 4, 5, 6, 7)]
    text = str(error)
    for part in ("did you mean 'boat'?", "to itself", "'much'", "'-1'", f"first at {file}, line 2"):
        assert part in text


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("e.csv", "", "an empty file"),
        ("e.csv", "a,b\nboat,sea", "expected the columns from, to"),
        ("e.csv", "from,to\nboat,sea,1", "expected 2 fields, got 3"),
        ("e.csv", 'from,to\n"boat,sea', "broken CSV"),
        ("e.json", "[", "broken JSON"),
        ("e.json", "3", "expected a list of edges"),
        ("e.json", '[["boat"], {"from": 1}]', "edge 2"),
        ("e.json", '[[1, "sea"]]', "must be a string, got 1"),
        ("e.json", '[["boat", "sea", NaN]]', "finite"),
        ("e.json", '[["boat", "sea", [1]]]', "expected a number"),
        ("e.npz", "no archive", "cannot read the edges"),
        ("e.txt", "boat sea", "edges as .txt"),
        ("e", "boat sea", "has no suffix"),
    ],
)
def test_a_file_without_edges_is_refused(tmp_path: Path, name: str, text: str, expected: str) -> None:
    error = error_of(tmp_path / name, text)
    assert expected in str(error)
    assert str(tmp_path / name) in str(error)


def test_a_missing_file_and_one_that_is_not_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_bytes(b"from,to\n\xff")
    for name, expected in (("gone.csv", "cannot read"), ("gone.npz", "cannot read"), ("e.csv", "not UTF-8")):
        with pytest.raises(LabelError, match=expected) as caught:
            read_edges(tmp_path / name, NAMES)
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"weights": np.eye(2)}, "missing: labels"),
        ({"weights": np.eye(2), "labels": np.array(["boat", "sea", "sun"])}, "got (2, 2)"),
        ({"weights": np.eye(2), "labels": np.array([1, 2])}, "of strings"),
        ({"weights": np.eye(2), "labels": np.array(["boat", "boat"])}, "the file's labels are invalid"),
        ({"weights": np.eye(2), "labels": np.array(["boat", "sun"])}, "lacks a label"),
        ({"weights": np.array([[0, np.nan], [0, 0]]), "labels": np.array(["boat", "sea"])}, "got nan from 'boat'"),
        ({"weights": np.eye(2), "labels": np.array(["boat", "sea"], dtype=object)}, "cannot read the edges"),
    ],
)
def test_a_broken_npz_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], expected: str) -> None:
    np.savez(tmp_path / "e.npz", **arrays)
    with pytest.raises(LabelError) as caught:
        read_edges(tmp_path / "e.npz", LabelSpace(["boat", "sea"]))
    assert expected in str(caught.value)


def test_an_npz_may_contain_more_labels_in_another_order(tmp_path: Path) -> None:
    weights = np.array([[0, 0.1, 0.2], [0.3, 0, 0.4], [0.5, 0.6, 0]])
    np.savez(tmp_path / "e.npz", weights=weights, labels=np.array(["sun", "sea", "boat"]))
    assert read_edges(tmp_path / "e.npz", LabelSpace(["boat", "sea"])).tolist() == [[0, 0.6], [0.4, 0]]


def test_edges_are_not_written_with_unknown_suffixes(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"edges as \.xlsx"):
        write_edges(graph_of(np.eye(4), labels=NAMES), tmp_path / "e.xlsx")
    assert not list(tmp_path.iterdir())


def test_the_published_nuswide_counts_leave_two_edges(shared: Path) -> None:
    order = LabelSpace(json.loads((shared / "published" / "label_orders.json").read_text())["nuswide"])
    ours = LabelSpace(sorted(order, reverse=True))
    counts, totals = read_published_counts(shared / "published" / "nuswide.npz", ours)
    graph = label_graph(counts, totals, labels=ours)
    assert len(graph.edges()) == 2
    with np.load(shared / "published" / "nuswide.npz") as file:
        assert np.array_equal(file["totals"], file["counts"].sum(axis=1) + 1)  # not numbers of images
        i, j = order.column("sky"), order.column("clouds")
        assert counts[ours.column("sky"), ours.column("clouds")] == file["counts"][i, j] > 0


def test_published_counts_with_names_are_bound_by_name(tmp_path: Path) -> None:
    two = LabelSpace(["a", "b"])
    np.savez(tmp_path / "q.npz", counts=[[0, 1, 2], [3, 0, 4], [5, 6, 0]], totals=[7, 8, 9], labels=["c", "b", "a"])
    counts, totals = read_published_counts(tmp_path / "q.npz", two)
    assert (counts.tolist(), totals.tolist()) == ([[0, 6], [4, 0]], [9, 8])
    np.savez(tmp_path / "r.npz", counts=np.zeros((2, 3)), totals=np.ones(2), labels=["a", "b"])
    with pytest.raises(LabelError, match=r"got \(2, 3\)"):
        read_published_counts(tmp_path / "r.npz", two)


@pytest.mark.parametrize("vocabulary", PUBLISHED_ORDERS)
def test_published_counts_without_names_are_recognised_by_their_number(tmp_path: Path, vocabulary: str) -> None:
    order = PUBLISHED_ORDERS[vocabulary]
    size = len(order)
    counts = np.random.default_rng(0).integers(0, 9, (size, size))
    np.savez(tmp_path / "p.npz", counts=counts, totals=np.arange(size))
    some = LabelSpace([order[5], order[2]])
    found, totals = read_published_counts(tmp_path / "p.npz", some)
    assert totals.tolist() == [5, 2]
    assert found.tolist() == [[counts[5, 5], counts[5, 2]], [counts[2, 5], counts[2, 2]]]
    with pytest.raises(LabelError, match="lacks a label: label 'no such name'"):
        read_published_counts(tmp_path / "p.npz", LabelSpace([order[0], "no such name"]))


def test_published_counts_without_names_and_of_another_number_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", counts=np.zeros((3, 3)), totals=np.ones(3))
    with pytest.raises(LabelError, match="have no label names") as caught:
        read_published_counts(tmp_path / "p.npz", LabelSpace(["a", "b", "c"]))
    assert "labels=numpy.array" in str(caught.value)
