"""Try what a run does before it begins, and explain why a network cannot be trained on images of a size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from msrn.config import Settings
from msrn.engine.learner import Learner
from msrn.errors import ConfigError
from msrn.models.image_sizes import sizes_that_fit
from msrn.models.state_files import require_finite

__all__ = ["rehearse"]


def rehearse(learner: Learner, batch: dict[str, Any], evaluate: Callable[[], object], *, settings: Settings) -> None:
    """A training step without a result, and an evaluation. Nothing is changed or written.

    Args:
        learner: of the run.
        batch: a micro-batch of the run's shape.
        evaluate: scores a few images.
        settings: the whole tree.

    Raises:
        ConfigError: batch, image size and network do not go together, and it names what does; or weights or buffers
            are not finite from the start. Others of msrn: as raised.
    """
    try:
        require_finite(learner.net.state_dict())
    except ValueError as error:
        message = f"{settings.model.backbone} cannot be kept in a bundle: {error}"
        raise ConfigError(message, "model.backbone", "choose another backbone, or other --model.weights") from error
    try:
        learner.rehearse(batch)
        evaluate()
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        raise _untrainable(error, settings) from error


def _untrainable(error: Exception, settings: Settings) -> ConfigError:
    """The error of a rehearsal, with what to change."""
    size, name = settings.data.image_size, settings.model.backbone
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in reason:
        hint = "raise --optim.accumulate, which divides the batch, or lower --data.batch_size or --data.image_size"
        return ConfigError(f"there is too little memory for a step: {reason}", "data.batch_size", hint)
    if "more than 1 value per channel" in reason:
        hint = "set a larger --data.batch_size, or --model.freeze_norm true"
        return ConfigError(f"batch norm needs more than one value per channel: {reason}", "data.batch_size", hint)
    # Without content, an index that is out of bounds goes unseen: the size that failed is never among those that fit.
    fit = [side for side in sizes_that_fit(name, size) if side != size]
    if not fit:
        return ConfigError(f"{name} cannot be trained: {reason}", "model.backbone", "choose another backbone")
    hint = f"sizes that fit: {', '.join(map(str, fit))}"
    return ConfigError(f"{name} cannot be trained on images of {size} px: {reason}", "data.image_size", hint)
