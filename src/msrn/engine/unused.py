"""Weights that the logits do not depend on, such as a norm that a network has after its last feature map."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from msrn.models.classifier import MultiLabelClassifier

__all__ = ["hold_unused", "weights_behind"]


def hold_unused(model: MultiLabelClassifier, size: int) -> None:
    """Take out of training what gets no gradient: several processes would wait for it, and it is not trained anyway.

    A network that does not take images of ``size`` pixels is left as it is; a rehearsal reports it.
    """
    training = model.training
    image = torch.zeros(1, 3, size, size, device=next(model.parameters()).device)
    with contextlib.suppress(RuntimeError, ValueError, AssertionError, IndexError, TypeError), torch.enable_grad():
        output = model.eval()(image)
        used = weights_behind(output.logits, *output.aux_losses.values())
        for weight in model.parameters():
            weight.requires_grad_(weight.requires_grad and weight in used)
    model.train(training)


def weights_behind(*results: Tensor) -> set[nn.Parameter]:
    """The weights that results depend on, read from autograd's record of how they were computed."""
    found: set[nn.Parameter] = set()
    seen: set[Any] = {None}
    waiting: list[Any] = [result.grad_fn for result in results]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # where a gradient is accumulated
            found.add(node.variable)
        waiting += [before for before, _ in node.next_functions]
    return found
