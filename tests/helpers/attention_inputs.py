"""Inputs of semantic attention, and the definition in float64 to compare with."""

from __future__ import annotations

import torch
from torch import Tensor

from msrn.ops.semantic_attention import semantic_attention_reference

Results = tuple[Tensor, Tensor, Tensor]


def draw(b: int, n: int, k: int, d: int, *, scale: float = 1.0, layout: str = "channels first") -> Results:
    """Features as a convolution leaves them, vectors, and a gradient for the output."""
    generator = torch.Generator().manual_seed(b + 10 * n + 100 * k + d)
    features = torch.randn(b, d, n, generator=generator).transpose(1, 2) * scale**0.5
    if layout == "channels last":
        features = features.contiguous()
    return features, torch.randn(k, d, generator=generator) * scale**0.5, torch.randn(b, k, d, generator=generator)


def oracle(features: Tensor, vectors: Tensor, grad: Tensor) -> Results:
    """Value and gradients by the definition, in float64."""
    inputs = [features.detach().double().requires_grad_(), vectors.detach().double().requires_grad_()]
    pooled = semantic_attention_reference(*inputs)
    return pooled.detach(), *torch.autograd.grad(pooled, inputs, grad.double())


def error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, in units of the largest true value."""
    assert ours.shape == theirs.shape
    return ((ours.double() - theirs).abs().max() / theirs.abs().max().clamp_min(1e-30)).item()
