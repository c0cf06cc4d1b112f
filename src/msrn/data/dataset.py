"""Batches of images and targets, whose content depends only on seed, epoch and position.

The augmentation of an image is drawn from (seed, epoch, image), never from the process that loads it: any number of
workers and processes, and a run that is resumed at any step, see the same tensors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from msrn.data.decode import open_image
from msrn.data.image_cache import ImageCache
from msrn.data.manifest import Manifest
from msrn.data.sampling import epoch_order
from msrn.data.transforms import Transform
from msrn.errors import ConfigError, DataError

__all__ = ["ImageDataset", "LabelledDataset", "evaluation_loader", "loader_processes", "on_device", "training_loader"]


class LabelledDataset(Dataset[dict[str, Any]]):
    """A manifest with its targets; subclasses say what an item's ``image`` is.

    Args:
        manifest: n records.
        targets: ``(n, L)`` in {1, 0, nan}.

    An item is requested by its position, or by (position, seed of its augmentation); it is a dict of ``image``,
    ``target (L,)`` and ``index``.
    """

    def __init__(self, manifest: Manifest, targets: np.ndarray) -> None:
        self.manifest = manifest
        self.targets = torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.manifest)


class ImageDataset(LabelledDataset):
    """Images of a manifest with their targets; ``image`` is ``(3, S, S)``.

    Args:
        manifest: n records.
        transform: decoded image to ``(3, S, S)``.
        targets: ``(n, L)`` in {1, 0, nan}.
        min_side: of images that are decoded smaller (``Preprocessing.min_side``).
        cache: decoded images; None reads the files.
    """

    def __init__(
        self,
        manifest: Manifest,
        transform: Transform,
        targets: np.ndarray,
        *,
        min_side: int = 0,
        cache: ImageCache | None = None,
    ) -> None:
        super().__init__(manifest, targets)
        self.transform, self.min_side, self.cache = transform, min_side, cache

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        index, seed = item if isinstance(item, tuple) else (item, None)
        path = self.manifest.path(index)
        decoded = self.cache.image(index) if self.cache else open_image(path, min_side=self.min_side)
        if seed is None:
            image: Tensor = self.transform(decoded)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs too
                image = self.transform(decoded)
        return {"image": image, "target": self.targets[index], "index": index}


def training_loader(
    images: LabelledDataset,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    workers: int = 0,
    parts: int = 1,
    rank: int = 0,
    world_size: int = 1,
    start_step: int = 0,
    factors: np.ndarray | None = None,
) -> DataLoader[dict[str, Any]]:
    """The batches of this process in one epoch, shuffled; an incomplete last global batch is dropped.

    Step s takes places ``s * batch_size`` to ``(s + 1) * batch_size`` of the epoch's order, whatever the number of
    processes; each step consists of ``parts`` micro-batches of ``batch_size / parts / world_size`` images.

    Args:
        images: the training split.
        batch_size: images per optimiser step over all processes.
        seed: of the run.
        epoch: counted from 0.
        workers: loader processes; -1: ``loader_processes``.
        parts: forward passes per step.
        rank: of this process.
        world_size: number of processes.
        start_step: steps of this epoch that are done already; their images are not read.
        factors: how often an epoch draws each image on average, ``(n,)``; None: once.
    """
    order = epoch_order(len(images), factors, seed=seed, epoch=epoch)
    micro = batch_size // (parts * world_size)
    batches: list[list[tuple[int, int]]] = []
    for step in range(start_step, len(order) // batch_size):
        for part in range(parts):
            start = step * batch_size + (part * world_size + rank) * micro
            batches.append(order[start : start + micro])
    return _loader(images, batches, workers)


def evaluation_loader(
    images: LabelledDataset, *, batch_size: int, workers: int = 0, rank: int = 0, world_size: int = 1
) -> DataLoader[dict[str, Any]]:
    """The batches of this process in a split, in order and unpadded: all processes together see each image once."""
    mine = list(range(rank, len(images), world_size))
    batches = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    return _loader(images, batches, workers)


def on_device(
    image: Tensor | list[Tensor], device: torch.device, layout: torch.memory_format = torch.channels_last
) -> Any:
    """A batch of images on a device, in a memory layout; or feature maps in their place, as they are stored."""
    if isinstance(image, list):
        return [on_device(features, device, torch.contiguous_format) for features in image]
    return image.to(device, torch.float32, memory_format=layout, non_blocking=True)


def loader_processes() -> int:
    """The number of loader processes that suits the machine.

    With a GPU: one per core, up to 8. On a CPU with fewer than 8 cores: none. There, processes that read would compete
    with the threads that compute, which wait for each other after every operation: an epoch takes half as long again
    (``benchmarks/loader.py``), while reading between steps adds a tenth.
    """
    cores = len(os.sched_getaffinity(0))
    return min(cores, 8) if torch.cuda.is_available() else 2 * (cores >= 8)


class _Batches(Sampler[Any]):
    """A fixed list of batches."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _loader(images: LabelledDataset, batches: Sequence[Any], workers: int) -> DataLoader[dict[str, Any]]:
    return _Loader(
        _Guarded(images),
        collate_fn=_collate,
        batch_sampler=_Batches(batches),
        num_workers=min(loader_processes() if workers < 0 else workers, len(batches)),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread,
        generator=torch.Generator(),  # otherwise every epoch would draw from the global one
    )


class _Loader(DataLoader[dict[str, Any]]):
    """Raises the error of a worker unchanged: torch would wrap it into the text of a trace."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            for batch in super().__iter__():
                if isinstance(batch, DataError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if "shared memory" not in str(error) and "shm" not in str(error):
                raise
            raise ConfigError(
                "the loader processes ran out of shared memory (/dev/shm)",
                where="data.workers",
                hint="pass --data.workers 0, or give a container more with docker run --shm-size 2g",
            ) from error


class _Guarded(Dataset[Any]):
    """Items of ``images``, or the DataError of one that cannot be read."""

    def __init__(self, images: LabelledDataset) -> None:
        self.images = images

    def __getitem__(self, item: Any) -> dict[str, Any] | DataError:
        try:
            return self.images[item]
        except DataError as error:
            return error


def _collate(items: Sequence[Any]) -> Any:
    """A batch; or one error that names all of its images that cannot be read."""
    problems = [problem for item in items if isinstance(item, DataError) for problem in item.problems]
    return DataError.of(problems, "images of one batch cannot be read") if problems else default_collate(list(items))


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
