"""From settings to splits and label inputs: unknown labels are reported, counted where known, and never guessed."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from msrn.config import Settings
from msrn.data.manifest import Manifest
from msrn.data.readers.table import read_table
from msrn.engine.setup import (
    LabelSources,
    build_setup,
    read_labels_and_train,
    read_named_split,
    read_train_and_val,
)
from msrn.errors import DataError

Log = pytest.LogCaptureFixture
Tiny = Callable[..., Settings]


@pytest.fixture
def photos(scenes: Path, tmp_path: Path) -> Path:
    for number in range(8):
        shutil.copy(scenes / "images" / "train" / f"{number:06}.jpg", tmp_path / f"{number}.jpg")
    return tmp_path


def settings(tiny: Tiny, folder: Path, train: list[str], val: list[str] | str) -> Settings:
    """Tables of the labels sea, boat and sun: each text is an image's three states. ``val`` may be a setting too."""
    for name, rows in (("train", train), ("val", val)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            lines = [[f"{number}.jpg", *row] for number, row in enumerate(rows)]
            csv.writer(file).writerows([["image", "sea", "boat", "sun"], *lines])
    named = val if isinstance(val, str) else "val.csv"
    data = {"reader": "table", "root": str(folder), "train": "train.csv", "val": named, "test": ""}
    return tiny("unused", data=data)


def test_how_much_is_unknown_is_reported_once_for_each_split(tiny: Tiny, photos: Path, caplog: Log) -> None:
    caplog.set_level(logging.INFO)
    read_train_and_val(settings(tiny, photos, ["10?", "0?1", "110"], ["1?0", "011"]))
    messages = [record.getMessage() for record in caplog.records if "unknown" in record.getMessage()]
    assert messages == [
        "training split: 2 of 9 entries (images x labels) are unknown, 22.2 %: masked in loss, graph and metrics",
        "validation split: 1 of 6 entries (images x labels) are unknown, 16.7 %: masked in loss, graph and metrics",
    ]


def test_nothing_is_reported_where_everything_is_known(tiny: Tiny, photos: Path, caplog: Log) -> None:
    caplog.set_level(logging.INFO)
    read_train_and_val(settings(tiny, photos, ["100", "011"], ["100", "011"]))
    assert not [record for record in caplog.records if record.name == "msrn.engine.setup"]


def test_labels_without_a_known_positive_or_negative_are_named(tiny: Tiny, photos: Path, caplog: Log) -> None:
    read_train_and_val(settings(tiny, photos, ["1?0", "1?0", "100"], "none"))
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == ["training split: no known positive for boat, sun", "training split: no known negative for sea"]


def test_images_of_no_known_label_are_left_out_of_training_and_counted(tiny: Tiny, photos: Path, caplog: Log) -> None:
    caplog.set_level(logging.INFO)
    chosen = settings(tiny, photos, ["1?0", "???", "011", "???"], ["???", "100"])
    train, val = read_train_and_val(chosen)
    assert [record.image for record in train.records] == ["0.jpg", "2.jpg"]
    assert train.source.endswith("images without a known label left out (2)")
    own = [record.getMessage() for record in caplog.records if record.name == "msrn.engine.setup"]
    assert own[0] == "2 of 4 training images are left out: they have no known label"
    assert val is not None
    assert [record.image for record in val.records] == ["0.jpg", "1.jpg"]  # the metrics leave it out and count it


def test_what_is_held_out_is_the_same_for_training_and_for_evaluation(tiny: Tiny, photos: Path) -> None:
    chosen = settings(tiny, photos, ["1?0", "???", "011", "1?1", "0?0", "???", "110", "001"], "")
    train, val = read_train_and_val(chosen)
    assert val is not None
    assert len(train) + len(val) == 6
    assert read_named_split(chosen, "val", train.labels).digest == val.digest


def test_training_on_nothing_known_is_refused(tiny: Tiny, photos: Path) -> None:
    with pytest.raises(DataError, match="no label of any training image is known"):
        read_labels_and_train(settings(tiny, photos, ["???", "???"], "none"))


@pytest.mark.parametrize("rows", [["1?0", "1?0"], ["???", "???"], ["100", "1?0"]])
def test_a_validation_split_that_can_evaluate_no_label_is_refused_before_training(
    tiny: Tiny, photos: Path, rows: list[str]
) -> None:
    with pytest.raises(DataError, match=r"both a known positive and a known negative(?s:.*)--data\.val"):
        build_setup(settings(tiny, photos, ["100", "011"], rows))


def test_the_graph_s_shares_are_of_images_that_show_one_label_and_of_which_the_other_is_known(
    tiny: Tiny, scenes: Path
) -> None:
    """P(j | i) by a loop over images, on scenes with three entries in ten hidden; the graph has the same edges."""
    whole = read_table(scenes / "train.csv")
    train = hidden(whole, share=0.3)
    states, size = train.codes().tolist(), len(train.labels)
    edges = np.zeros((size, size), bool)
    for one in range(size):
        for other in range(size):
            known = [row[other] for row in states if row[one] == 1 and row[other] != -1]
            edges[one, other] = one != other and bool(known) and sum(known) / len(known) >= 0.4
    section = tiny("unused", labels={"threshold": 0.4}).labels
    graph = LabelSources.of(train, section, needs={"graph"}, seed=0).graph
    assert graph is not None
    found = {(one, other) for one, other, _ in graph.edges()}
    names = train.labels.names
    assert found == {(names[one], names[other]) for one, other in np.argwhere(edges)}
    assert found


def hidden(data: Manifest, share: float) -> Manifest:
    """The manifest with a seeded share of its entries made unknown."""
    mask = np.random.default_rng(5).random((len(data), len(data.labels))) < share
    records = []
    for record, row in zip(data.records, mask, strict=True):
        gone = {name for name, lost in zip(data.labels, row, strict=True) if lost}
        kept = tuple(name for name in record.positives if name not in gone)
        records.append(replace(record, positives=kept, unknown=tuple(sorted(gone))))
    return replace(data, records=tuple(records))


def test_a_head_without_label_inputs_needs_no_embeddings_installed(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise AssertionError("the embeddings were asked for")

    monkeypatch.setattr("msrn.engine.setup.label_embeddings", missing)
    monkeypatch.setattr("msrn.engine.setup._graph", missing)
    setup = build_setup(tiny("unused", model={"head": "csra"}, labels={"embeddings": "glove-6b-50d"}))
    assert (setup.sources.embeddings, setup.sources.graph) == (None, None)
    with pytest.raises(AssertionError, match="asked for"):
        build_setup(tiny("unused", labels={"embeddings": "glove-6b-50d"}))
