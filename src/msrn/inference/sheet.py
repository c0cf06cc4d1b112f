"""What did the tagger say, at a glance? A grid of pictures with their tags, right ones and wrong ones told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msrn.data.transforms import open_image
from msrn.inference.predictor import Prediction

__all__ = ["contact_sheet"]

RIGHT, WRONG, MISSED = "#1a7f37", "#b42318", "#8a8f98"


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
    figure = Figure(figsize=(2.6 * columns, 3.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, prediction, truth in zip(axes, predictions, truths, strict=False):
        axis.imshow(open_image(prediction.source))
        said = [
            (name, f"{name} {prediction[name]:.2f}", RIGHT if name in truth else WRONG) for name in prediction.labels
        ]
        said += [(name, f"({name})", MISSED) for name in truth if name not in prediction.labels]
        for line, (_, text, colour) in enumerate(said[:6]):
            axis.text(0.0, -0.07 - 0.09 * line, text, transform=axis.transAxes, color=colour, fontsize=9, va="top")
        axis.text(0.0, -0.07 - 0.09 * 6, " ", transform=axis.transAxes, fontsize=9, va="top")  # keeps rows apart
    for axis in figure.axes:
        axis.set_axis_off()
    figure.savefig(path, dpi=110)
