"""Calibrate a trained classifier on validation images, without training: afterwards its logits are calibrated ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from msrn.bundle.metadata import CalibrationRecord, Metadata, SplitRecord, bundle_folder
from msrn.bundle.read import read_bundle
from msrn.bundle.write import write_metadata
from msrn.config import Settings
from msrn.engine.distributed import launch
from msrn.engine.scoring import split_logits
from msrn.engine.setup import split_targets
from msrn.engine.tune import described, validation_images
from msrn.errors import DataError
from msrn.metrics.calibration import LabelCalibration, calibration_measures, cross_fitted, fit, sigmoid
from msrn.models.classifier import memory_layout

__all__ = ["CalibrationMethod", "calibrate_bundle", "calibration_text"]

CalibrationMethod = Literal["temperature", "platt", "none"]

AS_TRAINED = LabelCalibration(1.0, 0.0, "temperature")


def calibrate_bundle(
    folder: str | Path,
    settings: Settings,
    method: CalibrationMethod,
    *,
    min_support: int = 25,
    force: bool = False,
) -> Metadata:
    """Fit a calibration on ``settings.data.val`` and write it into the bundle; ``none`` takes one away.

    Tuned thresholds move with the probabilities, so that they decide as before. A threshold that was not tuned stays at
    0.5.

    Args:
        folder: bundle or run folder.
        settings: ``data`` and ``run`` name the images and the device. If no validation split is set, it is the part of
            the training split that training held out.
        method: one scale for all labels, a scale and an offset for each, or none.
        min_support: known positives, and negatives, that a label needs for a scale and an offset of its own.
        force: replace a calibration.

    Returns:
        The bundle's metadata as written.

    Raises:
        DataError: the bundle is calibrated, the images are those of training, or as reading them does.
    """
    fabric = launch(settings.run)
    bundle = read_bundle(folder, calibrated=False)
    before = bundle.metadata
    if before.calibration and not force:
        raise DataError(
            f"this bundle is calibrated: {before.calibration.method}; on {described(before.calibration.split)}",
            str(bundle_folder(folder)),
            "pass --force to replace it; to keep both, copy the bundle's folder first",
        )
    record = None
    if method != "none":
        manifest = validation_images(settings, folder, before)
        model = bundle.model.to(fabric.device).to(memory_format=memory_layout(bundle.model))
        logits = split_logits(model, manifest, bundle.preprocessing, settings=settings.data, fabric=fabric)
        target = split_targets(manifest, settings.data.difficult).counts
        record = CalibrationRecord(
            method=method,
            labels=dict(zip(before.labels, fit(logits, target, method, min_support), strict=True)),
            split=SplitRecord.of(manifest),
            before=calibration_measures(sigmoid(logits.astype(float)), target),
            after=calibration_measures(cross_fitted(logits, target, method, min_support=min_support), target),
        )
    metadata = before.model_copy(update={"calibration": record, "thresholds": _moved(before, record)})
    if fabric.is_global_zero:
        write_metadata(bundle_folder(folder), metadata)
    return metadata


def calibration_text(metadata: Metadata) -> str:
    """The calibration of a bundle, with what it changed, for a terminal."""
    record = metadata.calibration
    if record is None:
        return "not calibrated: the probabilities are those of the network"
    before, after = record.before, record.after
    lines = [f"{record.method}, fitted on {described(record.split)}; after: cross-fitted", ""]
    lines.append(f"{'':34}  before    after")
    for title, name in (
        ("calibration error, %", "ece"),
        ("the same, bins of equal mass, %", "ece_equal_mass"),
        ("mean over labels, %", "label_ece"),
        ("Brier score, %", "brier"),
    ):
        one, other = (100 * getattr(each, name) for each in (before, after))
        lines.append(f"{title:34}{one:8.2f} {other:8.2f}")
    width = max(5, *(len(name) for name in metadata.labels))
    lines += ["", f"{'label':{width}}      scale    offset   error before    after"]
    rows = zip(metadata.labels, before.per_label, after.per_label, strict=True)
    for name, one, other in rows:
        row = record.labels[name]
        line = f"{name:{width}}   {row.scale:8.4f}  {row.offset:8.4f}   {100 * one:12.2f} {100 * other:8.2f}"
        lines.append(line + (f"   temperature: {row.reason}" if row.reason else ""))
    return "\n".join(lines)


def _moved(before: Metadata, record: CalibrationRecord | None) -> dict[str, float]:
    """The thresholds, tuned ones at the same place of the network's logits as before."""
    moved = {}
    for name, threshold in before.thresholds.items():
        support = before.threshold_support.get(name)
        if support and support.tuned and 0 < threshold < 1:
            old = before.calibration.labels[name] if before.calibration else AS_TRAINED
            new = record.labels[name] if record else AS_TRAINED
            logit = (math.log(threshold) - math.log1p(-threshold) - old.offset) / old.scale
            threshold = float(sigmoid(new.scale * logit + new.offset))  # type: ignore[arg-type]
        moved[name] = threshold
    return moved
