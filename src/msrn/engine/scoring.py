"""Scores of every image of a split: exact under any number of processes, averaged over views."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader

from msrn.config import DataSettings
from msrn.data.dataset import ImageDataset, LabelledDataset, evaluation_loader, on_device
from msrn.data.manifest import Manifest
from msrn.data.transforms import VIEWS, Preprocessing, eval_transform
from msrn.errors import TrainingError
from msrn.models.classifier import probabilities
from msrn.progress import progress_bar

__all__ = ["StopRequestedError", "score_split", "split_logits"]


class StopRequestedError(Exception):
    """Scoring was asked to stop, and has not finished."""


def score_split(
    model: nn.Module,
    manifest: Manifest,
    preprocessing: Preprocessing,
    *,
    settings: DataSettings,
    fabric: Fabric,
    images: Sequence[LabelledDataset] | None = None,
    stop: threading.Event | None = None,
    title: str = "evaluate",
) -> np.ndarray:
    """Probabilities ``(n, L)`` of a split's images in float32; arguments and errors are those of ``split_logits``."""
    logits = split_logits(
        model, manifest, preprocessing, settings=settings, fabric=fabric, images=images, stop=stop, title=title
    )
    return probabilities(torch.from_numpy(logits)).float().numpy()


def split_logits(
    model: nn.Module,
    manifest: Manifest,
    preprocessing: Preprocessing,
    *,
    settings: DataSettings,
    fabric: Fabric,
    images: Sequence[LabelledDataset] | None = None,
    stop: threading.Event | None = None,
    title: str = "evaluate",
) -> np.ndarray:
    """Logits ``(n, L)`` of a split's images in float32, in the manifest's order, on every process.

    Where preprocessing has several views, they are the means over the views.

    Args:
        model: on the fabric's device, not wrapped for distribution; it is put into evaluation mode.
        manifest: the split.
        preprocessing: how an image becomes a tensor.
        settings: batch size and workers.
        fabric: device, precision and processes; each process scores an unpadded shard.
        images: the split in another form, such as cached features, once for each view; None reads the files.
        stop: looked at after each batch; None: scoring is finished in any case.
        title: of the progress bar.

    Raises:
        DataError: an image cannot be read. TrainingError: a score is not finite. StopRequestedError: ``stop`` was set.
    """
    if images is None:
        targets, views = manifest.targets("negative"), VIEWS[preprocessing.views]
        images = [
            ImageDataset(manifest, eval_transform(preprocessing, view), targets, min_side=preprocessing.min_side)
            for view in views
        ]
    model.eval()
    found = np.zeros((len(manifest), len(manifest.labels)), np.float32)
    for number, view in enumerate(images, start=1):
        shown = f"{title}, view {number} of {len(images)}" if len(images) > 1 else title
        found += _view_logits(model, view, settings=settings, fabric=fabric, stop=stop, title=shown) / len(images)
    broken = ~np.isfinite(found).all(axis=1)
    if broken.any():
        raise TrainingError(
            f"the model's scores are not finite for {int(broken.sum())} of {len(manifest)} images, "
            f"the first of them {manifest.path(int(broken.argmax()))}",
            hint="training has diverged: lower optim.lr or set optim.clip_norm",
        )
    return found


def _view_logits(
    model: nn.Module,
    images: LabelledDataset,
    *,
    settings: DataSettings,
    fabric: Fabric,
    stop: threading.Event | None,
    title: str,
) -> np.ndarray:
    """Logits ``(n, L)`` of one view, those of all processes joined."""
    loader = evaluation_loader(
        images,
        batch_size=settings.eval_batch_size,
        workers=settings.workers,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    shard = _score(model, loader, len(images), fabric=fabric, title=title, stop=stop)
    shards = [shard]
    if fabric.world_size > 1:
        shards = [shard] * fabric.world_size
        dist.all_gather_object(shards, shard)
    found = np.full((len(images), len(images.manifest.labels)), np.nan, np.float32)
    for indices, rows in shards:
        found[indices] = rows
    return found


@torch.inference_mode()
def _score(
    model: nn.Module,
    loader: DataLoader[Any],
    total: int,
    *,
    fabric: Fabric,
    title: str,
    stop: threading.Event | None,
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
            if stop and stop.is_set():
                raise StopRequestedError
    return np.asarray(indices, int), np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)
