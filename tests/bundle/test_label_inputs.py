"""The label side that a bundle keeps comes back as it was, is bound by name, and is refused when it is damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msrn.bundle.files import Bundle, read_bundle
from msrn.bundle.label_inputs import label_record, read_learnt_labels
from msrn.config import Settings
from msrn.engine.trainer import train
from msrn.errors import BundleError
from msrn.labels.embeddings import Resolved, WordVectors
from msrn.labels.graph import LabelGraph, label_graph
from msrn.labels.space import LabelSpace
from msrn.models.label_semantics import LabelSemantics

Tiny = Callable[..., Settings]


@pytest.fixture
def copy(tiny_run: Path, tmp_path: Path) -> Path:
    """A bundle that may be changed."""
    return Path(shutil.copytree(tiny_run / "bundle", tmp_path / "bundle"))


@pytest.fixture(scope="module")
def bundle(tiny_run: Path) -> Bundle:
    return read_bundle(tiny_run, fold=False)


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = bundle / "bundle.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


def put(tree: dict[str, Any], path: str, value: object) -> None:
    """``put(facts, "label_side.graph.totals.0", 3)``."""
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node: Any = tree
    for part in way:
        node = node[part]
    node[last] = value


def side_of(labels: LabelSpace) -> tuple[WordVectors, LabelGraph]:
    """Counts and findings of every kind, drawn at random."""
    size, draw = len(labels), np.random.default_rng(3)
    counts = np.triu(draw.integers(0, 60, (size, size)), 1)
    graph = label_graph(counts + counts.T, draw.integers(60, 90, size), labels=labels, threshold=0.35, source="counted")
    rows = [
        Resolved(labels[0], ("tv monitor",), (), "pieces", ("tv·mon·itor",)),
        Resolved(labels[1], (), ("猫",), "missing"),
        *(Resolved(name, tuple(name), (), "split") for name in labels.names[2:]),
    ]
    return WordVectors(draw.normal(size=(size, 4)).astype(np.float32), "a source", tuple(rows)), graph


def test_what_is_recorded_comes_back_as_it_was(copy: Path) -> None:
    vectors, graph = side_of(LabelSpace(json.loads((copy / "bundle.json").read_text())["labels"]))
    assert len(graph.edges()) > 20
    edit(copy, lambda facts: facts.update(label_side=label_record(vectors, graph)))
    learnt = read_learnt_labels(copy)
    assert learnt.vectors.resolved == vectors.resolved
    assert (learnt.vectors.source, learnt.graph.source, learnt.graph.threshold) == ("a source", "counted", 0.35)
    assert learnt.graph.edges() == graph.edges()
    assert learnt.graph.isolated == graph.isolated
    assert np.array_equal(learnt.graph.totals, graph.totals)
    assert np.array_equal(learnt.graph.adjacency, graph.adjacency)


def test_rows_of_the_record_are_bound_by_name(copy: Path) -> None:
    before = read_learnt_labels(copy)
    edit(copy, lambda facts: facts["label_side"]["vectors"]["labels"].reverse())
    assert read_learnt_labels(copy).vectors.resolved == before.vectors.resolved


def test_a_graph_that_is_read_back_is_the_one_of_the_model_whatever_its_settings(tiny: Tiny, tmp_path: Path) -> None:
    labels = {"reweight": 0.7, "threshold": 0.3}
    train(tiny(tmp_path / "run", labels=labels, optim={"epochs": 1}))
    semantics = read_bundle(tmp_path / "run", fold=False).model.semantics
    assert isinstance(semantics, LabelSemantics)
    for _ in ("with the record", "without, as before there was one"):
        graph = read_learnt_labels(tmp_path / "run").graph
        assert {(b, a) for a, b, _ in graph.edges()} != {(a, b) for a, b, _ in graph.edges()}
        assert graph.adjacency == pytest.approx(semantics.adjacency.numpy(), abs=1e-6)
        edit(tmp_path / "run" / "bundle", lambda facts: facts.pop("label_side", None))


def test_a_bundle_tells_its_pictures_and_the_shares_of_each_label_in_the_groups(tiny_run: Path, scenes: Path) -> None:
    learnt = read_learnt_labels(tiny_run)
    assert learnt.pictures == len((scenes / "train.csv").read_text().splitlines()) - 1
    assert learnt.source == "train.csv"
    assert learnt.vectors.values.shape[0] == learnt.assignment.shape[0] == len(learnt.labels)
    assert learnt.assignment.sum(axis=1) == pytest.approx(np.ones(len(learnt.labels)), abs=1e-6)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("label_side", None),
        ("label_side.vectors", []),
        ("label_side.vectors.labels", "many"),
        ("label_side.vectors.labels.0.words", "cat"),
        ("label_side.vectors.labels.0.words", [[1]]),
        ("label_side.vectors.labels.0.missing", [None]),
        ("label_side.vectors.labels.0.pieces", [0.5]),
        ("label_side.vectors.labels.0.how", None),
        ("label_side.vectors.labels.0.how", "guessed"),
        ("label_side.graph.threshold", 2),
        ("label_side.graph.edges", {}),
        ("label_side.graph.edges.0", ["boat", "sea"]),
        ("label_side.graph.edges.0.2", -0.5),
        ("label_side.graph.edges.0.2", float("inf")),
        ("label_side.graph.totals", [[1]] * 16),
        ("label_side.graph.totals.0", None),
        ("label_side.graph.totals.0", -5),
        ("label_side.graph.totals.0", "many"),
        ("train_data", ["x"]),
        ("train_data.images", None),
        ("train_data.images", -5),
        ("train_data.images", float("inf")),
    ],
)
def test_values_that_cannot_be_are_refused_with_the_file_that_holds_them(
    bundle: Bundle, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, path: str, value: object
) -> None:
    facts = json.loads(json.dumps(bundle.facts))
    put(facts, path, value)
    monkeypatch.setattr("msrn.bundle.label_inputs.read_bundle", lambda *_, **__: replace(bundle, facts=facts))
    with pytest.raises(BundleError, match="the bundle is damaged") as told:
        read_learnt_labels(tiny_run)
    assert str(tiny_run / "bundle" / "bundle.json") in str(told.value)
