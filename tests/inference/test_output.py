"""Predictions as rows: one per image, as they come, in a format that other programs read."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from msrn.data.readers.table import read_table
from msrn.inference.output import write_predictions
from msrn.inference.predictor import Prediction
from msrn.labels.space import LabelSpace

LABELS = LabelSpace(["moon", "sun", "star"])
ROWS = [
    Prediction("a, b.jpg", ("sun",), (("sun", 0.75), ("star", 0.25), ("moon", 1 / 3e7))),
    Prediction('ü"x.jpg', ("sun", "moon"), (("sun", 0.9), ("moon", 0.8), ("star", 0.1))),
    Prediction("gone.jpg", error="expected an image, found no file"),
    Prediction("dim.jpg", (), (("star", 0.25), ("sun", 0.2), ("moon", 0.1))),
]


def written(style: Literal["table", "json", "csv"], top: int | None = None) -> str:
    out = io.StringIO()
    assert write_predictions(ROWS, out, style=style, labels=LABELS, top=top) == (4, 1)
    return out.getvalue()


def test_json_lines_hold_labels_and_probabilities_best_first() -> None:
    rows = [json.loads(line) for line in written("json").splitlines()]
    assert rows[0] == {
        "image": "a, b.jpg",
        "labels": ["sun"],
        "probabilities": {"sun": 0.75, "star": 0.25, "moon": 0.0},
    }
    assert list(rows[1]["probabilities"]) == ["sun", "moon", "star"]
    assert rows[2] == {"image": "gone.jpg", "error": "expected an image, found no file"}
    best = [json.loads(line).get("probabilities", {}) for line in written("json", 1).splitlines()]
    assert [list(row) for row in best] == [["sun"], ["sun"], [], ["star"]]


def test_csv_has_a_column_for_each_label_in_their_order() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv"))))
    assert list(rows[0]) == ["image", "labels", "moon", "sun", "star", "error"]
    assert [row["image"] for row in rows] == [row.source for row in ROWS]
    assert [row["labels"] for row in rows] == ["sun", "sun|moon", "", ""]
    assert (rows[1]["moon"], rows[1]["sun"], rows[1]["star"]) == ("0.800000", "0.900000", "0.100000")
    assert [row["error"] for row in rows] == ["", "", "expected an image, found no file", ""]
    assert (rows[2]["moon"], rows[2]["sun"]) == ("", "")


def test_a_table_tells_labels_over_threshold_or_the_best_of_them() -> None:
    assert written("table").splitlines() == [
        "a, b.jpg  sun 0.75",
        'ü"x.jpg  sun 0.90, moon 0.80',
        "gone.jpg  ! expected an image, found no file",
        "dim.jpg  -",
    ]
    assert written("table", 2).splitlines()[0] == "a, b.jpg  sun 0.75, star 0.25 (below threshold)"


def test_names_that_hold_a_bar_are_lists_in_csv_which_a_table_reads_back(tmp_path: Path) -> None:
    out = io.StringIO()
    labels = LabelSpace(["a|b", "sea"])
    rows = [Prediction("x.jpg", ("a|b", "sea"), (("a|b", 0.9), ("sea", 0.8))), Prediction("y.jpg", error="gone")]
    write_predictions(rows, out, style="csv", labels=labels)
    cells = [row["labels"] for row in csv.DictReader(io.StringIO(out.getvalue()))]
    assert (json.loads(cells[0]), cells[1]) == (["a|b", "sea"], "")
    (tmp_path / "tags.csv").write_text(out.getvalue())
    for name in ("x.jpg", "y.jpg"):
        (tmp_path / name).write_bytes(b"")
    assert read_table(tmp_path / "tags.csv").records[0].positives == ("a|b", "sea")


@pytest.mark.parametrize("style", ["table", "json", "csv"])
def test_rows_are_written_as_they_come(style: Literal["table", "json", "csv"]) -> None:
    out = io.StringIO()

    def coming() -> Iterator[Prediction]:
        for number, row in enumerate(ROWS):
            assert len(out.getvalue().splitlines()) == number + (style == "csv")
            yield row

    write_predictions(coming(), out, style=style, labels=LABELS)


@pytest.mark.parametrize("style", ["table", "json", "csv"])
def test_file_names_that_are_no_text_can_be_written(style: Literal["table", "json", "csv"]) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    assert write_predictions([Prediction(name, error="gone")], out, style=style, labels=LABELS) == (1, 1)
    text = raw.getvalue().decode("utf-8")
    assert "caf" in text
    if style == "json":
        assert json.loads(text)["image"] == name  # JSON's escapes hold it exactly


@pytest.mark.parametrize("style", ["table", "json", "csv"])
def test_a_name_with_a_line_break_stays_one_row(style: Literal["table", "json", "csv"]) -> None:
    out = io.StringIO(newline="")
    write_predictions([Prediction("a\nb.jpg", error="gone")], out, style=style, labels=LABELS)
    rows = list(csv.reader(io.StringIO(out.getvalue(), newline=""))) if style == "csv" else out.getvalue().splitlines()
    assert len(rows) == 1 + (style == "csv")
