"""How good is a model on a split? Scores of every picture, exact under any number of processes, then the metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader

from msrn.config import DataSettings
from msrn.data.dataset import ImageDataset, evaluation_loader
from msrn.data.records import Manifest
from msrn.data.transforms import Preprocessing, eval_transform
from msrn.engine.task import split_targets
from msrn.engine.tracking import progress_bar
from msrn.errors import TrainingError
from msrn.metrics import evaluate

__all__ = ["judge", "score_split"]


def score_split(
    model: nn.Module,
    manifest: Manifest,
    preprocessing: Preprocessing,
    *,
    settings: DataSettings,
    fabric: Fabric,
    title: str = "evaluate",
) -> np.ndarray:
    """Probabilities ``(n, L)`` of a split's pictures, in the manifest's order, on every process.

    Args:
        model: on the fabric's device, not wrapped for distribution; it is put into evaluation mode.
        manifest: the split.
        preprocessing: how a picture becomes a tensor.
        settings: batch size and workers.
        fabric: says the device, the precision and the other processes; each scores an unpadded shard.
        title: of the progress bar.

    Raises:
        DataError: a picture cannot be read. TrainingError: a score is not finite.
    """
    images = ImageDataset(manifest, eval_transform(preprocessing), manifest.targets("negative"))
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
    scores = np.full((len(manifest), len(manifest.labels)), np.nan, np.float32)
    for indices, rows in shards:
        scores[indices] = rows
    broken = ~np.isfinite(scores).all(axis=1)
    if broken.any():
        raise TrainingError(
            f"the model's scores are not finite for {int(broken.sum())} of {len(manifest)} pictures, "
            f"the first of them {manifest.path(int(broken.argmax()))}",
            hint="training has diverged: lower optim.lr or set optim.clip_norm",
        )
    return scores


@torch.inference_mode()
def _score(
    model: nn.Module, loader: DataLoader[Any], total: int, *, fabric: Fabric, title: str
) -> tuple[np.ndarray, np.ndarray]:
    """This process's share: positions in the split, and their probabilities."""
    indices: list[int] = []
    rows: list[np.ndarray] = []
    with progress_bar(title, total, shown=fabric.is_global_zero) as ticker:
        for batch in loader:
            image = batch["image"].to(fabric.device, memory_format=torch.channels_last, non_blocking=True)
            with fabric.autocast():
                logits = model(image).logits
            rows.append(logits.double().sigmoid().float().cpu().numpy())
            indices.extend(int(index) for index in batch["index"])
            ticker.advance(len(image) * fabric.world_size)
    return np.asarray(indices, int), np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)


def judge(scores: np.ndarray, manifest: Manifest, *, difficult: str, thresholds: Any = 0.5) -> dict[str, Any]:
    """All metrics of a split, with the choices of protocol named in the result."""
    targets = split_targets(manifest, difficult)
    result = evaluate(
        scores, targets.ap, target_counts=targets.counts, thresholds=thresholds, labels=manifest.labels.names
    )
    result["data"] = {
        "split": manifest.split,
        "source": manifest.source,
        "images": len(manifest),
        "digest": manifest.digest,
        "difficult": difficult,
    }
    return result
