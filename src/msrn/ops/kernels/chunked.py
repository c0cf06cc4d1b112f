"""Semantic attention in bounded memory with torch's own operations, on any device and in any precision.

It computes the ``(K, N)`` products of a few channels at a time, positions last: ``x (B, D, N)``, ``q (D, K)``. Every
sum over N is a batched matrix product; products take at most ``CHUNK_BYTES``, forward and backward.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["CHUNK_BYTES", "attention_backward", "attention_forward"]

CHUNK_BYTES = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}
"""Maximum bytes of products held at once, by device type; 64 MiB elsewhere. On a CPU a block that stays in cache is
several times faster."""


def attention_forward(features: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``pooled (B, K, D)``, ``shift`` and ``total (B, D, K)`` (see ``semantic_attention.Kernel``).

    Args:
        features: ``(B, N, D)``, any floating dtype and strides.
        vectors: ``(K, D)``.
    """
    with torch.autocast(features.device.type, enabled=False):
        x, q = _channels_first(features, vectors)
        top = _top(x, q)  # (B, D, K)
        shift, total = torch.empty_like(top), torch.empty_like(top)
        for images, channels in _chunks(x, q):
            block = x[images, channels]
            e = _exponentials(block, q[channels], top[images, channels])  # (b, d, K, N)
            moments = e @ torch.stack((torch.ones_like(block), block), dim=-1)  # (b, d, K, 2): sum e, sum e x
            total[images, channels] = moments[..., 0]
            shift[images, channels] = moments[..., 1] / moments[..., 0] - top[images, channels]
            del e  # or it would still be held while the next block is made
        return (top + shift).transpose(1, 2).to(features.dtype), shift, total


def attention_backward(
    grad: Tensor, features: Tensor, vectors: Tensor, shift: Tensor, total: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of features and vectors, laid out as ``empty_like`` of them, from ``grad (B, K, D)``."""
    with torch.autocast(features.device.type, enabled=False):
        x, q = _channels_first(features, vectors)
        top = _top(x, q)
        pooled = top + shift  # (B, D, K)
        upper = grad.transpose(1, 2).to(x.dtype)
        share = upper / total  # gradient over the softmax's denominator
        # d out / d x[n] = w (1 + q (x - out)): one part that is constant over n, one that is linear in x[n].
        constant, linear = share * (1 - q * pooled), share * q
        grad_x, grad_q = torch.empty_like(x), torch.zeros_like(q)
        for images, channels in _chunks(x, q):
            block = x[images, channels]
            e = _exponentials(block, q[channels], top[images, channels])  # (b, d, K, N)
            parts = torch.stack((constant[images, channels], linear[images, channels]), dim=2)  # (b, d, 2, K)
            base, slope = (parts @ e).unbind(dim=2)  # (b, d, N) each
            grad_x[images, channels] = base + slope * block
            square = (e @ block.square().unsqueeze(-1)).squeeze(-1)  # (b, d, K): sum e x^2
            variance = square / total[images, channels] - pooled[images, channels].square()
            grad_q[channels] += (upper[images, channels] * variance).sum(dim=0)
            del e
    return torch.empty_like(features).copy_(grad_x.transpose(1, 2)), torch.empty_like(vectors).copy_(grad_q.T)


def _channels_first(features: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """``(B, N, D), (K, D)`` to ``(B, D, N), (D, K)``, contiguous, in the dtype that sums run in."""
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    return features.transpose(1, 2).to(dtype).contiguous(), vectors.transpose(0, 1).to(dtype).contiguous()


def _top(x: Tensor, q: Tensor) -> Tensor:
    """The x whose product with q is largest, in closed form: ``(B, D, K)``."""
    low, high = x.amin(dim=-1, keepdim=True), x.amax(dim=-1, keepdim=True)  # (B, D, 1)
    return torch.where(q >= 0, high, low)


def _exponentials(x: Tensor, q: Tensor, top: Tensor) -> Tensor:
    """``exp(q (x - top))`` of a block: ``(b, d, N), (d, K), (b, d, K)`` to ``(b, d, K, N)``, at most 1."""
    batch, width, positions = x.shape
    rows = batch * width
    vectors = q.expand(batch, *q.shape).reshape(rows, -1, 1)
    peak = (q * top).reshape(rows, -1, 1)
    product = torch.baddbmm(peak, vectors, x.reshape(rows, 1, positions), beta=-1)
    return product.exp_().view(batch, width, -1, positions)


def _chunks(x: Tensor, q: Tensor) -> Iterator[tuple[slice, slice]]:
    """Blocks of images and channels whose products ``(b, d, K, N)`` fit into ``CHUNK_BYTES``; one channel at least."""
    batch, width, positions = x.shape
    row_bytes = q.shape[1] * positions * x.element_size()
    limit = CHUNK_BYTES.get(x.device.type, 64 * 2**20)
    rows = max(1, limit // max(1, row_bytes))  # channels of one image at a time
    images = max(1, min(batch, rows // max(1, width)))
    channels = max(1, min(width, rows // images))
    for first_image in range(0, batch, images):
        for first_channel in range(0, width, channels):
            yield slice(first_image, first_image + images), slice(first_channel, first_channel + channels)
