"""How do pictures reach the model? Batches whose content depends on seed, epoch and position alone.

A picture's augmentation is drawn from (seed, epoch, picture), never from who loads it: any number of workers and
processes, and a run resumed at any step, see the same tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from msrn.data.records import Manifest
from msrn.data.transforms import Transform, open_image

__all__ = ["ImageDataset", "evaluation_loader", "training_loader"]


class ImageDataset(Dataset[dict[str, Any]]):
    """Pictures of a manifest with their targets.

    Args:
        manifest: n records.
        transform: picture to ``(3, S, S)``.
        targets: ``(n, L)`` in {1, 0, nan}.

    An item is asked for by its position, or by (position, seed of its augmentation); it is a dict of ``image``,
    ``target (L,)`` and ``index``.
    """

    def __init__(self, manifest: Manifest, transform: Transform, targets: np.ndarray) -> None:
        self.manifest, self.transform = manifest, transform
        self.targets = torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        index, seed = item if isinstance(item, tuple) else (item, None)
        picture = open_image(self.manifest.path(index))
        if seed is None:
            image: Tensor = self.transform(picture)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
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
        workers: loader processes.
        parts: forward passes per step.
        rank: of this process.
        world_size: number of processes.
        start_step: steps of this epoch that are done already; their pictures are not read.
    """
    order = np.random.default_rng([seed, 10, epoch]).permutation(len(images))
    seeds = np.random.default_rng([seed, 11, epoch]).integers(2**62, size=len(images))
    micro = batch_size // (parts * world_size)
    batches = []
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


class _Batches(Sampler[Any]):
    """A fixed list of batches."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _loader(images: ImageDataset, batches: Sequence[Any], workers: int) -> DataLoader[dict[str, Any]]:
    return DataLoader(
        images,
        batch_sampler=_Batches(batches),
        num_workers=min(workers, len(batches)),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread,
    )


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
