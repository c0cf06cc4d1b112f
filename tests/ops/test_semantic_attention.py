"""Is the bounded form the definition, in value, gradient and memory?"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from msrn.errors import ShapeError
from msrn.ops.semantic_attention import (
    semantic_attention,
    semantic_attention_chunked,
    semantic_attention_reference,
)


def inputs(batch: int, positions: int, vectors: int, width: int, seed: int = 0, scale: float = 1.0):
    generator = torch.Generator().manual_seed(seed)
    features = scale * torch.randn(batch, positions, width, dtype=torch.float64, generator=generator)
    return features, torch.randn(vectors, width, dtype=torch.float64, generator=generator)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 6)] * 4),
    chunk_bytes=st.sampled_from([1, 100, 1000, 10**6]),
    scale=st.sampled_from([0.0, 1.0, 300.0]),
)
def test_chunked_form_equals_the_definition(sizes: tuple[int, ...], chunk_bytes: int, scale: float) -> None:
    features, vectors = inputs(*sizes, scale=scale)
    expected = semantic_attention_reference(features, vectors)
    got = semantic_attention_chunked(features, vectors, chunk_bytes=chunk_bytes)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("chunk_bytes", [1, 300, 10**6])
def test_chunked_gradients_are_exact(chunk_bytes: int) -> None:
    features, vectors = (value.requires_grad_() for value in inputs(2, 5, 4, 3))
    assert torch.autograd.gradcheck(
        lambda x, q: semantic_attention_chunked(x, q, chunk_bytes=chunk_bytes), (features, vectors)
    )


def test_a_loop_over_the_formula_gives_the_definition() -> None:
    features, vectors = inputs(2, 3, 2, 2)
    got = semantic_attention_reference(features, vectors)
    for b in range(2):
        for k in range(2):
            for d in range(2):
                e = [torch.exp(features[b, n, d] * vectors[k, d]) for n in range(3)]
                expected = sum(e[n] * features[b, n, d] for n in range(3)) / sum(e)
                assert got[b, k, d] == pytest.approx(float(expected), rel=1e-12)


def test_the_order_of_positions_does_not_matter() -> None:
    features, vectors = inputs(2, 7, 3, 4)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(semantic_attention(features[:, order], vectors), semantic_attention(features, vectors))


class LargestTensor(TorchDispatchMode):
    """Remembers the size in bytes of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.untyped_storage().nbytes())
        return result


def test_forward_and_backward_hold_no_more_than_the_set_memory() -> None:
    features, vectors = (value.float().requires_grad_() for value in inputs(4, 100, 40, 8))
    product = 4 * 100 * 40 * 8 * 4  # bytes of the (B, N, K, D) product
    limit = product // 16
    with LargestTensor() as forward:
        pooled = semantic_attention_chunked(features, vectors, chunk_bytes=limit)
    with LargestTensor() as backward:
        torch.autograd.grad(pooled.sum(), (features, vectors))
    assert max(forward.largest, backward.largest) <= limit
    with LargestTensor() as plain:
        semantic_attention_reference(features, vectors)
    assert plain.largest >= product  # the measure sees what it is there to see


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_outputs_and_gradients_keep_the_features_dtype(dtype: torch.dtype) -> None:
    features, vectors = inputs(2, 9, 3, 4)
    low = features.to(dtype).requires_grad_()
    pooled = semantic_attention_chunked(low, vectors.float())
    pooled.sum().backward()
    assert pooled.dtype == low.grad.dtype == dtype
    expected = semantic_attention_reference(low.detach().double(), vectors)
    torch.testing.assert_close(pooled.double(), expected, rtol=2e-2, atol=2e-2 if dtype != torch.float32 else 1e-5)


@pytest.mark.parametrize(
    ("features", "vectors"), [((2, 5, 4), (3, 5)), ((5, 4), (3, 4)), ((2, 0, 4), (3, 4)), ((2, 5, 4), (4,))]
)
def test_sizes_that_do_not_fit_are_told(features: tuple[int, ...], vectors: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="expected features"):
        semantic_attention(torch.zeros(features), torch.zeros(vectors))
