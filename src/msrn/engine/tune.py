"""Choose the thresholds of a trained classifier again, on validation images and without training."""

from __future__ import annotations

import logging
from pathlib import Path

from msrn.bundle.metadata import Metadata, SplitRecord, bundle_folder
from msrn.bundle.read import read_bundle
from msrn.bundle.split_images import is_among, read_split_images
from msrn.bundle.write import write_metadata
from msrn.config import Settings
from msrn.data.manifest import Manifest
from msrn.engine.distributed import launch
from msrn.engine.evaluate import read_evaluated_split
from msrn.engine.scoring import score_split
from msrn.engine.setup import split_targets
from msrn.errors import DataError
from msrn.metrics.thresholds import tune_thresholds
from msrn.models.classifier import memory_layout

__all__ = ["described", "retune_thresholds", "thresholds_text", "validation_images"]

logger = logging.getLogger(__name__)


def retune_thresholds(folder: str | Path, settings: Settings, *, force: bool = False) -> Metadata:
    """Choose the thresholds of a bundle by ``settings.thresholds`` on ``settings.data.val``, and write them into it.

    Args:
        folder: bundle or run folder.
        settings: ``data`` and ``run`` name the images and the device, ``thresholds`` the rule. If no validation split
            is set, it is the part of the training split that training held out.
        force: replace thresholds that were tuned before.

    Returns:
        The bundle's metadata as written, with the rule and the split that the thresholds were chosen on.

    Raises:
        DataError: the bundle's thresholds were tuned before, the images are those of training, or as reading them does.
    """
    fabric = launch(settings.run)
    bundle = read_bundle(folder)
    before = bundle.metadata
    if before.thresholds_split and not force:
        raise DataError(
            f"this bundle has tuned thresholds: {before.thresholds_chosen}; on {described(before.thresholds_split)}",
            str(bundle_folder(folder)),
            "pass --force to replace them; to keep both, copy the bundle's folder first",
        )
    manifest = validation_images(settings, folder, before)
    model = bundle.model.to(fabric.device).to(memory_format=memory_layout(bundle.model))
    scores = score_split(model, manifest, bundle.preprocessing, settings=settings.data, fabric=fabric)
    tuned = tune_thresholds(scores, split_targets(manifest, settings.data.difficult).counts, settings.thresholds)
    metadata = before.with_thresholds(tuned, chosen=str(settings.thresholds), split=SplitRecord.of(manifest))
    if fabric.is_global_zero:
        write_metadata(bundle_folder(folder), metadata)
    return metadata


def thresholds_text(metadata: Metadata) -> str:
    """The thresholds of a bundle with what they rest on, one row per label, for a terminal."""
    split = metadata.thresholds_split
    lines = [f"{metadata.thresholds_chosen}" + (f"; on {described(split)}" if split else ""), ""]
    width = max(len(name) for name in metadata.labels)
    lines.append(f"{'label':{width}}   threshold        P        R       F1   positives")
    for name in metadata.labels:
        row = metadata.threshold_support.get(name)
        line = f"{name:{width}}   {metadata.thresholds[name]:9.4f}"
        if row:
            figures = (f"{100 * each:.2f}" if each is not None else "-" for each in (row.precision, row.recall, row.f1))
            line += "".join(f" {figure:>8}" for figure in figures) + f"   {row.positives:9,}"
            line += f"   {row.reason}" if row.reason else ""
        lines.append(line)
    return "\n".join(lines)


def validation_images(settings: Settings, folder: str | Path, metadata: Metadata) -> Manifest:
    """The validation split with the labels of a bundle.

    Raises:
        DataError: the images are those of training, or as ``read_evaluated_split``.
    """
    images = read_split_images(bundle_folder(folder), metadata)
    manifest = read_evaluated_split(settings, "val", metadata, images)
    if manifest.digest == metadata.splits["train"].digest:
        raise DataError(
            "the model was trained on these very images, so its scores of them are too good to choose by",
            manifest.source,
            "name validation images with --data.val",
        )
    if "train" in images and (seen := int(is_among(manifest, images["train"]).sum())):
        logger.warning("the model was trained on %d of these %d images, by their names", seen, len(manifest))
    return manifest


def described(split: SplitRecord) -> str:
    """A split in words, for messages."""
    return f"{split.images:,} images ({split.source})"
