"""How do pictures reach the model? Batches whose content depends on seed, epoch and position alone.

A picture's augmentation is drawn from (seed, epoch, picture), never from who loads it: any number of workers and
processes, and a run resumed at any step, see the same tensors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from msrn.data.image_cache import PictureCache
from msrn.data.manifest import Manifest
from msrn.data.transforms import Transform, open_image
from msrn.errors import DataError

__all__ = ["ImageDataset", "evaluation_loader", "loader_processes", "on_device", "training_loader"]


class ImageDataset(Dataset[dict[str, Any]]):
    """Pictures of a manifest with their targets.

    Args:
        manifest: n records.
        transform: picture to ``(3, S, S)``.
        targets: ``(n, L)`` in {1, 0, nan}.
        least_side: of pictures that are decoded smaller (``Preprocessing.least_side``).
        cache: decoded pictures; None reads the files.

    An item is asked for by its position, or by (position, seed of its augmentation); it is a dict of ``image``,
    ``target (L,)`` and ``index``.
    """

    def __init__(
        self,
        manifest: Manifest,
        transform: Transform,
        targets: np.ndarray,
        *,
        least_side: int = 0,
        cache: PictureCache | None = None,
    ) -> None:
        self.manifest, self.transform = manifest, transform
        self.least_side, self.cache = least_side, cache
        self.targets = torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        index, seed = item if isinstance(item, tuple) else (item, None)
        picture = (
            self.cache.picture(index)
            if self.cache
            else open_image(self.manifest.path(index), least_side=self.least_side)
        )
        if seed is None:
            image: Tensor = self.transform(picture)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs too
                image = self.transform(picture)
        return {"image": image, "target": self.targets[index], "index": index}


def training_loader(
    images: ImageDataset,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    workers: int = 0,
    parts: int = 1,
    rank: int = 0,
    world_size: int = 1,
    start_step: int = 0,
) -> DataLoader[dict[str, Any]]:
    """This process's batches of one epoch, shuffled; an incomplete last global batch is left out.

    Step s takes places ``s * batch_size`` to ``(s + 1) * batch_size`` of the epoch's order, whatever the number of
    processes; each step gives ``parts`` batches of ``batch_size / parts / world_size`` pictures.

    Args:
        images: the training split.
        batch_size: pictures per optimiser step over all processes.
        seed: of the run.
        epoch: counted from 0.
        workers: loader processes; -1: ``loader_processes``.
        parts: forward passes per step.
        rank: of this process.
        world_size: number of processes.
        start_step: steps of this epoch that are done already; their pictures are not read.
    """
    order = np.random.default_rng([seed, 10, epoch]).permutation(len(images))
    seeds = np.random.default_rng([seed, 11, epoch]).integers(2**62, size=len(images))
    micro = batch_size // (parts * world_size)
    batches: list[list[tuple[int, int]]] = []
    for step in range(start_step, len(images) // batch_size):
        batch = order[step * batch_size : (step + 1) * batch_size].reshape(parts, world_size, micro)
        batches.extend([(int(index), int(seeds[index])) for index in part] for part in batch[:, rank])
    return _loader(images, batches, workers)


def evaluation_loader(
    images: ImageDataset, *, batch_size: int, workers: int = 0, rank: int = 0, world_size: int = 1
) -> DataLoader[dict[str, Any]]:
    """This process's share of a split, in order and unpadded: every picture is seen once over all processes."""
    mine = list(range(rank, len(images), world_size))
    batches = [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
    return _loader(images, batches, workers)


def on_device(image: Tensor | list[Tensor], device: torch.device) -> Any:
    """A batch's pictures (or the taps that stand for them) on a device, channels last in memory."""
    if isinstance(image, list):
        return [on_device(features, device) for features in image]
    return image.to(device, torch.float32, memory_format=torch.channels_last, non_blocking=True)


def loader_processes() -> int:
    """How many processes suit the machine.

    Beside a GPU, as many as there are cores, up to 8. On a CPU, none below 8 cores: processes that read would compete
    with the threads that compute, which wait for each other after every operation, and an epoch takes half as long
    again (``benchmarks/loader.py``), where reading between steps takes a tenth.
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


def _loader(images: ImageDataset, batches: Sequence[Any], workers: int) -> DataLoader[dict[str, Any]]:
    return _Loader(
        _Guarded(images),
        collate_fn=_collate,
        batch_sampler=_Batches(batches),
        num_workers=min(loader_processes() if workers < 0 else workers, len(batches)),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread,
        generator=torch.Generator(),  # else every epoch would draw from the global one
    )


class _Loader(DataLoader[dict[str, Any]]):
    """Raises the error of a worker as it was: torch would wrap it into the text of a trace."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, DataError):
                raise batch
            yield batch


class _Guarded(Dataset[Any]):
    """Items of ``images``, or the DataError of one that cannot be read."""

    def __init__(self, images: ImageDataset) -> None:
        self.images = images

    def __getitem__(self, item: Any) -> dict[str, Any] | DataError:
        try:
            return self.images[item]
        except DataError as error:
            return error


def _collate(items: Sequence[Any]) -> Any:
    """A batch; or one error that names every picture of it that cannot be read."""
    problems = [problem for item in items if isinstance(item, DataError) for problem in item.problems]
    return DataError.of(problems, "pictures of one batch cannot be read") if problems else default_collate(list(items))


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
