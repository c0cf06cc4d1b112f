"""What the page on labels says, of a data set and of a bundle, against counting by hand and the model itself."""

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

from msrn.bundle.files import read_bundle
from msrn.bundle.label_inputs import read_learnt_labels
from msrn.config import Settings
from msrn.engine.label_summary import LabelPage, graph_text, label_page, names_text, page_json
from msrn.engine.setup import label_side, read_labels_and_train, read_train_and_val
from msrn.engine.trainer import train
from msrn.errors import BundleError
from msrn.models.label_semantics import LabelSemantics

Tiny = Callable[..., Settings]


@pytest.fixture(scope="module")
def page(tiny: Tiny) -> LabelPage:
    return label_page(tiny("unused", labels={"threshold": 0.3}))


@pytest.fixture
def copy(tiny_run: Path, tmp_path: Path) -> Path:
    """A bundle that may be damaged."""
    return Path(shutil.copytree(tiny_run / "bundle", tmp_path / "bundle"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = bundle / "bundle.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


def test_the_totals_are_those_of_counting_the_table(page: LabelPage, scenes: Path) -> None:
    with (scenes / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = [set(row["labels"].replace(";", "|").split("|")) for row in rows]
    counted = {name: sum(name in names for names in shown) for name in page.labels}
    assert dict(zip(page.labels, page.totals.tolist(), strict=True)) == counted
    assert page.pictures == len(rows) == 48
    told = json.loads(page_json(page))
    assert {row["label"]: row["pictures"] for row in told["labels"]} == counted
    lines = re.findall(r"^(\w+) +(\d+)  \w+", names_text(page).split("\n\n")[1], re.MULTILINE)
    assert {name: int(count) for name, count in lines} == counted


def test_text_and_json_tell_the_same_edges(page: LabelPage) -> None:
    told = json.loads(page_json(page))
    edges = [(edge["from"], edge["to"], round(edge["weight"], 2)) for edge in told["edges"]]
    lines = re.findall(r"^  (.+?) +-> (.+?) +([\d.]+)$", graph_text(page), re.MULTILINE)
    assert [(a, b, float(weight)) for a, b, weight in lines] == edges
    assert len(edges) > 0
    joined = {name for a, b, _ in edges for name in (a, b)}
    assert told["isolated"] == [name for name in page.labels if name not in joined]
    assert f"{len(edges)} edges A -> B: at least 30 % of the pictures with A also show B" in graph_text(page)


def test_edges_of_the_page_given_back_make_the_same_graph(page: LabelPage, tiny: Tiny, tmp_path: Path) -> None:
    file = tmp_path / "edges.json"
    file.write_text(json.dumps(json.loads(page_json(page))["edges"]))
    settings = tiny("unused", labels={"threshold": 0.3, "graph": "file", "graph_file": str(file)})
    _, graph = label_side(read_labels_and_train(settings), settings.labels, 0)
    assert np.array_equal(graph.adjacency, page.graph.adjacency)
    assert not np.array_equal(graph.adjacency, np.eye(len(page.labels)))


def test_what_is_held_out_for_validation_is_not_counted(tiny: Tiny, scenes: Path) -> None:
    data = {"format": "table", "root": str(scenes), "train": str(scenes / "train.csv"), "val": "", "val_fraction": 0.25}
    settings = tiny("unused", data=data)
    kept, held = read_train_and_val(settings)
    found = label_page(settings)
    assert held is not None
    assert (found.pictures, len(held)) == (36, 12)
    assert found.totals.tolist() == [sum(name in record.positives for record in kept.records) for name in kept.labels]
    assert found.graph.totals.tolist() == found.totals.tolist()


def test_what_is_unknown_counts_for_no_label(tiny: Tiny, scenes: Path, tmp_path: Path) -> None:
    rows = ["1?0", "?1?", "110", "0?1", "11?"]
    lines = [",".join([f"images/train/{number:06}.jpg", *row]) for number, row in enumerate(rows)]
    (tmp_path / "train.csv").write_text("\n".join(["image,sea,boat,sun", *lines]) + "\n")
    data = {"format": "table", "root": str(scenes), "train": str(tmp_path / "train.csv"), "val": "none", "test": ""}
    found = label_page(tiny("unused", data=data))
    assert dict(zip(found.labels, found.totals.tolist(), strict=True)) == {"sea": 3, "boat": 3, "sun": 1}
    assert dict(((a, b), weight) for a, b, weight in found.graph.edges()) == {
        ("sea", "boat"): 1.0,  # of the three with sea, the first says nothing of boat
        ("boat", "sea"): 1.0,
    }


def test_vectors_without_meaning_have_no_neighbours(tiny: Tiny) -> None:
    for source in ("random", "onehot"):
        found = label_page(tiny("unused", labels={"vectors": source}))
        assert (found.near_labels, found.near_words) == ([], [])
        assert "nearest" not in names_text(found)
        assert {row["nearest_labels"] for row in json.loads(page_json(found))["labels"]} == {None}


def test_neighbours_are_told_for_vectors_that_mean_something(tiny: Tiny, scenes: Path, tmp_path: Path) -> None:
    names = (scenes / "labels.txt").read_text().split("\n")[:-1]
    words = [*names, "kitten"]
    rows = np.random.default_rng(0).normal(size=(len(words), 5))
    rows[-1] = rows[0] * 2
    rows[1] = rows[0] + 0.01
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in zip(words, rows.tolist(), strict=True)]
    (tmp_path / "glove.txt").write_text("\n".join(lines) + "\n")
    found = label_page(tiny("unused", labels={"vectors": str(tmp_path / "glove.txt")}))
    first = found.labels.column(names[0])
    assert found.near_labels[first][0][0] == names[1]
    assert found.near_words[first][0] == ("kitten", pytest.approx(1.0, abs=1e-5))
    told = json.loads(page_json(found))["labels"][first]
    assert told["nearest_words"][0] == {"name": "kitten", "cosine": pytest.approx(1.0, abs=1e-5)}
    assert "kitten 1.00" in names_text(found)


# ----------------------------------------------------------------------------------------------------------- bundles


def test_a_bundle_says_what_the_data_said(tiny: Tiny, tiny_run: Path) -> None:
    data, kept = label_page(tiny("unused")), label_page(tiny("unused"), bundle=tiny_run)
    assert kept.labels == data.labels
    assert kept.totals.tolist() == data.totals.tolist()
    assert kept.graph.edges() == data.graph.edges()
    assert np.array_equal(kept.graph.adjacency, data.graph.adjacency)
    assert (kept.pictures, kept.source, kept.graph.source) == (data.pictures, data.source, data.graph.source)
    assert kept.vectors.resolved == data.vectors.resolved
    assert np.array_equal(kept.vectors.values, data.vectors.values)
    assert names_text(kept) == names_text(replace(data, near_words=[]))


def test_groups_are_those_that_the_model_assigns(tiny_run: Path, tiny: Tiny) -> None:
    page = label_page(tiny("unused"), bundle=tiny_run)
    semantics = read_bundle(tiny_run, fold=False).model.semantics
    assert isinstance(semantics, LabelSemantics)
    with torch.no_grad():
        shares = semantics().assignment
    text = graph_text(page).split("groups learnt")[1].splitlines()[1:]
    assert len(text) == shares.shape[1]
    told: dict[str, tuple[int, float]] = {}
    for number, line in enumerate(text):
        for name, share in re.findall(r"(?:^|, )([^,:]+?) (\d\.\d\d)", line.split(": ", 1)[1]):
            assert name not in told
            told[name] = (number, float(share))
    assert told == {
        name: (int(row.argmax()), pytest.approx(float(row.max()), abs=0.0051))
        for name, row in zip(page.labels, shares, strict=True)
    }
    rows = json.loads(page_json(page))["labels"]
    assert np.array([row["groups"] for row in rows]) == pytest.approx(shares.numpy(), abs=1e-6)


def test_a_bundle_of_before_still_shows_its_graph(copy: Path, tiny: Tiny) -> None:
    new = read_learnt_labels(copy)
    edit(copy, lambda facts: facts.pop("label_side"))
    old = read_learnt_labels(copy)
    assert [edge[:2] for edge in sorted(old.graph.edges())] == [edge[:2] for edge in sorted(new.graph.edges())]
    assert {weight for _, _, weight in old.graph.edges()} <= {1.0}
    assert np.array_equal(old.graph.adjacency, new.graph.adjacency)
    assert not old.graph.totals.any()
    page = label_page(tiny("unused"), bundle=copy)
    assert "do not say how strong" in graph_text(page)
    assert all(row["pictures"] is None for row in json.loads(page_json(page))["labels"])
    assert all(name in names_text(page) for name in page.labels)


@pytest.mark.parametrize(
    "change",
    [
        lambda side: side["graph"]["totals"].pop(),
        lambda side: side["graph"]["edges"].append(["boat", "no such label", 1.0]),
        lambda side: side["vectors"]["labels"].pop(),
        lambda side: side["vectors"]["labels"][0].pop("how"),
        lambda side: side.pop("graph"),
        lambda side: side["graph"].update(threshold="high"),
    ],
)
def test_a_damaged_record_is_refused(copy: Path, change: Callable[[dict[str, Any]], None]) -> None:
    edit(copy, lambda facts: change(facts["label_side"]))
    with pytest.raises(BundleError, match="the bundle is damaged") as told:
        read_learnt_labels(copy)
    assert str(copy / "bundle.json") in str(told.value)


def test_a_model_without_a_label_side_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    train(tiny(tmp_path / "run", model={"name": "average_pool"}, optim={"epochs": 1}))
    with pytest.raises(BundleError, match="average_pool looks at no label vectors"):
        read_learnt_labels(tmp_path / "run")
