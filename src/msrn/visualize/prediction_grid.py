"""Draw predictions as a grid of images with their labels: correct, wrong and missed ones in different colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GridCell", "draw_predictions"]

CORRECT, WRONG, MISSED = "#1a7f37", "#b42318", "#8a8f98"
LINES = 3
"""Lines of labels below an image, in two columns."""


@dataclass(frozen=True, slots=True)
class GridCell:
    """An image with what was predicted for it.

    Fields: image ``(H, W, 3)`` uint8; scores of the labels that were predicted, the highest first; truth, the labels
    that the image really shows.
    """

    image: npt.NDArray[np.uint8]
    scores: Mapping[str, float]
    truth: Sequence[str]


def draw_predictions(cells: Sequence[GridCell], *, columns: int = 4) -> Figure:
    """Each image with its predicted labels: correct ones green, wrong ones red, missed ones grey and in brackets.

    Args:
        cells: at least one.
        columns: images side by side.

    Example:
        >>> cell = GridCell(np.zeros((8, 8, 3), np.uint8), {"sun": 0.9}, ["sun", "sea"])
        >>> [text.get_text() for text in draw_predictions([cell], columns=1).axes[0].texts]
        ['sun 0.90', '(sea)']
    """
    from matplotlib.figure import Figure

    rows = -(-len(cells) // columns)
    figure = Figure(figsize=(2.4 * columns, 3.0 * rows))
    figure.subplots_adjust(left=0.01, right=0.99, top=1 - 0.02 / rows, bottom=0.22 / rows, wspace=0.05, hspace=0.3)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, cell in zip(axes, cells, strict=False):
        axis.imshow(cell.image)
        lines = [
            (f"{name} {score:.2f}", CORRECT if name in cell.truth else WRONG) for name, score in cell.scores.items()
        ]
        lines += [(f"({name})", MISSED) for name in cell.truth if name not in cell.scores]
        for number, (text, colour) in enumerate(lines[: 2 * LINES]):
            place = (0.52 * (number // LINES), -0.03 - 0.085 * (number % LINES))
            axis.text(*place, text, transform=axis.transAxes, color=colour, fontsize=9, va="top", parse_math=False)
    for axis in figure.axes:
        axis.set_axis_off()
    return figure
