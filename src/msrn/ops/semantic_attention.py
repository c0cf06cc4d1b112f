"""How does one semantic vector look at a feature map? (MSRN, section 3.3: semantic attention)

For image b, semantic vector k and channel d the positions n are weighted by a softmax *per channel*:

    w[n] = softmax over n of ( x[b, n, d] * q[k, d] )          out[b, k, d] = sum over n of w[n] * x[b, n, d]

so each channel looks where it agrees with the label. Three functions:

- ``semantic_attention_reference`` is that definition in four lines. It builds a ``(B, N, K, D)`` product and is the
  oracle of everything else.
- ``semantic_attention_chunked`` gives the same numbers and exact gradients and never holds more than a set number of
  bytes. Two facts carry it. The largest exponent is known beforehand (``q * max x`` if q >= 0, else ``q * min x``), so
  one pass gives ``s0 = sum e`` and ``s1 = sum e x``. And the gradients are made from the same sums:
  ``d out / d x[n] = w[n] (1 + q (x[n] - out))``, ``d out / d q = sum w x^2 - out^2``; nothing of size N*K is saved.
- ``semantic_attention`` is what models call; it chooses: the fused kernel of ``cpu_kernel`` for float32, bfloat16 and
  float16 on a CPU, the chunked form for everything else and wherever numba is missing.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from msrn.errors import ShapeError

__all__ = ["DEFAULT_CHUNK_BYTES", "semantic_attention", "semantic_attention_chunked", "semantic_attention_reference"]

_log = logging.getLogger(__name__)
_FUSED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

DEFAULT_CHUNK_BYTES = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}
"""Working memory of the chunked form by device type. On a CPU a block that stays in cache is several times faster."""


def semantic_attention(features: Tensor, vectors: Tensor) -> Tensor:
    """Pool image features once per semantic vector, each channel looking where it agrees with that vector.

    Args:
        features: ``(B, N, D)`` image features at N positions.
        vectors: ``(K, D)`` label and group semantics.

    Returns:
        ``(B, K, D)``, of the features' dtype; sums run in float32 (float64 for float64 features).

    Raises:
        ShapeError: the widths D differ, or an input has another number of dimensions, or N is zero.

    Example:
        >>> semantic_attention(torch.zeros(2, 49, 8), torch.ones(5, 8)).shape
        torch.Size([2, 5, 8])
    """
    _check(features, vectors)
    # A graph that is being traced or exported must see torch's own operations.
    if features.device.type == "cpu" and features.dtype in _FUSED_DTYPES and not torch.compiler.is_compiling():
        fused = _cpu_kernel()
        if fused is not None:
            return fused(features, vectors)
    return semantic_attention_chunked(features, vectors)


@functools.cache
def _cpu_kernel() -> Callable[[Tensor, Tensor], Tensor] | None:
    """The fused kernel, loaded (a second) or compiled (a few, once a machine) at first use; None if it cannot be."""
    try:
        from msrn.ops.cpu_kernel import fused_attention
    except Exception as error:  # numba refuses in many ways: absent, too old for numpy, an LLVM that does not load
        _log.warning("semantic attention runs in its chunked form, several times slower: no CPU kernel (%s)", error)
        return None
    return fused_attention


def semantic_attention_reference(features: Tensor, vectors: Tensor) -> Tensor:
    """The definition, in four lines. Same contract as ``semantic_attention``; memory grows as ``B*N*K*D``."""
    _check(features, vectors)
    product = features[:, :, None, :] * vectors[None, None, :, :]  # (B, N, K, D)
    weights = product.softmax(dim=1)
    return (weights * features[:, :, None, :]).sum(dim=1)  # (B, K, D)


def semantic_attention_chunked(features: Tensor, vectors: Tensor, *, chunk_bytes: int | None = None) -> Tensor:
    """The same numbers in bounded memory: the ``(K, N)`` products of a few channels at a time.

    Args:
        features: ``(B, N, D)``.
        vectors: ``(K, D)``.
        chunk_bytes: most bytes of products held at once, in the forward and in the backward pass; None takes
            ``DEFAULT_CHUNK_BYTES`` of the device. At least one channel of one image is handled at a time.

    Returns:
        ``(B, K, D)``, of the features' dtype.

    Raises:
        ShapeError: as ``semantic_attention``.
    """
    _check(features, vectors)
    limit = DEFAULT_CHUNK_BYTES.get(features.device.type, 64 * 2**20) if chunk_bytes is None else chunk_bytes
    return _ChunkedAttention.apply(features, vectors, limit)


class _ChunkedAttention(torch.autograd.Function):
    """Positions last and contiguous: ``x (B, D, N)``, ``q (D, K)``; every sum over N is a batched matrix product."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, vectors: Tensor, chunk_bytes: int) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            x, q = _channels_first(features, vectors)
            peak = _largest_exponent(x, q)  # (B, D, K)
            pooled = torch.empty_like(peak)
            total = torch.empty_like(peak)
            for images, channels in _chunks(x, q, chunk_bytes):
                e = _exponentials(x[images, channels], q[channels], peak[images, channels])  # (b, d, K, N)
                moments = e @ _powers(x[images, channels], 2)  # (b, d, K, 2): s0, s1
                total[images, channels] = moments[..., 0]
                pooled[images, channels] = moments[..., 1] / moments[..., 0]
                del e  # or it would still be held while the next block is made
        ctx.save_for_backward(features, vectors, pooled, total)
        ctx.chunk_bytes = chunk_bytes
        return pooled.transpose(1, 2).to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, vectors, pooled, total = ctx.saved_tensors
        with torch.autocast(features.device.type, enabled=False):
            x, q = _channels_first(features, vectors)
            peak = _largest_exponent(x, q)
            grad = grad_output.transpose(1, 2).to(x.dtype)  # (B, D, K)
            share = grad / total  # gradient over the softmax's denominator
            # d out / d x[n] = w (1 + q (x - out)): one part that is constant over n, one that is linear in x[n].
            constant = share * (1 - q * pooled)
            linear = share * q
            needs_vectors = ctx.needs_input_grad[1]
            grad_x = torch.empty_like(x)
            grad_q = torch.zeros_like(q)
            for images, channels in _chunks(x, q, ctx.chunk_bytes):
                block = x[images, channels]
                e = _exponentials(block, q[channels], peak[images, channels])  # (b, d, K, N)
                parts = torch.stack((constant[images, channels], linear[images, channels]), dim=2)  # (b, d, 2, K)
                base, slope = (parts @ e).unbind(dim=2)  # (b, d, N) each
                grad_x[images, channels] = base + slope * block
                if needs_vectors:
                    square = (e @ block.square().unsqueeze(-1)).squeeze(-1)  # (b, d, K): sum e x^2
                    variance = square / total[images, channels] - pooled[images, channels].square()
                    grad_q[channels] += (grad[images, channels] * variance).sum(dim=0)
                del e
        grad_features = grad_x.transpose(1, 2).to(features.dtype) if ctx.needs_input_grad[0] else None
        grad_vectors = grad_q.transpose(0, 1).to(vectors.dtype) if needs_vectors else None
        return grad_features, grad_vectors, None


def _channels_first(features: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """``(B, N, D), (K, D)`` to ``(B, D, N), (D, K)``, contiguous, in the dtype that sums run in."""
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    return features.transpose(1, 2).to(dtype).contiguous(), vectors.transpose(0, 1).to(dtype).contiguous()


def _largest_exponent(x: Tensor, q: Tensor) -> Tensor:
    """The largest ``x[n] * q`` over positions, in closed form: ``(B, D, K)``."""
    low, high = x.amin(dim=-1, keepdim=True), x.amax(dim=-1, keepdim=True)  # (B, D, 1)
    return torch.where(q >= 0, high, low) * q


def _exponentials(x: Tensor, q: Tensor, peak: Tensor) -> Tensor:
    """``exp(x q - peak)`` of a block: ``(b, d, N), (d, K), (b, d, K)`` to ``(b, d, K, N)``, at most 1."""
    batch, width, positions = x.shape
    rows = batch * width
    vectors = q.expand(batch, *q.shape).reshape(rows, -1, 1)
    product = torch.baddbmm(peak.reshape(rows, -1, 1), vectors, x.reshape(rows, 1, positions), beta=-1)
    return product.exp_().view(batch, width, -1, positions)


def _powers(x: Tensor, count: int) -> Tensor:
    """``(b, d, N)`` to ``(b, d, N, count)``: 1, x, x^2 ..."""
    return torch.stack([x.pow(exponent) for exponent in range(count)], dim=-1)


def _chunks(x: Tensor, q: Tensor, chunk_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of images and channels whose products ``(b, d, K, N)`` fit into ``chunk_bytes``."""
    batch, width, positions = x.shape
    row_bytes = q.shape[1] * positions * x.element_size()
    rows = max(1, chunk_bytes // max(1, row_bytes))  # channels of one image at a time
    images = max(1, min(batch, rows // max(1, width)))
    channels = max(1, min(width, rows // images))
    for first_image in range(0, batch, images):
        for first_channel in range(0, width, channels):
            yield slice(first_image, first_image + images), slice(first_channel, first_channel + channels)


def _check(features: Tensor, vectors: Tensor) -> None:
    if features.ndim != 3 or vectors.ndim != 2 or features.shape[-1] != vectors.shape[-1] or features.shape[1] == 0:
        raise ShapeError(
            f"expected features (B, N, D) with N > 0 and vectors (K, D) of one width D, "
            f"got {tuple(features.shape)} and {tuple(vectors.shape)}",
            where="semantic_attention",
            hint="project the feature map to the width of the label semantics first",
        )
