"""The label inputs of a bundle come back as they were, bound by name, and are refused when they are damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msrn.bundle.label_inputs import embedding_record, graph_record, read_label_inputs
from msrn.bundle.read import read_bundle
from msrn.config import Settings
from msrn.engine.trainer import train
from msrn.errors import BundleError
from msrn.labels.embeddings import LabelEmbeddings, Resolved
from msrn.labels.graph import LabelGraph, label_graph
from msrn.labels.space import LabelSpace

Tiny = Callable[..., Settings]


@pytest.fixture
def copy(tiny_run: Path, tmp_path: Path) -> Path:
    """A bundle that may be changed."""
    return Path(shutil.copytree(tiny_run / "bundle", tmp_path / "bundle"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = bundle / "bundle.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def put(tree: dict[str, Any], path: str, value: object) -> None:
    """``put(content, "graph.totals.0", 3)``."""
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node: Any = tree
    for part in way:
        node = node[part]
    node[last] = value


def sources_of(labels: LabelSpace) -> tuple[LabelEmbeddings, LabelGraph]:
    """Counts and findings of every kind, drawn at random."""
    size, draw = len(labels), np.random.default_rng(3)
    counts = np.triu(draw.integers(0, 60, (size, size)), 1)
    graph = label_graph(counts + counts.T, draw.integers(60, 90, size), labels=labels, threshold=0.35, source="counted")
    rows = [
        Resolved(labels[0], ("tv monitor",), (), "pieces", ("tv·mon·itor",)),
        Resolved(labels[1], (), ("猫",), "missing"),
        *(Resolved(name, tuple(name), (), "split") for name in labels.names[2:]),
    ]
    return LabelEmbeddings(draw.normal(size=(size, 4)).astype(np.float32), "a source", tuple(rows)), graph


def test_what_is_recorded_comes_back_as_it_was(copy: Path) -> None:
    embeddings, graph = sources_of(LabelSpace(json.loads((copy / "bundle.json").read_text())["labels"]))
    assert len(graph.edges()) > 20
    records = {
        "embeddings": embedding_record(embeddings).model_dump(mode="json"),
        "graph": graph_record(graph).model_dump(mode="json"),
    }
    edit(copy, lambda content: content.update(records))
    learned = read_label_inputs(copy)
    assert learned.embeddings.resolved == embeddings.resolved
    assert (learned.embeddings.source, learned.graph.source, learned.graph.threshold) == ("a source", "counted", 0.35)
    assert learned.graph.edges() == graph.edges()
    assert learned.graph.isolated == graph.isolated
    assert np.array_equal(learned.graph.totals, graph.totals)
    assert np.array_equal(learned.graph.adjacency, graph.adjacency)


def test_rows_of_the_record_are_bound_by_name(copy: Path) -> None:
    before = read_label_inputs(copy)
    edit(copy, lambda content: content["embeddings"]["labels"].reverse())
    assert read_label_inputs(copy).embeddings.resolved == before.embeddings.resolved


def test_a_graph_that_is_read_back_is_the_one_of_the_model_whatever_its_settings(tiny: Tiny, tmp_path: Path) -> None:
    labels = {"reweight": 0.7, "threshold": 0.3}
    train(tiny(tmp_path / "run", labels=labels, optim={"epochs": 1}))
    graph = read_label_inputs(tmp_path / "run").graph
    assert {(b, a) for a, b, _ in graph.edges()} != {(a, b) for a, b, _ in graph.edges()}
    stored = read_bundle(tmp_path / "run").inputs.graph
    assert stored is not None
    assert graph.adjacency == pytest.approx(stored.numpy(), abs=1e-6)


def test_a_bundle_has_its_number_of_images_and_the_shares_of_each_label_in_the_groups(
    tiny_run: Path, scenes: Path
) -> None:
    learned = read_label_inputs(tiny_run)
    assert learned.images == len((scenes / "train.csv").read_text().splitlines()) - 1
    assert learned.source == "train.csv"
    assert learned.embeddings.values.shape[0] == learned.groups.shape[0] == len(learned.labels)
    assert learned.groups.sum(axis=1) == pytest.approx(np.ones(len(learned.labels)), abs=1e-6)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("embeddings", []),
        ("embeddings.labels", "many"),
        ("embeddings.labels.0.words", "cat"),
        ("embeddings.labels.0.words", [[1]]),
        ("embeddings.labels.0.missing", [None]),
        ("embeddings.labels.0.pieces", [0.5]),
        ("embeddings.labels.0.how", None),
        ("embeddings.labels.0.how", "guessed"),
        ("graph.threshold", 2),
        ("graph.edges", {}),
        ("graph.edges.0", ["boat", "sea"]),
        ("graph.edges.0.2", -0.5),
        ("graph.edges.0.2", float("inf")),
        ("graph.totals", [[1]] * 16),
        ("graph.totals.0", None),
        ("graph.totals.0", -5),
        ("graph.totals.0", "many"),
        ("splits.train", ["x"]),
        ("splits.train.images", None),
        ("splits.train.images", -5),
        ("splits.train.images", float("inf")),
    ],
)
def test_impossible_values_are_refused_with_the_file_that_holds_them(copy: Path, path: str, value: object) -> None:
    edit(copy, lambda content: put(content, path, value))
    with pytest.raises(BundleError, match="the bundle is damaged") as caught:
        read_label_inputs(copy)
    assert str(copy / "bundle.json") in str(caught.value)


@pytest.mark.parametrize(
    ("head", "lacks"),
    [
        ({"name": "max_pool"}, "the head max_pool reads no label embeddings and no label graph"),
        ({"name": "ml_decoder", "queries": "words", "width": 8}, "the head ml_decoder reads no label graph"),
    ],
    ids=["neither", "embeddings alone"],
)
def test_a_head_without_label_inputs_has_none_to_show(
    tiny: Tiny, tmp_path: Path, head: dict[str, object], lacks: str
) -> None:
    train(tiny(tmp_path / "run", model={"head": head}, optim={"epochs": 1}))
    with pytest.raises(BundleError, match=lacks):
        read_label_inputs(tmp_path / "run")
