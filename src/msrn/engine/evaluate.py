"""Evaluate a classifier on a split: scores of every image, exact under any number of processes, then the metrics."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from numpy.typing import ArrayLike
from torch import nn
from torch.utils.data import DataLoader

from msrn.bundle.metadata import WEIGHTS_FILE, bundle_folder
from msrn.bundle.read import Bundle, read_bundle
from msrn.config import DataSettings, DifficultPolicy, Settings
from msrn.data.dataset import ImageDataset, evaluation_loader, on_device
from msrn.data.manifest import DIFFICULT, Manifest
from msrn.data.transforms import Preprocessing, eval_transform
from msrn.engine.distributed import make_fabric
from msrn.engine.evaluation import EvaluatedData, EvaluatedModel, Evaluation
from msrn.engine.processes import one_fate
from msrn.engine.setup import read_named_split, split_targets
from msrn.errors import DataError, TrainingError
from msrn.files import atomic_paths, refuse_to_overwrite, write_json
from msrn.metrics.calibration import calibration_measures
from msrn.metrics.intervals import mean_ap_interval
from msrn.metrics.multilabel import multilabel_metrics
from msrn.models.classifier import memory_layout, probabilities
from msrn.progress import progress_bar

__all__ = ["evaluate", "evaluate_scores", "read_evaluated_split", "score_split", "split_logits"]

logger = logging.getLogger(__name__)


def score_split(
    model: nn.Module,
    manifest: Manifest,
    preprocessing: Preprocessing,
    *,
    settings: DataSettings,
    fabric: Fabric,
    images: ImageDataset | None = None,
    title: str = "evaluate",
) -> np.ndarray:
    """Probabilities ``(n, L)`` of a split's images in float32; arguments and errors are those of ``split_logits``."""
    logits = split_logits(model, manifest, preprocessing, settings=settings, fabric=fabric, images=images, title=title)
    return probabilities(torch.from_numpy(logits)).float().numpy()


def split_logits(
    model: nn.Module,
    manifest: Manifest,
    preprocessing: Preprocessing,
    *,
    settings: DataSettings,
    fabric: Fabric,
    images: ImageDataset | None = None,
    title: str = "evaluate",
) -> np.ndarray:
    """Logits ``(n, L)`` of a split's images in float32, in the manifest's order, on every process.

    Args:
        model: on the fabric's device, not wrapped for distribution; it is put into evaluation mode.
        manifest: the split.
        preprocessing: how an image becomes a tensor.
        settings: batch size and workers.
        fabric: device, precision and processes; each process scores an unpadded shard.
        images: the split's images in another form, such as cached features; None reads the files.
        title: of the progress bar.

    Raises:
        DataError: an image cannot be read. TrainingError: a score is not finite.
    """
    if images is None:
        transform, targets = eval_transform(preprocessing), manifest.targets("negative")
        images = ImageDataset(manifest, transform, targets, min_side=preprocessing.min_side)
    loader = evaluation_loader(
        images,
        batch_size=settings.eval_batch_size,
        workers=settings.workers,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    shard = _score(model.eval(), loader, len(manifest), fabric=fabric, title=title)
    shards = [shard]
    if fabric.world_size > 1:
        shards = [shard] * fabric.world_size
        dist.all_gather_object(shards, shard)
    found = np.full((len(manifest), len(manifest.labels)), np.nan, np.float32)
    for indices, rows in shards:
        found[indices] = rows
    broken = ~np.isfinite(found).all(axis=1)
    if broken.any():
        raise TrainingError(
            f"the model's scores are not finite for {int(broken.sum())} of {len(manifest)} images, "
            f"the first of them {manifest.path(int(broken.argmax()))}",
            hint="training has diverged: lower optim.lr or set optim.clip_norm",
        )
    return found


@torch.inference_mode()
def _score(
    model: nn.Module, loader: DataLoader[Any], total: int, *, fabric: Fabric, title: str
) -> tuple[np.ndarray, np.ndarray]:
    """The shard of this process: positions in the split, and their logits."""
    indices: list[int] = []
    rows: list[np.ndarray] = []
    with progress_bar(title, total, shown=fabric.is_global_zero) as ticker:
        for batch in loader:
            image = on_device(batch["image"], fabric.device)
            with fabric.autocast():
                logits = model(image).logits
            rows.append(logits.float().cpu().numpy())
            indices.extend(int(index) for index in batch["index"])
            ticker.advance(len(batch["index"]) * fabric.world_size)
    return np.asarray(indices, int), np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)


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
    fabric = make_fabric(settings)
    bundle = read_bundle(folder)
    metadata = bundle.metadata
    manifest = read_evaluated_split(settings, split, bundle)
    model = bundle.model.to(fabric.device).to(memory_format=memory_layout(bundle.model))
    scores = score_split(model, manifest, bundle.preprocessing, settings=settings.data, fabric=fabric)
    thresholds = np.asarray(bundle.thresholds) if tuned else 0.5
    tuned_on = metadata.thresholds_split.digest if metadata.thresholds_split else ""
    evaluated = EvaluatedModel(
        weights=metadata.files[WEIGHTS_FILE],
        image_size=bundle.preprocessing.size,
        precision=settings.run.precision,
        tuned=tuned,
        tuned_on_this_split=tuned and tuned_on == manifest.digest,
        msrn=packages.version("msrn"),
    )
    evaluation = evaluate_scores(scores, manifest, difficult=settings.data.difficult, thresholds=thresholds)
    targets = split_targets(manifest, settings.data.difficult)
    evaluation = replace(
        evaluation,
        model=evaluated,
        mean_ap_interval=mean_ap_interval(scores, targets.ap),
        calibration=calibration_measures(scores, targets.counts),
    )
    if evaluated.tuned_on_this_split:
        logger.warning("the thresholds were tuned on this very split: precision, recall and F1 are too high for others")
    if manifest.digest == metadata.splits["train"].digest:
        logger.warning("the model was trained on this very split: all figures are too high for others")
    if fabric.is_global_zero:
        images = np.array([record.image for record in manifest.records])
        with atomic_paths([path, scores_path], parents=True) as (figures, arrays):
            write_json(figures, evaluation.to_json())
            np.savez_compressed(arrays, scores=scores, labels=bundle.labels.names, images=images)
    return evaluation, path


def _default_path(folder: str | Path, split: str) -> Path:
    """In the run folder, or beside a bundle by itself, by its name: bundles side by side do not share a file."""
    bundle = bundle_folder(folder)
    inside = bundle.name == "bundle" and (bundle.parent / "settings.yaml").exists()
    name = f"evaluation-{split}.json" if inside else f"{bundle.resolve().name}-evaluation-{split}.json"
    return bundle.parent / name


def read_evaluated_split(settings: Settings, split: str, bundle: Bundle) -> Manifest:
    """``train``, ``val`` or ``test`` with the labels of a bundle.

    Raises:
        DataError: ``data.val`` is unset, so that the part that training held out is drawn again, and it is another one;
            or as reading the split does.
    """
    manifest = read_named_split(settings, split, bundle.labels)
    if split == "val" and not settings.data.val:
        _require_held_out(manifest, bundle)
    return manifest


def _require_held_out(manifest: Manifest, bundle: Bundle) -> None:
    recorded = bundle.metadata.splits.get("val")
    if recorded is None or recorded.digest != manifest.digest:
        expected = f"the {recorded.images} images that training held out" if recorded else "images held out in training"
        raise DataError(
            f"expected {expected}; the data set and settings now give {len(manifest)} others",
            manifest.source,
            "name validation images with --data.val, or pass training's data, --run.seed and --data.val_fraction",
        )


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
