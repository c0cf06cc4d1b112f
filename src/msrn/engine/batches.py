"""The batches of a run, epoch by epoch: which images they hold depends on settings and epoch alone."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from torch.utils.data import DataLoader

from msrn.config import Settings
from msrn.data.dataset import LabelledDataset, training_loader
from msrn.data.sampling import images_per_epoch, repeat_factors
from msrn.errors import ConfigError

__all__ = ["Batches"]

logger = logging.getLogger(__name__)


class Batches:
    """The training batches of one process.

    Args:
        images: the training split.
        settings: the whole tree.
        fabric: the other processes.

    Raises:
        ConfigError: an epoch draws fewer images than a batch holds.
    """

    def __init__(self, images: LabelledDataset, settings: Settings, fabric: Fabric) -> None:
        self.images, self.settings, self.fabric = images, settings, fabric
        self.factors: np.ndarray | None = None
        if settings.data.sampling == "repeat_factor":
            self.factors = repeat_factors(images.targets.numpy(), settings.data.repeat_threshold)
            _tell(self.factors, settings)
        drawn = images_per_epoch(len(images), self.factors)
        self.steps_per_epoch = drawn // settings.data.batch_size
        """Optimizer steps of every epoch; an incomplete last batch is dropped."""
        if not self.steps_per_epoch:
            raise ConfigError(
                f"the training split has {drawn} images, fewer than a batch of {settings.data.batch_size}",
                where="data.batch_size",
                hint="set a smaller --data.batch_size",
            )

    def loader(self, epoch: int, done: int) -> DataLoader[Any]:
        """The micro-batches of an epoch, counted from 0, without those of the steps that are ``done``."""
        settings = self.settings
        return training_loader(
            self.images,
            batch_size=settings.data.batch_size,
            parts=settings.optim.accumulate,
            workers=settings.data.workers,
            seed=settings.run.seed,
            epoch=epoch,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            start_step=done,
            factors=self.factors,
        )


def _tell(factors: np.ndarray, settings: Settings) -> None:
    """Say what sampling makes of an epoch."""
    repeated, drawn = int((factors > 1).sum()), images_per_epoch(len(factors), factors)
    if not repeated:
        logger.warning(
            "every label is on more than %g of the images: data.sampling repeat_factor draws each image once; raise "
            "data.repeat_threshold",
            settings.data.repeat_threshold,
        )
        return
    logger.info(
        "an epoch draws %s images of %s, in %s steps: %s are repeated, up to %.1f times",
        f"{drawn:,}", f"{len(factors):,}", f"{drawn // settings.data.batch_size:,}", f"{repeated:,}", factors.max(),
    )  # fmt: skip
