"""Semantic attention: pool a feature map once per semantic vector (MSRN, section 3.3).

For image b, semantic vector k and channel d the positions n are weighted by a softmax *per channel*:

    w[n] = softmax over n of ( x[b, n, d] * q[k, d] )          out[b, k, d] = sum over n of w[n] * x[b, n, d]

so each channel looks where it agrees with the label. ``semantic_attention_reference`` is that definition in four
lines; it builds a ``(B, N, K, D)`` product and is the oracle of all other forms. Models call ``semantic_attention``,
one node of a graph (``msrn::semantic_attention``) whatever computes it:

- ``numba``, in ``kernels.cpu``: fused, for float32, bfloat16 and float16 on a CPU;
- ``triton``, in ``kernels.triton``: fused, for the same types on a GPU;
- ``chunked``, in ``kernels.chunked``: torch's own operations in bounded memory, for float64 and wherever the others
  cannot be loaded.

Each of these modules has the same two functions, and all rely on two identities. The largest exponent is known
beforehand (``q * max x`` if q >= 0, else ``q * min x``), so one pass gives ``s0 = sum e`` and ``s1 = sum e x``; and
``kernels.rows`` finds these sums without most of the exponentials. The gradients need the same sums,
``d out / d x[n] = w[n] (1 + q (x[n] - out))`` and ``d out / d q = sum w x^2 - out^2``, so nothing of size N * K is
saved. Autocast casts neither features nor vectors; sums run in float32 at least.
"""

from __future__ import annotations

import functools
import importlib
import logging
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from msrn.errors import ShapeError
from msrn.ops.kernels import chunked

__all__ = ["Form", "semantic_attention", "semantic_attention_reference", "set_default_form"]

_log = logging.getLogger(__name__)

Form = Literal["auto", "reference", "chunked", "numba", "triton"]
MODULES = {"numba": "msrn.ops.kernels.cpu", "triton": "msrn.ops.kernels.triton"}
FUSED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Kernel(Protocol):
    """The two functions of a module that computes the operator. Shapes as in ``semantic_attention``."""

    def attention_forward(self, features: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``pooled (B, K, D)`` of the features' dtype and, for the backward pass, ``shift`` and ``total (B, D, K)``.

        With ``top`` the largest x (q >= 0) or the smallest: ``shift = out - top`` and ``total = sum exp(q (x - top))``,
        both in the dtype that sums run in.
        """
        ...

    def attention_backward(
        self, grad: Tensor, features: Tensor, vectors: Tensor, shift: Tensor, total: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients of features and vectors, in their dtypes, from ``grad (B, K, D)``."""
        ...


_default_form: Form = "auto"


def set_default_form(form: Form) -> Form:
    """Set the form in which this process computes the operator wherever a call names none; returns the former one.

    ``chunked`` suits a process that ends after a few images: it saves loading a fused kernel, half a second.
    """
    global _default_form
    before, _default_form = _default_form, form
    return before


def semantic_attention(features: Tensor, vectors: Tensor, *, form: Form | None = None) -> Tensor:
    """Pool image features once per semantic vector; each channel attends to the positions that agree with that vector.

    Args:
        features: ``(B, N, D)`` image features at N positions, any strides.
        vectors: ``(K, D)`` label and group semantics.
        form: the implementation. ``auto`` takes the fastest that runs here; the others are for comparison. None: the
            default of the process (``set_default_form``), ``auto`` unless it was set.

    Returns:
        ``(B, K, D)``, of the features' dtype; sums run in float32 (float64 for float64 features). A NaN affects its
        image and channel only. On a CPU it is the transpose of a contiguous ``(B, D, K)``.

    Raises:
        ShapeError: the widths D differ, or an input has another number of dimensions, or N is zero.
        TypeError: a fused form was named that does not serve this dtype or device.
        ImportError: a fused form was named that cannot be loaded.

    Example:
        >>> semantic_attention(torch.zeros(2, 49, 8), torch.ones(5, 8)).shape
        torch.Size([2, 5, 8])
    """
    form = form or _default_form
    if form == "reference":
        return semantic_attention_reference(features, vectors)
    _check(features, vectors)
    pooled: Tensor = torch.ops.msrn.semantic_attention(features, vectors, form)[0]
    return pooled


def semantic_attention_reference(features: Tensor, vectors: Tensor) -> Tensor:
    """The definition, in four lines. Same contract as ``semantic_attention``; memory grows as ``B*N*K*D``."""
    _check(features, vectors)
    product = features[:, :, None, :] * vectors[None, None, :, :]  # (B, N, K, D)
    weights = product.softmax(dim=1)
    return (weights * features[:, :, None, :]).sum(dim=1)  # (B, K, D)


# ---- one node for torch.compile, export and autograd, whatever computes it


@torch.library.custom_op("msrn::semantic_attention", mutates_args=())
def _forward(features: Tensor, vectors: Tensor, form: str) -> tuple[Tensor, Tensor, Tensor]:
    kernel = _kernel(form, features, vectors)
    pooled, shift, total = kernel.attention_forward(features, vectors)
    on_cpu = features.device.type == "cpu"
    return pooled.mT.contiguous().mT if on_cpu else pooled.contiguous(), shift, total


@torch.library.custom_op("msrn::semantic_attention_backward", mutates_args=())
def _backward(
    grad: Tensor, features: Tensor, vectors: Tensor, shift: Tensor, total: Tensor, form: str
) -> tuple[Tensor, Tensor]:
    kernel = _kernel(form, features, vectors)
    return kernel.attention_backward(grad, features, vectors, shift, total)


@_forward.register_fake
def _(features: Tensor, vectors: Tensor, form: str) -> tuple[Tensor, Tensor, Tensor]:
    (images, _positions, width), count = features.shape, vectors.shape[0]
    sums = features.new_empty((images, width, count), dtype=_sum_dtype(features))
    on_cpu = features.device.type == "cpu"
    pooled = features.new_empty((images, width, count)).mT if on_cpu else features.new_empty((images, count, width))
    return pooled, sums, torch.empty_like(sums)


@_backward.register_fake
def _(
    grad: Tensor, features: Tensor, vectors: Tensor, shift: Tensor, total: Tensor, form: str
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(features), torch.empty_like(vectors)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: tuple[Tensor, Tensor, Tensor]) -> None:
    features, vectors, ctx.form = inputs
    _pooled, shift, total = output
    ctx.mark_non_differentiable(shift, total)
    ctx.save_for_backward(features, vectors, shift, total)


def _gradients(ctx: Any, grad: Tensor, _shift: Tensor, _total: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    grad_features, grad_vectors = torch.ops.msrn.semantic_attention_backward(grad, *ctx.saved_tensors, ctx.form)
    wanted = ctx.needs_input_grad
    return grad_features if wanted[0] else None, grad_vectors if wanted[1] else None, None


_forward.register_autograd(_gradients, setup_context=_save)


@register_flop_formula(torch.ops.msrn.semantic_attention)
def _forward_flops(features: Any, vectors: Any, *_: Any, **__: Any) -> int:
    """Per image, vector, channel and position: a difference, a product, an exponential (as one), a sum, a fused one."""
    (images, positions, width), count = features, vectors[0]
    return 6 * images * positions * width * count


@register_flop_formula(torch.ops.msrn.semantic_attention_backward)
def _backward_flops(_grad: Any, features: Any, vectors: Any, *_: Any, **__: Any) -> int:
    """The exponential again, and two fused sums."""
    (images, positions, width), count = features, vectors[0]
    return 11 * images * positions * width * count


def _kernel(form: str, features: Tensor, vectors: Tensor) -> Kernel:
    """The module that computes: the one named, or for ``auto`` the fastest that runs."""
    if form == "chunked":
        return chunked
    device = features.device.type
    fused = {"cpu": "numba", "cuda": "triton"}.get(device) if features.dtype in FUSED_DTYPES else None
    if form == "auto":
        return (fused and _loaded(fused)) or chunked
    if form != fused or vectors.device != features.device:
        raise TypeError(
            f"form {form!r} serves float32, bfloat16 and float16 on a {'CPU' if form == 'numba' else 'GPU'}, "
            f"got features of {features.dtype} on {features.device} and vectors on {vectors.device}"
        )
    return importlib.import_module(MODULES[form])


@functools.cache
def _loaded(form: str) -> Kernel | None:
    """A fused kernel; None if it cannot be loaded. Loading takes a second, compiling (once per machine) a few."""
    try:
        kernel: Kernel = importlib.import_module(MODULES[form])
        if form == "triton":  # compiles at its first launch; that fails without a compiler, or on an unknown GPU
            kernel.attention_forward(torch.zeros(1, 1, 1, device="cuda"), torch.zeros(1, 1, device="cuda"))
        return kernel
    except Exception as error:  # numba fails in many ways: absent, too old for numpy, an LLVM that does not load
        _log.warning("semantic attention runs in its chunked form, several times slower: no %s (%s)", form, error)
        return None


def _sum_dtype(features: Tensor) -> torch.dtype:
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def _check(features: Tensor, vectors: Tensor) -> None:
    if features.ndim != 3 or vectors.ndim != 2 or features.shape[-1] != vectors.shape[-1] or features.shape[1] == 0:
        raise ShapeError(
            f"expected features (B, N, D) with N > 0 and vectors (K, D) of one width D, "
            f"got {tuple(features.shape)} and {tuple(vectors.shape)}",
            where="semantic_attention",
            hint="project the feature map to the width of the label semantics first",
        )
