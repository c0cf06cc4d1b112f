"""Write predictions as a table, CSV or JSON lines, one row each, as they come."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from typing import Literal, TextIO

from msrn.errors import ConfigError, printable
from msrn.inference.predictor import Prediction
from msrn.labels.space import LabelSpace

__all__ = ["write_predictions"]


def write_predictions(
    predictions: Iterable[Prediction],
    out: TextIO,
    *,
    style: Literal["table", "json", "csv"],
    labels: LabelSpace,
    top: int | None = None,
) -> tuple[int, int]:
    """Write predictions to a stream.

    Args:
        predictions: in the order of the rows.
        out: text stream.
        style: ``json``: an object a line with ``image``, ``labels``, ``probabilities`` (best first) or ``error``;
            ``csv``: image, labels joined by ``|`` (a JSON list if a name holds that mark), one probability column per
            label, error; ``table``: for people.
        labels: columns of ``csv``.
        top: the best labels, this many; in ``csv`` the other columns stay empty. None: all, or in ``table`` those over
            threshold.

    Returns:
        Number of rows, and of those with an error.

    Raises:
        ConfigError: ``top`` is below 1.
    """
    if top is not None and top < 1:
        raise ConfigError(f"expected top to be at least 1, got {top}", "top")
    done = broken = 0
    writer = csv.writer(out, lineterminator="\n")
    if style == "csv":
        writer.writerow(["image", "labels", *labels.names, "error"])
    for prediction in predictions:
        done += 1
        broken += prediction.error is not None
        if style == "csv":
            writer.writerow(_csv_row(prediction, labels, top))
        else:
            print(_json_line(prediction, top) if style == "json" else _table_line(prediction, top), file=out)
        out.flush()
    return done, broken


def _json_line(prediction: Prediction, top: int | None) -> str:
    row: dict[str, object] = {"image": prediction.source}
    if prediction.error is not None:
        row["error"] = prediction.error
    else:
        row["labels"] = list(prediction.labels)
        row["probabilities"] = {name: round(value, 6) for name, value in prediction.ranked[:top]}
    return json.dumps(row, ensure_ascii=_is_no_text(prediction.source))


def _csv_row(prediction: Prediction, labels: LabelSpace, top: int | None) -> list[str]:
    values = dict(prediction.ranked[:top])
    cells = [f"{values[name]:.6f}" if name in values else "" for name in labels.names]
    # The reader of tables takes lists, too; between bars, a name with a bar would be two names.
    listed = any("|" in name for name in labels.names)
    given = json.dumps(prediction.labels, ensure_ascii=False) if listed else "|".join(prediction.labels)
    return [_as_text(prediction.source), "" if prediction.error else given, *cells, prediction.error or ""]


def _table_line(prediction: Prediction, top: int | None) -> str:
    source = printable(prediction.source)
    if prediction.error is not None:
        return f"{source}  ! {printable(prediction.error)}"
    given = set(prediction.labels)
    shown = prediction.ranked[:top] if top else [pair for pair in prediction.ranked if pair[0] in given]
    shown_labels = [f"{name} {value:.2f}{'' if name in given else ' (below threshold)'}" for name, value in shown]
    return f"{source}  {', '.join(shown_labels) or '-'}"


def _is_no_text(name: str) -> bool:
    """Whether a file's name holds bytes that are not UTF-8; Python keeps them as lone surrogates."""
    return any("\ud800" <= character <= "\udfff" for character in name)


def _as_text(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8")
