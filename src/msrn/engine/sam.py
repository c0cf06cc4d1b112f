"""Sharpness-aware minimisation, SAM (Foret et al., ICLR 2021, arXiv 2010.01412, section 2, equation 2).

The gradient of a step is taken where the loss is highest nearby: at the weights plus ``rho`` times the normalised
gradient. Where we differ: the direction is that of the whole batch, over all micro-batches and processes, while the
authors let each device take its own. Statistics of batch norms are those of the first pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["ascended", "norms", "unchanged_buffers"]


@contextmanager
@torch.no_grad()
def ascended(model: nn.Module, rho: float) -> Iterator[None]:
    """Weights moved by ``rho`` along their gradient, which is then cleared; afterwards they are exactly as before.

    Inside, the gradient can be computed anew; it is left for the optimizer. Nothing waits for the device. A gradient
    of 0 moves nothing.

    Args:
        model: with a gradient; weights without one stay in place.
        rho: the Euclidean length of the move over all weights.
    """
    moved: list[Tensor] = [weight for weight in model.parameters() if weight.grad is not None]
    gradients = [weight.grad for weight in moved if weight.grad is not None]
    kept = [weight.clone() for weight in moved]
    length = rho / (nn.utils.get_total_norm(gradients) + 1e-12)
    torch._foreach_add_(moved, list(torch._foreach_mul(gradients, length)))
    for weight in moved:
        weight.grad = None
    try:
        with torch.enable_grad():
            yield
    finally:
        torch._foreach_copy_(moved, kept)


def norms(model: nn.Module) -> list[nn.Module]:
    """The modules that keep statistics of what passes them."""
    return [module for module in model.modules() if isinstance(module, _NormBase)]


@contextmanager
def unchanged_buffers(modules: Iterable[nn.Module]) -> Iterator[None]:
    """The modules' own buffers, such as the statistics of batch norms, are afterwards as before."""
    kept = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for module, name, buffer, values in kept:
            setattr(module, name, buffer.copy_(values))  # a network may have put a buffer of another shape in its place
