"""Semantic attention in standard ONNX operators, for runtimes without torch.

A scan runs over the vectors ``(K, D)``. Each step holds ``(B, N, D)`` numbers, as many as the features, so a runtime
never builds the ``(B, N, K, D)`` product. As in the kernels, the largest exponent follows from the largest and the
smallest feature of a channel, and one pass gives both sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnxscript
import torch
from onnxscript import FLOAT
from onnxscript import opset18 as op

__all__ = ["translation_table"]


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For ``torch.onnx.export(..., custom_translation_table=translation_table())``."""
    return {torch.ops.msrn.semantic_attention.default: _translated}


def _translated(features: Any, vectors: Any, form: str = "auto") -> tuple[Any]:
    """The operator's first result; the other two are for a backward pass, which an exported network does not have."""
    return (_semantic_attention(features, vectors),)


@onnxscript.script(default_opset=op)  # type: ignore[untyped-decorator]
def _semantic_attention(features: FLOAT[...], vectors: FLOAT[...]) -> FLOAT[...]:
    """``features (B, N, D)``, ``vectors (K, D)`` to ``(B, K, D)``."""
    x = op.Transpose(features, perm=[0, 2, 1])  # (B, D, N)
    low = op.ReduceMin(x, [2], keepdims=1)
    high = op.ReduceMax(x, [2], keepdims=1)

    @onnxscript.graph()  # type: ignore[untyped-decorator]
    def pool(q: FLOAT[...]) -> FLOAT[...]:  # (D, 1) to (B, D)
        top = op.Where(q >= 0.0, high, low)  # (B, D, 1)
        below = x - top
        e = op.Exp(q * below)  # (B, D, N)
        moment = op.ReduceSum(e * below, [2], keepdims=1)
        return op.Squeeze(top + moment / op.ReduceSum(e, [2], keepdims=1), [2])

    pooled = op.Scan(op.Unsqueeze(vectors, [2]), body=pool, num_scan_inputs=1)  # (K, B, D)
    return op.Transpose(pooled, perm=[1, 0, 2])
