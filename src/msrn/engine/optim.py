"""The optimizer, the learning-rate schedule and the EMA of the weights."""

from __future__ import annotations

import copy
import logging
import math

import torch
from torch import Tensor, nn

from msrn.config import OptimSettings
from msrn.models.classifier import MultiLabelClassifier

__all__ = ["WeightEMA", "build_optimizer", "lr_factor", "warn_of_idle_steps"]

logger = logging.getLogger(__name__)

ONECYCLE_START, ONECYCLE_END = 1 / 25, 1 / 250_000
"""First and last factor of the one-cycle schedule (Smith and Topin 2019; torch's defaults)."""


def build_optimizer(model: MultiLabelClassifier, settings: OptimSettings) -> torch.optim.Optimizer:
    """SGD or AdamW over groups of weights: head, or backbone with its rate; with or without weight decay.

    AdamW leaves biases, norms and other one-dimensional parameters without decay; SGD decays all, as published.
    Each group remembers its full rate under ``base_lr``; ``lr_factor`` scales it.

    The deepest part of the backbone has ``backbone_lr_multiplier`` times the head's rate, and each shallower one
    ``layer_decay`` times that of the next (discriminative fine-tuning, Howard and Ruder, ACL 2018; a constant factor as
    in ELECTRA, Clark et al., ICLR 2020, there layer by layer).
    """
    backbone = {id(weight): settings.backbone_lr_multiplier for weight in model.backbone.parameters()}
    for depth, part in enumerate(reversed(model.backbone.parts())):
        backbone |= {id(weight): settings.backbone_lr_multiplier * settings.layer_decay**depth for weight in part}
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            multiplier = backbone.get(id(parameter), 1.0)
            decays = settings.name == "sgd" or parameter.ndim > 1
            groups.setdefault((id(parameter) in backbone, multiplier, decays), []).append(parameter)
    parameters = [
        {
            "params": members,
            "lr": settings.lr * multiplier,
            "base_lr": settings.lr * multiplier,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (_, multiplier, decays), members in groups.items()
    ]
    if settings.name == "sgd":
        return torch.optim.SGD(parameters, lr=settings.lr, momentum=settings.momentum)
    return torch.optim.AdamW(parameters, lr=settings.lr)


def lr_factor(step: int, *, steps_per_epoch: int, settings: OptimSettings) -> float:
    """Factor of the learning rate at an optimizer step, counted from 0. A pure function, so resuming needs no state.

    ``constant``; ``step``: times ``step_factor`` after each of ``step_epochs``; ``cosine``: half a cosine to zero;
    ``onecycle``: rises by half a cosine during the warm-up (30 % of the run if none is set), then falls by another.
    The other schedules rise linearly during ``warmup_epochs``.
    """
    total = settings.epochs * steps_per_epoch
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    if settings.schedule == "onecycle":
        warmup = warmup or max(1, round(0.3 * total))
        if step < warmup:
            return _cosine(ONECYCLE_START, 1.0, step / warmup)
        return _cosine(1.0, ONECYCLE_END, (step - warmup) / max(1, total - warmup - 1))
    if step < warmup:
        return (step + 1) / warmup
    if settings.schedule == "step":
        return float(settings.step_factor ** sum(step >= epoch * steps_per_epoch for epoch in settings.step_epochs))
    if settings.schedule == "cosine":
        return _cosine(1.0, 0.0, (step - warmup) / max(1, total - warmup))
    return 1.0


def warn_of_idle_steps(settings: OptimSettings) -> None:
    """Say which of ``step_epochs`` the run does not reach."""
    late = [epoch for epoch in settings.step_epochs if epoch >= settings.epochs]
    if settings.schedule == "step" and late:
        told = ", ".join(map(str, late))
        logger.warning(
            "optim.step_epochs %s: the run of %d epochs ends before the rate is lowered there", told, settings.epochs
        )


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


class WeightEMA:
    """Exponential moving average (EMA) of a model's weights, evaluated and kept in place of the last ones.

    Early on the decay is lower, ``(1 + n) / (10 + n)`` after n steps, so that the start is forgotten.
    """

    def __init__(self, model: MultiLabelClassifier, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Include the weights after optimizer step ``step`` (from 1); whole-number buffers are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = list(zip(_saved(self.model), _saved(model), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([kept for kept, _ in floats], [value for _, value in floats], 1 - decay)
        for kept, value in pairs:
            if not kept.is_floating_point():
                kept.copy_(value)


def _saved(model: nn.Module) -> list[Tensor]:
    """Every tensor of the state dict once, also those that have several names there."""
    return list({id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}.values())
