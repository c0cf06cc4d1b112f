"""How good is a model on a split? Scores of every picture, exact under any number of processes, then the metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader

from msrn.bundle.files import bundle_folder, read_bundle, write_json
from msrn.config import DataSettings, DifficultPolicy, Settings
from msrn.data.dataset import ImageDataset, evaluation_loader, on_device
from msrn.data.manifest import DIFFICULT, Manifest
from msrn.data.transforms import Preprocessing, eval_transform
from msrn.engine.distributed import make_fabric
from msrn.engine.setup import read_named_split, split_targets
from msrn.engine.tracking import progress_bar
from msrn.errors import TrainingError
from msrn.metrics.multilabel import evaluate

__all__ = ["evaluate_bundle", "judge", "score_split", "summary"]


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
    """Probabilities ``(n, L)`` of a split's pictures, in the manifest's order, on every process.

    Args:
        model: on the fabric's device, not wrapped for distribution; it is put into evaluation mode.
        manifest: the split.
        preprocessing: how a picture becomes a tensor.
        settings: batch size and workers.
        fabric: says the device, the precision and the other processes; each scores an unpadded shard.
        images: the split's pictures in another form, such as cached features; None reads the files.
        title: of the progress bar.

    Raises:
        DataError: a picture cannot be read. TrainingError: a score is not finite.
    """
    if images is None:
        transform, targets = eval_transform(preprocessing), manifest.targets("negative")
        images = ImageDataset(manifest, transform, targets, least_side=preprocessing.least_side)
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
            image = on_device(batch["image"], fabric.device)
            with fabric.autocast():
                logits = model(image).logits
            rows.append(logits.double().sigmoid().float().cpu().numpy())
            indices.extend(int(index) for index in batch["index"])
            ticker.advance(len(batch["index"]) * fabric.world_size)
    return np.asarray(indices, int), np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)


def evaluate_bundle(
    folder: str | Path, settings: Settings, *, split: str = "val", out: str | Path | None = None, tuned: bool = False
) -> tuple[dict[str, Any], Path]:
    """Judge a bundle on a split of the data set that the settings name.

    Args:
        folder: bundle or run folder.
        settings: its ``data`` and ``run`` sections say what to read and where to compute. If no validation split is
            set, the part of the training split that training held out is taken.
        split: ``train``, ``val`` or ``test``.
        out: JSON file of the metrics; None: ``metrics-<split>.json`` beside the bundle. The scores go beside it as
            ``scores-<split>.npz`` (scores, labels and images, by name).
        tuned: decide by the bundle's thresholds in place of 0.5.

    Returns:
        The metrics, and the file they were written to.
    """
    fabric = make_fabric(settings)
    bundle = read_bundle(folder)
    manifest = read_named_split(settings, split, bundle.labels)
    model = bundle.model.to(fabric.device).to(memory_format=torch.channels_last)
    scores = score_split(model, manifest, bundle.preprocessing, settings=settings.data, fabric=fabric)
    thresholds = np.asarray(bundle.thresholds) if tuned else 0.5
    metrics = judge(scores, manifest, difficult=settings.data.difficult, thresholds=thresholds)
    path = Path(out) if out else bundle_folder(folder).parent / f"metrics-{split}.json"
    if fabric.is_global_zero:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, metrics)
        images = np.array([record.image for record in manifest.records])
        np.savez_compressed(
            path.with_name(f"scores-{split}.npz"), scores=scores, labels=bundle.labels.names, images=images
        )
    return metrics, path


def summary(metrics: dict[str, Any]) -> str:
    """The main figures and the table of labels, in per cent, for a terminal."""
    data, left_out, table = metrics["data"], metrics["left_out"], metrics["per_label"]
    rows = [f"{metrics['images']:,} pictures, {data['source']}; difficult objects: {data['difficult']}"]
    if data.get("unknown"):
        share = _percent(data["unknown"] / (metrics["images"] * metrics["labels"]))
        rows.append(f"{data['unknown']:,} entries unknown ({share} %), left out of every figure")
        rows[-1] += f"; pictures without a known label: {left_out['images']:,}" if left_out["images"] else ""
    left = left_out["mAP"]
    rows.append(f"mAP {_percent(metrics['mAP'])}" + (f"   ({left} labels without a positive left out)" if left else ""))
    for key, name in (("all", "all"), ("top_k", "top 3 over threshold")):
        figures = "   ".join(
            f"{part} {_percent(metrics[key][part])}" for part in ("CP", "CR", "CF1", "OP", "OR", "OF1")
        )
        rows.append(f"{name + ':':22}{figures}")
    if one_sided := [row["label"] for row in table if row["positives"] and not row["negatives"]]:
        rows.append(f"without a known negative, so that AP is 100 whatever the scores: {', '.join(one_sided)}")
    width = max(len(row["label"]) for row in table)
    masked = any(row["unknown"] for row in table)
    rows += ["", f"{'label':{width}}     AP      P      R     F1   threshold   positives" + "   unknown" * masked]
    for row in table:
        parts = " ".join(f"{_percent(row[part]):>6}" for part in ("AP", "precision", "recall", "F1"))
        line = f"{row['label']:{width}} {parts}   {row['threshold']:9.2f}   {row['positives']:9,}"
        rows.append(line + (f"   {row['unknown']:7,}" if masked else ""))
    return "\n".join(rows)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def judge(
    scores: np.ndarray, manifest: Manifest, *, difficult: DifficultPolicy, thresholds: Any = 0.5
) -> dict[str, Any]:
    """All metrics of a split, with the choices of protocol named in the result.

    ``data.unknown`` counts the entries of which the manifest says that they are unknown, as ``per_label`` does for each
    label. Difficult objects that are left out of AP are counted apart, as ``difficult`` of each label.
    """
    targets = split_targets(manifest, difficult)
    result = evaluate(
        scores, targets.ap, target_counts=targets.counts, thresholds=thresholds, labels=manifest.labels.names
    )
    ignored = (np.isnan(targets.ap) & (manifest.codes() == DIFFICULT)).sum(axis=0)  # (L,)
    for row, count in zip(result["per_label"], ignored.tolist(), strict=True):
        row["unknown"] -= count
        row["difficult"] = count
    result["data"] = {
        "split": manifest.split,
        "source": manifest.source,
        "images": len(manifest),
        "unknown": manifest.unknown_entries,
        "digest": manifest.digest,
        "difficult": difficult,
    }
    return result
