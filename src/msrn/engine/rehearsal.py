"""Explain why a network cannot be trained on images of a size, and which sizes it takes."""

from __future__ import annotations

import torch

from msrn.config import Settings
from msrn.errors import ConfigError, MsrnError
from msrn.models.classifier import MultiLabelClassifier

__all__ = ["sizes_that_fit", "untrainable"]

STEP = 32
"""Most networks halve their maps five times."""


def untrainable(error: Exception, model: MultiLabelClassifier, settings: Settings) -> ConfigError:
    """The error of a rehearsal, with what to change."""
    size, name = settings.data.image_size, settings.model.backbone
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if "more than 1 value per channel" in reason:
        hint = "set a larger --data.batch_size, or --model.freeze_norm true"
        return ConfigError(f"batch norm needs more than one value per channel: {reason}", "data.batch_size", hint)
    fit = sizes_that_fit(model, size)
    hint = f"sizes that fit: {', '.join(map(str, fit))}" if fit else "choose another backbone"
    return ConfigError(f"{name} cannot be trained on images of {size} px: {reason}", "data.image_size", hint)


@torch.no_grad()
def sizes_that_fit(model: MultiLabelClassifier, size: int) -> list[int]:
    """Up to four sides near ``size``, in pixels, that the network takes."""
    near = sorted(range(STEP, 2 * size + 8 * STEP, STEP), key=lambda side: abs(side - size))
    training, device = model.training, next(model.parameters()).device
    model.eval()
    fit: list[int] = []
    for side in near[:12]:
        try:
            model(torch.zeros(1, 3, side, side, device=device))
        except (MsrnError, RuntimeError, ValueError, AssertionError, IndexError):
            continue
        fit.append(side)
        if len(fit) == 4:
            break
    model.train(training)
    return sorted(fit)
