"""In what form do pictures reach training: files, decoded pictures from a cache, or features that were computed before?

The features of a frozen backbone never change: they are computed once for each picture (and its mirror image, where
training flips) and kept in float16, and an epoch is then a matter of the head alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from msrn.config import Settings
from msrn.data.array_store import ArrayStore, key_of
from msrn.data.dataset import ImageDataset, evaluation_loader, on_device
from msrn.data.image_cache import PictureCache, content_keys
from msrn.data.manifest import Manifest
from msrn.data.transforms import Preprocessing, eval_transform, train_transform
from msrn.engine.setup import Task, split_targets
from msrn.engine.tracking import progress_bar
from msrn.errors import TrainingError
from msrn.models.backbone import FeatureTaps

__all__ = ["FeatureDataset", "training_pictures"]

logger = logging.getLogger(__name__)


def training_pictures(
    task: Task, settings: Settings, backbone: FeatureTaps, fabric: Fabric
) -> tuple[ImageDataset, ImageDataset | None]:
    """The training split as the settings ask for it, and the validation split where it is not read from files.

    Caches are filled by the first process; the others wait for it.

    Raises:
        DataError: pictures cannot be read, or a cache's folder cannot be used. TrainingError: features are too large.
    """
    data, preprocessing = settings.data, task.preprocessing
    targets = split_targets(task.train, data.difficult).train
    if data.feature_cache:
        flips = (False, True) if data.augment == "flip" else (False,)
        pairs = [(task.train, targets, flips)]
        if task.val:
            pairs.append((task.val, task.val.targets("negative"), (False,)))
        sets = []
        for manifest, wanted, orientations in pairs:
            if fabric.is_global_zero:
                _fill(manifest, data.feature_cache, backbone, preprocessing, orientations, settings, fabric)
            fabric.barrier()
            sets.append(FeatureDataset(manifest, wanted, data.feature_cache, backbone, preprocessing, orientations))
        return sets[0], sets[1] if task.val else None
    transform, cache = train_transform(preprocessing, data.augment), None
    if data.cache:
        for process in range(fabric.world_size):  # the first fills, the others find all there
            if fabric.global_rank == process:
                with progress_bar("decode", len(task.train), shown=fabric.is_global_zero) as ticker:
                    side, threads = preprocessing.least_side, len(os.sched_getaffinity(0))
                    cache = PictureCache(
                        task.train, data.cache, least_side=side, workers=threads, advance=ticker.advance
                    )
            fabric.barrier()
    return ImageDataset(task.train, transform, targets, least_side=preprocessing.least_side, cache=cache), None


class FeatureDataset(ImageDataset):
    """Pictures as the taps of a frozen backbone. An item's ``image`` is a list of ``(C_t, H_t, W_t)`` float16.

    With two orientations, the augmentation's seed picks one, as a flip would.

    Raises:
        DataError: as ``ArrayStore``.
    """

    def __init__(
        self,
        manifest: Manifest,
        targets: np.ndarray,
        folder: str,
        backbone: FeatureTaps,
        preprocessing: Preprocessing,
        flips: tuple[bool, ...],
    ) -> None:
        super().__init__(manifest, eval_transform(preprocessing), targets)
        self.store = ArrayStore(folder, np.float16)
        keys = content_keys(manifest, _recipe(backbone, preprocessing))
        self.keys = [[_tap_keys(key, flip, len(backbone.channels)) for flip in flips] for key in keys]

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        index, seed = item if isinstance(item, tuple) else (item, 0)
        orientations = self.keys[index]
        chosen = np.random.default_rng(seed).integers(len(orientations)) if len(orientations) > 1 else 0
        taps = [torch.from_numpy(np.array(self.store[key])) for key in orientations[chosen]]
        return {"image": taps, "target": self.targets[index], "index": index}


def _fill(
    manifest: Manifest,
    folder: str,
    backbone: FeatureTaps,
    preprocessing: Preprocessing,
    flips: tuple[bool, ...],
    settings: Settings,
    fabric: Fabric,
) -> None:
    """Compute what the folder lacks, a batch at a time; what was finished before an interruption is kept."""
    keys = content_keys(manifest, _recipe(backbone, preprocessing))
    store, count = ArrayStore(folder, np.float16), len(backbone.channels)
    missing = [
        index
        for index, key in enumerate(keys)
        if any(tap not in store for flip in flips for tap in _tap_keys(key, flip, count))
    ]
    if not missing:
        return
    logger.info("computing the features of %d of %d pictures of %s", len(missing), len(manifest), manifest.split)
    part = Manifest(tuple(manifest.records[index] for index in missing), manifest.labels, manifest.split, manifest.root)
    images = ImageDataset(
        part, eval_transform(preprocessing), part.targets("negative"), least_side=preprocessing.least_side
    )
    loader = evaluation_loader(images, batch_size=settings.data.eval_batch_size, workers=settings.data.workers)
    training = backbone.training
    backbone.eval()
    with store, torch.inference_mode(), progress_bar("features", len(missing)) as ticker:
        for batch in loader:
            image: Tensor = on_device(batch["image"], fabric.device)
            for flip in flips:
                with fabric.autocast():
                    maps = backbone(image.flip(3) if flip else image)
                for tap, features in enumerate(maps):
                    half = features.to(torch.float16).cpu()
                    if not bool(half.isfinite().all()):
                        raise TrainingError(
                            f"features of tap {tap} are too large for float16", folder, "train without feature_cache"
                        )
                    for row, index in zip(half.contiguous().numpy(), batch["index"], strict=True):
                        store.add(_tap_keys(keys[missing[int(index)]], flip, count)[tap], row)
            ticker.advance(len(batch["index"]))
    backbone.train(training)


def _tap_keys(picture: bytes, flip: bool, count: int) -> list[bytes]:
    return [key_of(picture, f"flip {flip}, tap {tap}") for tap in range(count)]


def _recipe(backbone: FeatureTaps, preprocessing: Preprocessing) -> str:
    """What features depend on beside the picture: the backbone's weights, its taps, and the preprocessing."""
    hasher = hashlib.blake2b(digest_size=16)
    for name, value in backbone.state_dict().items():
        hasher.update(name.encode())
        hasher.update(value.detach().cpu().contiguous().numpy().tobytes())
    taps = f"{backbone.name} {backbone.channels} {backbone.strides}"
    return f"features {hasher.hexdigest()} {taps} {preprocessing.model_dump_json()}"
