"""What did the tagger say, at a glance? A grid of pictures with their tags, right ones and wrong ones told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msrn.data.transforms import open_image
from msrn.inference.predictor import Prediction

__all__ = ["contact_sheet"]

RIGHT, WRONG, MISSED = "#1a7f37", "#b42318", "#8a8f98"
LINES = 3
"""Lines of labels under a picture, in two columns."""


def contact_sheet(
    predictions: Sequence[Prediction], truths: Sequence[Sequence[str]], path: Path, *, columns: int = 4
) -> None:
    """Write a PNG: each picture with the labels it was given; green is right, red is wrong, grey in brackets is missed.

    Args:
        predictions: of pictures that are files.
        truths: label names that each really shows.
        path: the PNG to write.
        columns: pictures side by side.
    """
    from matplotlib.figure import Figure

    rows = -(-len(predictions) // columns)
    figure = Figure(figsize=(2.4 * columns, 3.0 * rows))
    figure.subplots_adjust(left=0.01, right=0.99, top=1 - 0.02 / rows, bottom=0.22 / rows, wspace=0.05, hspace=0.3)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, prediction, truth in zip(axes, predictions, truths, strict=False):
        axis.imshow(open_image(prediction.source))
        said = [(f"{name} {prediction[name]:.2f}", RIGHT if name in truth else WRONG) for name in prediction.labels]
        said += [(f"({name})", MISSED) for name in truth if name not in prediction.labels]
        for number, (text, colour) in enumerate(said[: 2 * LINES]):
            place = (0.52 * (number // LINES), -0.03 - 0.085 * (number % LINES))
            axis.text(*place, text, transform=axis.transAxes, color=colour, fontsize=9, va="top")
    for axis in figure.axes:
        axis.set_axis_off()
    figure.savefig(path, dpi=110)
