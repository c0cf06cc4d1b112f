"""``msrn summary``: where the number of labels and the width of their embeddings come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from msrn.bundle.read import read_bundle
from msrn.cli.main import main

Capture = pytest.CaptureFixture[str]
TINY = ("--preset", "tiny")


def summary_of(capsys: Capture, *arguments: str) -> dict[str, Any]:
    assert main(["summary", *arguments, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def error_of(capsys: Capture, *arguments: str) -> str:
    assert main(["summary", *arguments]) == 2
    return capsys.readouterr().err


def test_labels_are_counted_in_the_training_split_or_in_the_file_of_labels(
    capsys: Capture, scenes: Path, tmp_path: Path
) -> None:
    rows = (scenes / "train.csv").read_text().splitlines()[1:]
    expected = len({label for row in rows for label in row.split(",")[1].split("|") if label})
    data = ("--data.root", str(scenes))
    assert summary_of(capsys, *TINY, *data)["labels"] == expected
    assert summary_of(capsys, *TINY, *data, "--num_labels", "4")["labels"] == 4
    (tmp_path / "labels.txt").write_text("cat\ndog\nsofa\n")
    assert summary_of(capsys, *TINY, "--data.labels", str(tmp_path / "labels.txt"))["labels"] == 3


def test_without_data_the_number_of_labels_is_asked_for(capsys: Capture, tmp_path: Path) -> None:
    error = error_of(capsys, *TINY, "--data.train", str(tmp_path / "gone.csv"))
    assert "the number of labels is not known" in error
    assert "gone.csv" in error
    assert "--num_labels" in error
    assert "at least one label, got 0" in error_of(capsys, *TINY, "--num_labels", "0")


@pytest.mark.parametrize(("source", "width"), [("onehot", 6), ("file", 3)])
def test_label_semantics_are_as_wide_as_the_label_embeddings(
    capsys: Capture, tmp_path: Path, source: str, width: int
) -> None:
    (tmp_path / "words.txt").write_text("cat 1 2 3\ndog 4 5 6\n")
    source = str(tmp_path / "words.txt") if source == "file" else source

    def parameters(embeddings: str) -> int:
        found = summary_of(capsys, *TINY, "--num_labels", "6", "--labels.embeddings", embeddings)
        return next(int(part["parameters"]) for part in found["parts"] if part["name"] == "semantics")

    assert parameters("random") - parameters(source) == 256 * (300 - width)


def test_a_bundle_is_summarised_with_its_own_labels_and_weights(capsys: Capture, tiny_run: Path) -> None:
    bundle = read_bundle(tiny_run, precompute=False)
    found = summary_of(capsys, str(tiny_run))
    assert found["labels"] == len(bundle.labels)
    assert sum(part["parameters"] for part in found["parts"]) == sum(
        value.numel() for value in bundle.model.parameters()
    )
    assert found["uses"][-1]["weights"] == sum(
        value.nbytes for value in (*bundle.model.parameters(), *bundle.model.buffers())
    )
    assert "a bundle has its own labels" in error_of(capsys, str(tiny_run), "--num_labels", "3")


def test_a_bundle_without_its_label_inputs_is_refused(capsys: Capture, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_bytes((tiny_run / "bundle" / "bundle.json").read_bytes())
    assert "cannot read the label inputs" in error_of(capsys, str(tmp_path))
