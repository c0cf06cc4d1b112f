"""Try what a run does before it begins, and explain why a network cannot be trained on images of a size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from msrn.config import Settings
from msrn.engine.learner import Learner
from msrn.errors import ConfigError, MsrnError
from msrn.models.classifier import build_without_weights
from msrn.models.heads.base import LabelInputs
from msrn.models.state_files import NoRandomInit

__all__ = ["rehearse", "sizes_that_fit"]

STEP, NEAREST, SHOWN = 32, 12, 4
"""Sizes are tried in steps of this many pixels, as most networks halve their maps five times; how many, and shown."""


def rehearse(
    learner: Learner,
    batch: dict[str, Any],
    evaluate: Callable[[], object],
    *,
    settings: Settings,
    inputs: LabelInputs,
) -> None:
    """A training step without a result, and an evaluation. Nothing is changed or written.

    Args:
        learner: of the run.
        batch: a micro-batch of the run's shape.
        evaluate: scores a few images.
        settings: the whole tree.
        inputs: the label inputs of the model.

    Raises:
        ConfigError: batch, image size and network do not go together; it names what does. Others of msrn: as raised.
    """
    try:
        learner.rehearse(batch)
        evaluate()
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        raise _untrainable(error, settings, inputs) from error


def _untrainable(error: Exception, settings: Settings, inputs: LabelInputs) -> ConfigError:
    """The error of a rehearsal, with what to change."""
    size, name = settings.data.image_size, settings.model.backbone
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in reason:
        hint = "raise --optim.accumulate, which divides the batch, or lower --data.batch_size or --data.image_size"
        return ConfigError(f"there is too little memory for a step: {reason}", "data.batch_size", hint)
    if "more than 1 value per channel" in reason:
        hint = "set a larger --data.batch_size, or --model.freeze_norm true"
        return ConfigError(f"batch norm needs more than one value per channel: {reason}", "data.batch_size", hint)
    fit = sizes_that_fit(settings, inputs)
    hint = f"sizes that fit: {', '.join(map(str, fit))}" if fit else "choose another backbone"
    return ConfigError(f"{name} cannot be trained on images of {size} px: {reason}", "data.image_size", hint)


def sizes_that_fit(settings: Settings, inputs: LabelInputs) -> list[int]:
    """Up to four sides near the one of the settings, in pixels, that the network takes.

    For each side the network is built anew, as some are built for one size, with whatever weights memory holds.
    """
    size = settings.data.image_size
    near = sorted(range(STEP, 2 * size + 8 * STEP, STEP), key=lambda side: abs(side - size))
    fit: list[int] = []
    for side in near[:NEAREST]:
        try:
            with NoRandomInit(), torch.no_grad():
                model = build_without_weights(settings.model, inputs, image_size=side).eval()
                model(torch.zeros(1, 3, side, side))
        except (MsrnError, RuntimeError, ValueError, AssertionError, IndexError, TypeError):
            continue
        fit.append(side)
        if len(fit) == SHOWN:
            break
    return sorted(fit)
