"""Which image sizes a timm network takes. Nothing is computed: on the meta device tensors have no content."""

from __future__ import annotations

from itertools import islice
from typing import Any

import timm
import torch
from torch import nn

__all__ = ["sizes_that_fit"]

SHOWN = 4
TRIED = 24
"""Building a network without content takes about 0.2 s."""


def sizes_that_fit(name: str, near: int) -> tuple[int, ...]:
    """The size of the network's weights and up to three sides near ``near``, in pixels, that it takes, ascending.

    Tried are ``near``, and multiples of 32 and of the stride of the deepest map.

    Args:
        name: the network's timm name.
        near: a side; it is among those that are returned if it fits.

    Returns:
        Nothing for a network that cannot be tried without content.

    Example:
        >>> sizes_that_fit("test_vit", 237)
        (208, 224, 237, 240)
    """
    native = int(timm.get_pretrained_cfg(name).input_size[-1])
    if not _runs(name, native):
        return ()  # it reads its own numbers as it runs; here there are none
    body: Any = _build(name, native)
    strides = {int(body.feature_info.reduction()[-1]), 32}
    sides = {side for stride in strides for side in range(stride, 2 * near + 8 * stride, stride)} | {near}
    tried = sorted(sides - {native}, key=lambda side: abs(side - near))[:TRIED]
    fit = [native, *islice((side for side in tried if _runs(name, side)), SHOWN - 1)]
    return tuple(sorted(fit))


def _runs(name: str, side: int) -> bool:
    body = _build(name, side)
    if body is None:
        return False
    try:
        with torch.no_grad():
            body.eval()(torch.empty(1, 3, side, side, device="meta"))
    except Exception:  # networks refuse a size in many ways
        return False
    return True


def _build(name: str, side: int) -> nn.Module | None:
    size = {"img_size": side} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    try:
        with torch.device("meta"):
            body: nn.Module = timm.create_model(name, features_only=True, pretrained=False, **size)
    except Exception:
        return None
    return body
