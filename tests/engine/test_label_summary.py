"""Label summaries of a data set and of a bundle, against counting by hand and the model itself."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msrn.bundle.label_inputs import read_label_inputs
from msrn.bundle.read import read_bundle
from msrn.config import Settings
from msrn.engine.label_summary import (
    LabelSummary,
    graph_text,
    names_text,
    summarize_bundle_labels,
    summarize_labels,
    summary_json,
)
from msrn.engine.setup import LabelSources, read_labels_and_train, read_train_and_val
from msrn.errors import BundleError

Tiny = Callable[..., Settings]


@pytest.fixture(scope="module")
def summary(tiny: Tiny) -> LabelSummary:
    return summarize_labels(tiny("unused", labels={"threshold": 0.3}))


@pytest.fixture
def copy(tiny_run: Path, tmp_path: Path) -> Path:
    """A bundle that may be damaged."""
    return Path(shutil.copytree(tiny_run / "bundle", tmp_path / "bundle"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = bundle / "bundle.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_the_totals_are_those_of_counting_the_table(summary: LabelSummary, scenes: Path) -> None:
    with (scenes / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = [set(row["labels"].replace(";", "|").split("|")) for row in rows]
    counted = {name: sum(name in names for names in shown) for name in summary.labels}
    assert dict(zip(summary.labels, summary.totals.tolist(), strict=True)) == counted
    assert summary.images == len(rows) == 48
    tree = json.loads(summary_json(summary))
    assert tree == summary.to_json()
    assert {row["label"]: row["images"] for row in tree["labels"]} == counted
    lines = re.findall(r"^(\w+) +(\d+)  \w+", names_text(summary).split("\n\n")[1], re.MULTILINE)
    assert {name: int(count) for name, count in lines} == counted


def test_text_and_json_hold_the_same_edges(summary: LabelSummary) -> None:
    told = summary.to_json()
    edges = [(edge["from"], edge["to"], round(edge["weight"], 2)) for edge in told["edges"]]
    lines = re.findall(r"^  (.+?) +-> (.+?) +([\d.]+)$", graph_text(summary), re.MULTILINE)
    assert [(a, b, float(weight)) for a, b, weight in lines] == edges
    assert len(edges) > 0
    joined = {name for a, b, _ in edges for name in (a, b)}
    assert told["isolated"] == [name for name in summary.labels if name not in joined]
    assert f"{len(edges)} edges A -> B: at least 30 % of the images with A also show B" in graph_text(summary)


def test_edges_of_the_summary_given_back_make_the_same_graph(summary: LabelSummary, tiny: Tiny, tmp_path: Path) -> None:
    file = tmp_path / "edges.json"
    file.write_text(json.dumps(summary.to_json()["edges"]))
    settings = tiny("unused", labels={"threshold": 0.3, "graph": "file", "graph_file": str(file)})
    graph = LabelSources.of(read_labels_and_train(settings), settings.labels, needs={"graph"}, seed=0).graph
    assert graph is not None
    assert np.array_equal(graph.adjacency, summary.graph.adjacency)
    assert not np.array_equal(graph.adjacency, np.eye(len(summary.labels)))


def test_images_held_out_for_validation_are_not_counted(tiny: Tiny, scenes: Path) -> None:
    data = {"reader": "table", "root": str(scenes), "train": str(scenes / "train.csv"), "val": "", "val_fraction": 0.25}
    settings = tiny("unused", data=data)
    kept, held = read_train_and_val(settings)
    found = summarize_labels(settings)
    assert held is not None
    assert (found.images, len(held)) == (36, 12)
    assert found.totals.tolist() == [sum(name in record.positives for record in kept.records) for name in kept.labels]
    assert found.graph.totals.tolist() == found.totals.tolist()


def test_unknown_targets_count_for_no_label(tiny: Tiny, scenes: Path, tmp_path: Path) -> None:
    rows = ["1?0", "?1?", "110", "0?1", "11?"]
    lines = [",".join([f"images/train/{number:06}.jpg", *row]) for number, row in enumerate(rows)]
    (tmp_path / "train.csv").write_text("\n".join(["image,sea,boat,sun", *lines]) + "\n")
    data = {"reader": "table", "root": str(scenes), "train": str(tmp_path / "train.csv"), "val": "none", "test": ""}
    found = summarize_labels(tiny("unused", data=data))
    assert dict(zip(found.labels, found.totals.tolist(), strict=True)) == {"sea": 3, "boat": 3, "sun": 1}
    assert dict(((a, b), weight) for a, b, weight in found.graph.edges()) == {
        ("sea", "boat"): 1.0,  # of the three with sea, boat is unknown in the first
        ("boat", "sea"): 1.0,
    }


def test_embeddings_without_meaning_have_no_neighbours(tiny: Tiny) -> None:
    for source in ("random", "onehot"):
        found = summarize_labels(tiny("unused", labels={"embeddings": source}))
        assert (found.near_labels, found.near_words) == ((), ())
        assert "nearest" not in names_text(found)
        assert {row["nearest_labels"] for row in found.to_json()["labels"]} == {None}


def test_embeddings_with_meaning_have_neighbours(tiny: Tiny, scenes: Path, tmp_path: Path) -> None:
    names = (scenes / "labels.txt").read_text().split("\n")[:-1]
    words = [*names, "kitten"]
    rows = np.random.default_rng(0).normal(size=(len(words), 5))
    rows[-1] = rows[0] * 2
    rows[1] = rows[0] + 0.01
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in zip(words, rows.tolist(), strict=True)]
    (tmp_path / "glove.txt").write_text("\n".join(lines) + "\n")
    found = summarize_labels(tiny("unused", labels={"embeddings": str(tmp_path / "glove.txt")}))
    first = found.labels.column(names[0])
    assert found.near_labels[first][0][0] == names[1]
    assert found.near_words[first][0] == ("kitten", pytest.approx(1.0, abs=1e-5))
    row = found.to_json()["labels"][first]
    assert row["nearest_words"][0] == {"name": "kitten", "cosine": pytest.approx(1.0, abs=1e-5)}
    assert "kitten 1.00" in names_text(found)


# ----------------------------------------------------------------------------------------------------------- bundles


def test_a_bundle_gives_the_same_summary_as_the_data(tiny: Tiny, tiny_run: Path) -> None:
    data, kept = summarize_labels(tiny("unused")), summarize_bundle_labels(tiny_run)
    assert kept.labels == data.labels
    assert kept.totals.tolist() == data.totals.tolist()
    assert kept.graph.edges() == data.graph.edges()
    assert np.array_equal(kept.graph.adjacency, data.graph.adjacency)
    assert (kept.images, kept.source, kept.graph.source) == (data.images, data.source, data.graph.source)
    assert kept.embeddings.resolved == data.embeddings.resolved
    assert np.array_equal(kept.embeddings.values, data.embeddings.values)
    assert names_text(kept) == names_text(replace(data, near_words=()))


def test_groups_are_those_that_the_model_assigns(tiny_run: Path) -> None:
    summary = summarize_bundle_labels(tiny_run)
    with torch.no_grad():
        shares = read_bundle(tiny_run, precompute=False).model.head.label_groups()
    assert shares is not None
    text = graph_text(summary).split("label groups learned")[1].splitlines()[1:]
    assert len(text) == shares.shape[1]
    found: dict[str, tuple[int, float]] = {}
    for number, line in enumerate(text):
        for name, share in re.findall(r"(?:^|, )([^,:]+?) (\d\.\d\d)", line.split(": ", 1)[1]):
            assert name not in found
            found[name] = (number, float(share))
    assert found == {
        name: (int(row.argmax()), pytest.approx(float(row.max()), abs=0.0051))
        for name, row in zip(summary.labels, shares, strict=True)
    }
    rows = summary.to_json()["labels"]
    assert np.array([row["groups"] for row in rows]) == pytest.approx(shares.numpy(), abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["graph"]["totals"].pop(),
        lambda content: content["graph"]["edges"].append(["boat", "no such label", 1.0]),
        lambda content: content["embeddings"]["labels"].pop(),
        lambda content: content["embeddings"]["labels"][0].pop("how"),
        lambda content: content.pop("graph"),
        lambda content: content["graph"].update(threshold="high"),
    ],
)
def test_a_damaged_record_is_refused(copy: Path, change: Callable[[dict[str, Any]], None]) -> None:
    edit(copy, change)
    with pytest.raises(BundleError, match="the bundle is damaged") as caught:
        read_label_inputs(copy)
    assert str(copy / "bundle.json") in str(caught.value)
