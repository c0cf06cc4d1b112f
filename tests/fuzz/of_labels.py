"""Kinds of label files, label embeddings, label graphs and settings."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from kinds import Kind, damaged
from of_data_sets import jsonl, lines

from msrn.config import LabelSettings, load_settings, validate
from msrn.labels.embeddings import label_embeddings
from msrn.labels.graph import graph_of, label_graph
from msrn.labels.graph_io import read_edges, read_published_counts
from msrn.labels.space import LabelSpace
from msrn.presets import read_settings_file

SPACE = LabelSpace(["sea", "boat", "traffic light"])


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **{name: np.asarray(value) for name, value in arrays.items()})
    return out.getvalue()


def read_labels(name: str, folder: Path) -> None:
    labels = LabelSpace.read(folder / name)
    labels.write(folder / "out" / "labels.txt")
    assert LabelSpace.read(folder / "out" / "labels.txt") == labels
    assert [labels.column(name) for name in labels] == list(range(len(labels)))
    kept = np.asarray(labels.names)
    assert tuple(kept.tolist()) == labels.names  # as the scores of an evaluation keep them


def read_embeddings(name: str, folder: Path) -> None:
    found = label_embeddings(SPACE, folder / name)
    assert found.values.shape[0] == len(SPACE)
    assert np.isfinite(found.values).all()


def read_graph(name: str, folder: Path) -> None:
    graph = graph_of(read_edges(folder / name, SPACE), labels=SPACE)
    assert np.isfinite(graph.adjacency).all()


def read_counts(name: str, folder: Path) -> None:
    graph = label_graph(*read_published_counts(folder / name, SPACE), labels=SPACE)
    assert np.isfinite(graph.adjacency).all()


def read_aliases(name: str, folder: Path) -> None:
    texts = validate(LabelSettings, {"aliases": str(folder / name)}).alias_texts
    assert all(isinstance(text, str) and text.strip() for text in texts.values())


def read_settings(name: str, folder: Path) -> None:
    settings = load_settings(read_settings_file(folder / name), name)
    again = folder / "out" / "again.yaml"
    again.write_text(settings.to_yaml(), encoding="utf-8")
    assert load_settings(read_settings_file(again)) == settings


GLOVE = lines("sea 0.1 0.2 -0.3", "boat 1 2 3", "traffic 1e-3 0 5", "light 4 5 6", ". 0 0 1")
VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)
WORDS = ["sea", "boat", "traffic light", "car"]
WEIGHTS = np.array([[0, 0.5, 0.9], [0.2, 0, 0], [0.7, 0, 0]])
SETTINGS = """preset: tiny
data:
  reader: {name: coco, empty: keep}
  root: images
  batch_size: 8
  image_size: 64
labels: &labels
  aliases: {sea: the sea}
  threshold: 0.4
model:
  head: {name: msrn, width: 16, pools: [1, 1, 1], extra_convs: [true, false, true]}
optim: {lr: 1e-2, epochs: 3, step_epochs: [1, 2]}
run: {seed: 3}
"""
EDGES = [{"from": "sea", "to": "boat", "weight": 0.9}, ["boat", "sea"], ["sea", "traffic light", 0.5]]
COUNTS = npz(counts=WEIGHTS * 10, totals=[10, 9, 8], labels=SPACE.names)
Reading = Callable[[str, Path], None]
FILES: dict[str, tuple[bytes, str, Reading]] = {
    "labels.txt": (lines("sea", "boat", "traffic light", "été", ""), "text", read_labels),
    "glove.txt": (GLOVE, "text", read_embeddings),
    "word2vec.txt": (b"5 3\n" + GLOVE, "text", read_embeddings),
    "vectors.npz": (npz(vectors=VECTORS, labels=WORDS), "zip", read_embeddings),
    "edges.csv": (lines("from,to,weight", "sea,boat,0.9", "boat,sea,0.4"), "text", read_graph),
    "edges.tsv": (lines("from\tto", "sea\tboat"), "text", read_graph),
    "edges.json": (json.dumps(EDGES).encode(), "json", read_graph),
    "edges.npz": (npz(labels=SPACE.names, weights=WEIGHTS), "zip", read_graph),
    "counts.npz": (COUNTS, "zip", read_counts),
    "aliases.yaml": (lines("sea: the sea", "'boat': ship", "no: 1"), "text", read_aliases),
    "settings.yaml": (SETTINGS.encode(), "text", read_settings),
    "settings.json": (jsonl({"preset": "tiny", "data": {"root": "x"}, "optim": {"lr": 0.1}}), "json", read_settings),
}
KINDS: list[Kind] = [
    damaged(f"labels {name}", partial(dict, {name: content}), partial(read, name), forms={name: form})
    for name, (content, form, read) in FILES.items()
]
