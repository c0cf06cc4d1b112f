"""The released checkpoints' recorded predictions give the published table of figures, to two decimals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from msrn.metrics import precision_recall, predict, predict_top_k

FIGURES = ("CP", "CR", "CF1", "OP", "OR", "OF1")
PUBLISHED = {
    "coco": {
        "all": (85.08, 72.20, 78.11, 85.25, 76.15, 80.44),
        "top 3": (88.28, 63.73, 74.02, 90.14, 66.84, 76.76),
    },
    "voc": {
        "all": (85.94, 93.11, 89.38, 86.09, 93.93, 89.84),
        "top 3": (86.34, 92.58, 89.35, 86.64, 93.51, 89.95),
    },
}
SPELLINGS = {  # recorded name -> name in the label order
    "coco": {"hair drier": "hair dryer", "hair dryer": "hair drier"},
    "voc": {"dining table": "diningtable", "potted plant": "pottedplant", "tv": "tvmonitor"},
}


def recorded(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores that keep what was recorded (which labels passed 0.5, and their order), and the target, ``(n, L)``."""
    labels = json.loads((folder / "label_orders.json").read_text(encoding="utf-8"))[name]
    column = {label: at for at, label in enumerate(labels)}
    spelling = SPELLINGS[name] | {label: label for label in labels}
    with (folder / f"{name}_msrn_predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    scores, target = np.zeros((2, len(rows), len(labels)), dtype=np.float32)
    for at, row in enumerate(rows):
        for rank, label in enumerate(filter(None, row["labels"].split("|"))):
            scores[at, column[spelling[label]]] = 0.99 - 0.01 * rank
        for label in filter(None, row["labels_gt"].split("|")):
            target[at, column[spelling[label]]] = 1
    return scores, target


@pytest.mark.parametrize("name", PUBLISHED)
def test_recorded_predictions_give_the_published_figures(shared: Path, name: str) -> None:
    scores, target = recorded(shared / "published", name)
    decisions = {"all": predict(scores, 0.5), "top 3": predict_top_k(scores, 3, threshold=0.5)}
    for protocol, chosen in decisions.items():
        averages = precision_recall(chosen, target).averages.to_json()
        found = tuple(round(100 * averages[figure], 2) for figure in FIGURES)
        assert found == PUBLISHED[name][protocol], protocol
