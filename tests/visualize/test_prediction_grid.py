"""The grid of predictions: every image with its labels, coloured by whether they are correct."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from msrn.visualize.figures import write_figure
from msrn.visualize.prediction_grid import CORRECT, MISSED, WRONG, GridCell, draw_predictions


def cell(level: int, scores: dict[str, float], truth: list[str]) -> GridCell:
    return GridCell(np.full((20, 30, 3), level, np.uint8), scores, truth)


def test_labels_are_coloured_as_correct_wrong_and_missed() -> None:
    figure = draw_predictions([cell(0, {"sun": 0.91, "$x$": 0.6}, ["sea", "sun"])], columns=1)
    (axis,) = figure.axes
    assert [(text.get_text(), text.get_color()) for text in axis.texts] == [
        ("sun 0.91", CORRECT),
        ("$x$ 0.60", WRONG),
        ("(sea)", MISSED),
    ]


def test_images_fill_the_grid_row_by_row_and_other_places_stay_empty(tmp_path: Path) -> None:
    figure = draw_predictions([cell(level, {"sun": 0.5}, []) for level in range(5)], columns=3)
    shown = [axis.images[0].get_array()[0, 0, 0] if axis.images else None for axis in figure.axes]
    assert shown == [0, 1, 2, 3, 4, None]
    write_figure(figure, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        assert image.width > 600
        assert image.height > 400


def test_at_most_six_labels_stand_below_an_image() -> None:
    many = {f"label {number}": 0.9 for number in range(9)}
    assert len(draw_predictions([cell(0, many, [])], columns=1).axes[0].texts) == 6
