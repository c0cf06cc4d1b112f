"""Partial labels from a file to an evaluation: three entries in ten are hidden, and every number agrees."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as oracle

from msrn.bundle.metadata import read_metadata
from msrn.bundle.read import read_bundle
from msrn.cli import main
from msrn.data.manifest import Manifest
from msrn.data.readers.table import read_table
from msrn.data.writers import table
from msrn.labels.space import LabelSpace

Capture = pytest.CaptureFixture[str]
Splits = dict[str, tuple[Manifest, np.ndarray]]


def hide(data: Manifest, seed: int, share: float = 0.3) -> tuple[Manifest, np.ndarray]:
    """A manifest with a seeded share of its entries unknown, and which these are; one image keeps nothing."""
    gone = np.random.default_rng(seed).random((len(data), len(data.labels))) < share
    gone[5] = True
    records = []
    for record, row in zip(data.records, gone, strict=True):
        names = tuple(name for name, lost in zip(data.labels, row, strict=True) if lost)
        records.append(replace(record, positives=tuple(set(record.positives) - set(names)), unknown=names))
    return replace(data, records=tuple(records)), gone


@pytest.fixture
def partly(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Splits:
    """The drawn scenes with hidden entries, as manifests and as tables with blank cells in the working folder."""
    labels = LabelSpace.read(scenes / "labels.txt")
    monkeypatch.chdir(tmp_path)
    found = {}
    for seed, split in enumerate(("train", "val", "test")):
        found[split] = hide(read_table(scenes / f"{split}.csv", labels), seed)
        found[split][0].write(f"{split}.jsonl")
        table.write(table.Options(), found[split][0], Path(f"{split}.csv"), force=True)
    return found


@pytest.fixture
def tables(partly: Splits, scenes: Path, tmp_path: Path) -> list[str]:
    """Settings that name the tables; their images are those of the scenes."""
    return [f"--data.root={scenes}", *(f"--data.{split}={tmp_path / split}.csv" for split in partly)]


def test_training_and_reports_count_exactly_the_hidden_entries(
    capsys: Capture, caplog: pytest.LogCaptureFixture, partly: Splits, tables: list[str]
) -> None:
    caplog.set_level(logging.INFO)
    hidden = {split: mask for split, (_, mask) in partly.items()}
    trained = np.delete(hidden["train"], 5, axis=0)  # the image without a known label
    for words in (["train", "--run.folder=run"], ["labels"]):
        caplog.clear()
        read = tables if words[0] == "train" else tables[:-1]  # the test split has no part in the graph
        assert main([*words, "--preset=tiny", *read]) == 0
        logged = [message for message in caplog.messages if "known" in message]
        assert logged[0] == "1 of 48 training images are left out: they have no known label"
        masks = [trained, hidden["val"]] if words[0] == "train" else [trained]
        assert re.findall(r"split: (\d+) of (\d+) entries", "\n".join(logged)) == [
            (str(mask.sum()), str(mask.size)) for mask in masks
        ]
    capsys.readouterr()
    start = json.loads(Path("run/log.jsonl").read_text().splitlines()[0])
    assert (start["train"], start["unknown"]) == (47, {"train": int(trained.sum()), "val": int(hidden["val"].sum())})
    splits = read_metadata("run").splits
    assert splits["train"].unknown_entries == trained.sum()
    assert splits["val"].unknown_entries == hidden["val"].sum()

    assert main(["evaluate", "run", "--split=test"]) == 0
    lines = capsys.readouterr().out.splitlines()
    count, share = int(hidden["test"].sum()), 100 * hidden["test"].mean()
    assert (
        lines[1] == f"{count} unknown entries ({share:.2f} %), left out of every figure; "
        "images without a known label: 1"
    )
    for split, file in (("val", "metrics-val.json"), ("test", "evaluation-test.json")):
        report = json.loads(Path("run", file).read_text())
        assert report["data"]["unknown"] == report["left_out"]["entries"] == hidden[split].sum()
        assert report["left_out"]["images"] == 1
        assert [row["unknown"] for row in report["per_label"]] == hidden[split].sum(axis=0).tolist()
    names = [row["label"] for row in report["per_label"]]
    ends = {line.split()[0]: line.split()[-1] for line in lines if line and line.split()[0] in names}
    assert [int(ends[name]) for name in names] == hidden["test"].sum(axis=0).tolist()


def test_every_figure_of_a_label_is_that_of_its_known_images(partly: Splits, scenes: Path, tiny_run: Path) -> None:
    manifest, mask = partly["test"]
    whole = read_table(scenes / "test.csv", manifest.labels).targets("positive")
    flags = ["--data.reader=manifest", f"--data.test={Path.cwd()}/test.jsonl", "--out=m.json"]
    assert main(["evaluate", str(tiny_run), "--split=test", *flags]) == 0
    report, kept = json.loads(Path("m.json").read_text()), np.load("m-scores.npz")
    labels = kept["labels"].tolist()
    expected = []
    for row in report["per_label"]:
        column = manifest.labels.names.index(row["label"])
        here = [image for image in range(len(manifest)) if not mask[image, column]]
        truth, scores = whole[here, column], kept["scores"][here, labels.index(row["label"])]
        if not truth.any():
            assert row["AP"] is None
            continue
        expected.append(oracle.average_precision_score(truth, scores))
        assert row["AP"] == pytest.approx(expected[-1])
        assert row["recall"] == pytest.approx(oracle.recall_score(truth, scores > 0.5))
    assert report["mAP"] == pytest.approx(np.mean(expected))
    assert report["left_out"]["mAP"] == len(labels) - len(expected) > 0


def test_every_format_that_can_hold_unknown_entries_gives_them_back(partly: Splits, scenes: Path) -> None:
    manifest, mask = partly["val"]
    root = f"--data.root={scenes}"
    for source, out in [("val.jsonl", "a.csv"), ("a.csv", "b.tsv"), ("b.tsv", "c"), ("c/*.tar", "d.jsonl")]:
        flags = [root] if source.endswith(("csv", "tsv")) else []
        assert main(["data", "convert", str(Path(source).absolute()), out, *flags]) == 0, (source, out)
    back = Manifest.read("d.jsonl")
    columns = back.labels.align(manifest.labels)
    assert np.array_equal(back.codes()[:, columns] == -1, mask)
    assert np.array_equal(back.codes()[:, columns], manifest.codes())


def test_tuned_thresholds_are_those_of_the_known_entries(partly: Splits, tables: list[str]) -> None:
    """Compared with a loop over the cuts between the known scores of a label; 0.5 where too little is known."""
    manifest, _ = partly["train"]  # large enough to tune on
    train = next(flag for flag in tables if flag.startswith("--data.train=")).partition("=")[2]
    assert main(["train", "--preset=tiny", *tables, f"--data.val={train}", "--optim.epochs=1", "--run.folder=run"]) == 0
    assert main(["evaluate", "run", "--split=val"]) == 0
    kept, thresholds = np.load("run/evaluation-val-scores.npz"), read_bundle("run").thresholds
    target = manifest.targets("negative")[:, manifest.labels.columns(kept["labels"].tolist())]
    tuned = 0
    for column, threshold in enumerate(thresholds):
        known = ~np.isnan(target[:, column])
        truth, scores = target[known, column] == 1, kept["scores"][known, column]
        if truth.sum() < 5:
            assert threshold == 0.5
            continue
        best = max(oracle.f1_score(truth, scores > cut, zero_division=0) for cut in [0.0, *scores.tolist()])
        if truth.all() or best <= oracle.f1_score(truth, np.ones_like(truth)):
            assert threshold == 0.5
            continue
        tuned += 1
        assert oracle.f1_score(truth, scores > threshold) == pytest.approx(best)
    assert tuned > 3
