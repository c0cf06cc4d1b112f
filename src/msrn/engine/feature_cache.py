"""Images for training: from files, from a cache of decoded images, or as cached features of a frozen backbone.

The features of a frozen backbone never change: they are computed once per image and view (its mirror image, where
training flips) and kept in float16. An epoch then runs the head alone.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import os
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from msrn.config import Settings
from msrn.data.array_store import ArrayStore, key_of
from msrn.data.dataset import ImageDataset, LabelledDataset, evaluation_loader, on_device
from msrn.data.image_cache import ImageCache, content_keys
from msrn.data.manifest import Manifest
from msrn.data.transforms import VIEWS, Preprocessing, Transform, View, Views, eval_transform, train_transform
from msrn.engine.setup import Setup, split_targets
from msrn.errors import TrainingError
from msrn.models.backbone import Backbone
from msrn.progress import progress_bar

__all__ = ["FeatureDataset", "cached_features", "feature_recipe", "training_images"]

logger = logging.getLogger(__name__)

AUGMENTED_VIEWS: dict[str, Views] = {"none": "one", "flip": "flip", "crops": "crops"}
"""The views that training draws from, by ``data.augment``."""


def training_images(
    setup: Setup, settings: Settings, backbone: Backbone, fabric: Fabric
) -> tuple[LabelledDataset, list[LabelledDataset] | None]:
    """The training split as the settings ask for it, and the validation split, once per view, unless files are read.

    Caches are filled by the first process; the others wait for it.

    Raises:
        DataError: images cannot be read, or a cache's folder cannot be used. TrainingError: features are too large.
    """
    data, preprocessing = settings.data, setup.preprocessing
    targets = split_targets(setup.train, data.difficult).train
    if data.feature_cache:
        drawn = VIEWS[AUGMENTED_VIEWS[data.augment]]
        train = cached_features(setup.train, targets, settings, backbone, preprocessing, fabric, views=drawn)
        if setup.val is None:
            return train, None
        absent, shown = setup.val.targets("negative"), VIEWS[preprocessing.views]
        val = cached_features(setup.val, absent, settings, backbone, preprocessing, fabric, views=shown)
        return train, val.each_view()
    transform, cache = train_transform(preprocessing, data.augment), None
    if data.cache:
        for process in range(fabric.world_size):  # the first fills, the others find all there
            if fabric.global_rank == process:
                with progress_bar("decode", len(setup.train), shown=fabric.is_global_zero) as ticker:
                    side, threads = preprocessing.min_side, len(os.sched_getaffinity(0))
                    cache = ImageCache(setup.train, data.cache, min_side=side, workers=threads, advance=ticker.advance)
            fabric.barrier()
    return ImageDataset(setup.train, transform, targets, min_side=preprocessing.min_side, cache=cache), None


def cached_features(
    manifest: Manifest,
    targets: np.ndarray,
    settings: Settings,
    backbone: Backbone,
    preprocessing: Preprocessing,
    fabric: Fabric,
    *,
    views: tuple[View, ...],
) -> FeatureDataset:
    """A split as features in the folder ``data.feature_cache``; what it lacks is computed by the first process.

    Raises:
        DataError: images cannot be read, or the folder cannot be used. TrainingError: features are too large.
    """
    recipe = feature_recipe(backbone, preprocessing, settings.run.precision)
    folder, maps = settings.data.feature_cache, len(backbone.channels)
    features = FeatureDataset(manifest, targets, folder, recipe, maps=maps, views=views)
    if fabric.is_global_zero:
        _fill(features, backbone, preprocessing, settings, fabric)
    fabric.barrier()
    features.open()
    return features


class FeatureDataset(LabelledDataset):
    """Images as the feature maps of a frozen backbone. An item's ``image`` is a list of ``(C_t, H_t, W_t)`` float16.

    Of several views, the augmentation's seed picks one; without a seed the first is shown.

    Raises:
        DataError: as ``ArrayStore``.
    """

    def __init__(
        self,
        manifest: Manifest,
        targets: np.ndarray,
        folder: str,
        recipe: str,
        *,
        maps: int,
        views: tuple[View, ...],
    ) -> None:
        super().__init__(manifest, targets)
        self.folder, self.views = folder, views
        self.store: ArrayStore | None = None
        self.keys = [
            [[key_of(key, f"{view}, map {place}") for place in range(maps)] for view in views]
            for key in content_keys(manifest, recipe)
        ]

    def open(self) -> None:
        """Open the store for reading, once all features are there."""
        self.store = ArrayStore(self.folder, np.float16)

    def each_view(self) -> list[LabelledDataset]:
        """One data set per view."""
        alone: list[LabelledDataset] = []
        for number, view in enumerate(self.views):
            one = copy.copy(self)
            one.views, one.keys = (view,), [[views[number]] for views in self.keys]
            alone.append(one)
        return alone

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        index, seed = item if isinstance(item, tuple) else (item, 0)
        assert self.store is not None
        views = self.keys[index]
        several = isinstance(item, tuple) and len(views) > 1
        chosen = np.random.default_rng(seed).integers(len(views)) if several else 0
        maps = [torch.from_numpy(np.array(self.store[key])) for key in views[chosen]]
        return {"image": maps, "target": self.targets[index], "index": index}


def _fill(
    features: FeatureDataset, backbone: Backbone, preprocessing: Preprocessing, settings: Settings, fabric: Fabric
) -> None:
    """Compute what the folder lacks, a batch at a time; what was finished before an interruption is kept."""
    parts: dict[View, list[int]] = {}  # a part of the image, and the views that show it, mirrored or not
    for number, view in enumerate(features.views):
        parts.setdefault(replace(view, mirrored=False), []).append(number)
    store = ArrayStore(features.folder, np.float16)
    training = backbone.training
    backbone.eval()
    for part, numbers in parts.items():
        missing = [
            index
            for index, views in enumerate(features.keys)
            if any(key not in store for number in numbers for key in views[number])
        ]
        if missing:
            transform = eval_transform(preprocessing, part)
            with store:
                _fill_part(features, numbers, missing, store, backbone, transform, preprocessing, settings, fabric)
    backbone.train(training)


@torch.inference_mode()
def _fill_part(
    features: FeatureDataset,
    numbers: list[int],
    missing: list[int],
    store: ArrayStore,
    backbone: Backbone,
    transform: Transform,
    preprocessing: Preprocessing,
    settings: Settings,
    fabric: Fabric,
) -> None:
    """Features of the images ``missing`` for the views ``numbers``, which show one part of an image."""
    manifest = features.manifest
    logger.info("computing the features of %d of %d images of %s", len(missing), len(manifest), manifest.split)
    lacking = replace(manifest, records=tuple(manifest.records[index] for index in missing))
    images = ImageDataset(lacking, transform, lacking.targets("negative"), min_side=preprocessing.min_side)
    loader = evaluation_loader(images, batch_size=settings.data.eval_batch_size, workers=settings.data.workers)
    with progress_bar("features", len(missing)) as ticker:
        for batch in loader:
            image: Tensor = on_device(batch["image"], fabric.device)
            for number in numbers:
                with fabric.autocast():
                    maps = backbone(image.flip(3) if features.views[number].mirrored else image)
                for place, values in enumerate(maps):
                    half = values.to(torch.float16).cpu()
                    if not bool(half.isfinite().all()):
                        message = f"features of map {place} are too large for float16"
                        raise TrainingError(message, features.folder, "train without feature_cache")
                    for row, index in zip(half.contiguous().numpy(), batch["index"], strict=True):
                        store.add(features.keys[missing[int(index)]][number][place], row)
            ticker.advance(len(batch["index"]))


def feature_recipe(backbone: Backbone, preprocessing: Preprocessing, precision: str) -> str:
    """What features depend on beside image and view: the backbone's weights and stages, preprocessing and precision."""
    hasher = hashlib.blake2b(digest_size=16)
    for name, value in backbone.state_dict().items():
        hasher.update(name.encode())
        hasher.update(value.detach().cpu().contiguous().numpy().tobytes())
    stages = f"{backbone.name} {backbone.channels} {backbone.strides}"
    return f"features {hasher.hexdigest()} {stages} {preprocessing.model_dump_json(exclude={'views'})} {precision}"
