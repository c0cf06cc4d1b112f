"""Evaluate a classifier on a split: which images, their scores, the metrics, and what the figures are worth."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import compress
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from msrn.bundle.metadata import WEIGHTS_FILE, Metadata, bundle_folder, in_run_folder
from msrn.bundle.read import read_bundle
from msrn.bundle.split_images import is_among, read_split_images
from msrn.bundle.write import package_versions
from msrn.config import DifficultPolicy, Settings
from msrn.data.manifest import DIFFICULT, Manifest
from msrn.engine.distributed import launch
from msrn.engine.evaluation import EvaluatedData, EvaluatedModel, Evaluation
from msrn.engine.processes import one_fate
from msrn.engine.scoring import score_split
from msrn.engine.setup import hold_out, read_labelled_train, read_split, split_targets
from msrn.errors import DataError
from msrn.files import atomic_paths, refuse_to_overwrite, write_json
from msrn.metrics.calibration import calibration_measures
from msrn.metrics.intervals import mean_ap_interval
from msrn.metrics.multilabel import multilabel_metrics
from msrn.models.classifier import memory_layout

__all__ = ["evaluate", "evaluate_scores", "model_record", "read_evaluated_split"]

logger = logging.getLogger(__name__)


@one_fate()
def evaluate(
    folder: str | Path,
    settings: Settings,
    *,
    split: str = "val",
    out: str | Path | None = None,
    tuned: bool = False,
    force: bool = False,
) -> tuple[Evaluation, Path]:
    """Evaluate a bundle on a split of the data set that the settings name.

    Args:
        folder: bundle or run folder.
        settings: ``data`` and ``run`` name the data and the device. If no validation split is set, ``val`` is the part
            of the training split that training held out.
        split: ``train``, ``val`` or ``test``.
        out: JSON file of the evaluation; None: ``evaluation-<split>.json`` in the run folder, or
            ``<bundle>-evaluation-<split>.json`` beside a bundle by itself. The scores (scores, labels and images, by
            name) are written beside it, to the same name with ``-scores.npz``.
        tuned: decide by the bundle's thresholds in place of 0.5.
        force: overwrite these files.

    Returns:
        The evaluation, and the file it was written to.

    Raises:
        DataError: the files exist; or as reading the split and its images does.
    """
    path = Path(out) if out else _default_path(folder, split)
    scores_path = path.with_name(f"{path.stem}-scores.npz")
    refuse_to_overwrite([path, scores_path], force=force)
    fabric = launch(settings.run)
    bundle = read_bundle(folder)
    metadata = bundle.metadata
    images = read_split_images(bundle_folder(folder), metadata)
    manifest = read_evaluated_split(settings, split, metadata, images)
    model = bundle.model.to(fabric.device).to(memory_format=memory_layout(bundle.model))
    scores = score_split(model, manifest, bundle.preprocessing, settings=settings.data, fabric=fabric)
    thresholds = np.asarray(bundle.thresholds) if tuned else 0.5
    evaluated = model_record(metadata, manifest, images, precision=settings.run.precision, tuned=tuned)
    evaluation = evaluate_scores(scores, manifest, difficult=settings.data.difficult, thresholds=thresholds)
    targets = split_targets(manifest, settings.data.difficult)
    evaluation = replace(
        evaluation,
        model=evaluated,
        mean_ap_interval=mean_ap_interval(scores, targets.ap),
        calibration=calibration_measures(scores, targets.counts),
    )
    _warn_of_seen_images(evaluated, manifest, metadata)
    if fabric.is_global_zero:
        names = np.array([record.image for record in manifest.records])
        with atomic_paths([path, scores_path], parents=True) as (figures, arrays):
            write_json(figures, evaluation.to_json())
            np.savez_compressed(
                arrays,
                scores=scores,
                labels=bundle.labels.names,
                images=names,
                weights=evaluated.weights,
                precision=evaluated.precision,
                digest=manifest.digest,
            )
    return evaluation, path


def model_record(
    metadata: Metadata,
    manifest: Manifest,
    images: Mapping[str, np.ndarray],
    *,
    precision: str,
    tuned: bool = False,
) -> EvaluatedModel:
    """What an evaluation records of the weights, and which of its images they have seen.

    Args:
        metadata: of the bundle.
        manifest: the split that is evaluated.
        images: ``image_hashes`` of the splits of training; without ``train``, what was seen is not known.
        precision: in which the scores are computed.
        tuned: the bundle's thresholds decide.
    """
    seen = {name: int(is_among(manifest, hashes).sum()) for name, hashes in images.items()}
    tuned_on = metadata.thresholds_split.digest if metadata.thresholds_split else ""
    known = "val" in metadata.splits and metadata.splits["val"].digest == tuned_on  # else: tuned again, on others
    return EvaluatedModel(
        weights=metadata.files[WEIGHTS_FILE],
        image_size=metadata.preprocessing.size,
        precision=precision,
        tuned=tuned,
        tuned_on_this_split=tuned and tuned_on == manifest.digest,
        msrn=package_versions()["msrn"],
        epoch=metadata.epoch,
        calibration=metadata.calibration.method if metadata.calibration else None,
        images_trained_on=seen.get("train"),
        images_tuned_on=seen.get("val") if tuned and known else None,
    )


def _warn_of_seen_images(model: EvaluatedModel, manifest: Manifest, metadata: Metadata) -> None:
    """Say where figures are no estimate for new images."""
    if model.tuned_on_this_split:
        logger.warning("the thresholds were tuned on this very split: precision, recall and F1 are too high for others")
    elif model.images_tuned_on:
        logger.warning(
            "the thresholds were tuned on %d of these %d images: precision, recall and F1 are too high for others",
            model.images_tuned_on, len(manifest),
        )  # fmt: skip
    if manifest.digest == metadata.splits["train"].digest:
        logger.warning("the model was trained on this very split: all figures are too high for others")
    elif model.images_trained_on:
        logger.warning(
            "the model was trained on %d of these %d images, by their names: all figures are too high for others",
            model.images_trained_on, len(manifest),
        )  # fmt: skip


def _default_path(folder: str | Path, split: str) -> Path:
    """In the run folder, or beside a bundle by itself, by its name: bundles side by side do not share a file."""
    bundle = bundle_folder(folder)
    name = f"evaluation-{split}.json" if in_run_folder(folder) else f"{bundle.resolve().name}-evaluation-{split}.json"
    return bundle.parent / name


def read_evaluated_split(
    settings: Settings, which: str, metadata: Metadata, images: Mapping[str, np.ndarray]
) -> Manifest:
    """``train``, ``val`` or ``test`` with the labels of a bundle.

    If training held images out of its own split and ``data.val`` is unset, ``train`` and ``val`` are the parts that it
    made.

    Args:
        settings: ``data`` names the images.
        which: the split.
        metadata: of the bundle.
        images: its ``read_split_images``.

    Raises:
        DataError: the part that training held out is not there as it was; or as reading the split does.
    """
    if which != "test" and not settings.data.val and not metadata.settings["data"]["val"]:
        return _part_of_training(settings, which, metadata, images)
    return read_split(settings, which, metadata.label_space(), owner="the bundle")


def _part_of_training(settings: Settings, which: str, metadata: Metadata, images: Mapping[str, np.ndarray]) -> Manifest:
    """The part of the training split that training held out, or the one that it kept, as the bundle records them.

    Rows that were added since, or another seed, change neither.
    """
    recorded = metadata.splits["val"]
    whole = read_labelled_train(settings, metadata.label_space())
    if "val" in images:
        held = is_among(whole, images["val"])
        parts = {
            name: replace(whole, records=tuple(compress(whole.records, chosen)), split=metadata.splits[name].name)
            for name, chosen in (("train", ~held), ("val", held))
        }
    else:  # a bundle that does not record its images: what it held out is drawn again, and compared below
        drawn = hold_out(whole, metadata.settings["data"]["val_fraction"], metadata.settings["run"]["seed"])
        parts = dict(zip(("train", "val"), drawn, strict=True))
    if parts["val"].digest != recorded.digest:
        found = len(parts["val"])
        change = "other labels, or in another order" if found == recorded.images else f"{found} of them"
        raise DataError(
            f"expected the {recorded.images} images that training held out, found {change}",
            whole.source,
            "pass the data of training with --data.root and --data.train, or name other images with --data.val",
        )
    part = parts[which]
    logger.info("%s: %d of %d training images, as the bundle records", part.split, len(part), len(whole))
    return replace(part, source=f"{whole.source}; {part.split.rpartition('(')[2].rstrip(')')} by training")


def evaluate_scores(
    scores: np.ndarray, manifest: Manifest, *, difficult: DifficultPolicy, thresholds: ArrayLike = 0.5
) -> Evaluation:
    """All metrics of a split's scores ``(n, L)``, with the choices of protocol named in the result.

    Args:
        scores: probabilities, in the manifest's order.
        manifest: the split.
        difficult: what a difficult object counts as.
        thresholds: one, or one per label, in [0, 1].
    """
    targets = split_targets(manifest, difficult)
    metrics = multilabel_metrics(
        scores, targets.ap, target_counts=targets.counts, thresholds=thresholds, labels=manifest.labels.names
    )
    ignored = (np.isnan(targets.ap) & (manifest.codes() == DIFFICULT)).sum(axis=0).tolist()  # (L,)
    rows = zip(metrics.per_label, ignored, strict=True)
    metrics = replace(metrics, per_label=tuple(replace(row, unknown=row.unknown - count) for row, count in rows))
    data = EvaluatedData(
        split=manifest.split,
        source=manifest.source,
        images=len(manifest),
        unknown=manifest.unknown_entries,
        digest=manifest.digest,
        difficult=difficult,
    )
    return Evaluation(metrics, data, tuple(ignored))
