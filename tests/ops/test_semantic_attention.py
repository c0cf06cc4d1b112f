"""The chunked form against the definition, in value, gradient and memory; and the choice of a form."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from msrn.errors import ShapeError
from msrn.ops import semantic_attention as operator
from msrn.ops.kernels import chunked
from msrn.ops.semantic_attention import Form, semantic_attention, semantic_attention_reference, set_default_form


def semantic_attention_chunked(features: Tensor, vectors: Tensor, chunk_bytes: int | None = None) -> Tensor:
    """The chunked form, with a limit of its own; to limit the backward pass too, run it inside ``chunks_of``."""
    with chunks_of(chunk_bytes):
        return semantic_attention(features, vectors, form="chunked")


def chunks_of(size: int | None) -> AbstractContextManager[object]:
    return mock.patch.dict(chunked.CHUNK_BYTES, {} if size is None else {"cpu": size})


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
    with chunks_of(chunk_bytes):
        assert torch.autograd.gradcheck(semantic_attention_chunked, (features, vectors))


def test_a_loop_over_the_formula_gives_the_definition() -> None:
    features, vectors = inputs(2, 3, 2, 2)
    got = semantic_attention_reference(features, vectors)
    for b in range(2):
        for k in range(2):
            for d in range(2):
                e = [torch.exp(features[b, n, d] * vectors[k, d]) for n in range(3)]
                expected = sum(e[n] * features[b, n, d] for n in range(3)) / sum(e)
                assert got[b, k, d] == pytest.approx(float(expected), rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(7)), chunk_bytes=st.sampled_from([1, 200, 10**6]))
def test_the_order_of_positions_does_not_matter(order: list[int], chunk_bytes: int) -> None:
    features, vectors = inputs(2, 7, 3, 4)
    expected = semantic_attention(features, vectors)
    torch.testing.assert_close(semantic_attention(features[:, order], vectors), expected)
    permuted = semantic_attention_chunked(features[:, order], vectors, chunk_bytes=chunk_bytes)
    torch.testing.assert_close(permuted, expected)


@pytest.mark.parametrize("form", [semantic_attention, semantic_attention_chunked])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_strided_inputs_give_the_values_and_gradients_of_contiguous_ones(form, dtype: torch.dtype) -> None:
    wide, tall = (value.to(dtype) for value in inputs(3, 10, 8, 6))
    # A transposed (B, D, N) map, every second image and position of it; vectors as the transpose of a (D, K).
    features = wide.transpose(1, 2).contiguous().transpose(1, 2)[::2, 1::2].requires_grad_()
    vectors = tall.T.contiguous().T[::2].requires_grad_()
    assert not features.is_contiguous()
    assert not vectors.is_contiguous()
    slope = torch.randn(4, 2, 6, dtype=dtype, generator=torch.Generator().manual_seed(2)).transpose(0, 1)
    got = form(features, vectors)
    expected = semantic_attention_reference(features, vectors)
    torch.testing.assert_close(got, expected)
    for ours, theirs in zip(
        torch.autograd.grad(got, (features, vectors), slope),
        torch.autograd.grad(expected, (features, vectors), slope),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)  # float32: sums in another order


@pytest.mark.parametrize("sizes", [(0, 3, 2, 4), (2, 3, 0, 4), (2, 3, 2, 0)])
@pytest.mark.parametrize("form", [semantic_attention, semantic_attention_chunked])
def test_no_images_vectors_or_channels_give_empty_results_and_zero_gradients(form, sizes: tuple[int, ...]) -> None:
    features, vectors = (value.requires_grad_() for value in inputs(*sizes))
    pooled = form(features, vectors)
    assert pooled.shape == (sizes[0], sizes[2], sizes[3])
    pooled.sum().backward()
    assert not features.grad.any()
    assert not vectors.grad.any()


class Memory(TorchDispatchMode):
    """Records the peak of the bytes held by results of operations, and the bytes of the largest result."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.peak = 0
        self.alive: dict[int, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                if storage._cdata not in self.alive:
                    self.alive[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.alive.pop, storage._cdata, None)
                self.largest = max(self.largest, storage.nbytes())
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


@pytest.mark.parametrize("part", [4, 16, 32])
def test_forward_and_backward_stay_within_the_memory_limit(part: int) -> None:
    features, vectors = (value.float().requires_grad_() for value in inputs(4, 100, 40, 8))
    product = 4 * 100 * 40 * 8 * 4  # bytes of the (B, N, K, D) product
    limit = product // part
    with Memory() as forward, chunks_of(limit):
        pooled = semantic_attention_chunked(features, vectors)
    with Memory() as backward, chunks_of(limit):
        torch.autograd.grad(pooled.sum(), (features, vectors))
    own = features.nbytes + vectors.nbytes + pooled.nbytes
    for memory in (forward, backward):
        assert memory.largest <= max(limit, features.nbytes)
        # One block of products; beside it a few tensors of the sizes of the inputs and the result, but no second block.
        assert memory.peak <= limit + 5 * own
    with Memory() as plain:
        semantic_attention_reference(features, vectors)
    assert plain.peak >= product  # the measure does see a product


def test_no_second_block_of_products_is_held_while_the_next_is_made() -> None:
    features, vectors = (value.float().requires_grad_() for value in inputs(1, 400, 200, 4))
    limit = 400 * 200 * 4  # one channel of the image: 40 times the features and the result together
    with Memory() as forward, chunks_of(limit):
        pooled = semantic_attention_chunked(features, vectors)
    with Memory() as backward, chunks_of(limit):
        torch.autograd.grad(pooled.sum(), (features, vectors))
    assert max(forward.peak, backward.peak) < 1.5 * limit


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
def test_sizes_that_do_not_fit_are_refused(features: tuple[int, ...], vectors: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="expected features"):
        semantic_attention(torch.zeros(features), torch.zeros(vectors))


# ---- which form runs


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The forms that the operator was run in, one per call."""
    seen: list[str] = []
    choose = operator._kernel

    def recorded(form: str, features: Tensor, vectors: Tensor) -> operator.Kernel:
        seen.append(form)
        return choose(form, features, vectors)

    monkeypatch.setattr(operator, "_kernel", recorded)
    return seen


def test_the_default_form_runs_where_none_is_named(chosen: list[str]) -> None:
    features, vectors = (value.float() for value in inputs(2, 9, 3, 4))
    fused = semantic_attention(features, vectors)
    set_default_form("chunked")
    found = semantic_attention(features, vectors)
    semantic_attention(features, vectors, form="auto")
    assert chosen == ["auto", "chunked", "auto"]
    torch.testing.assert_close(found, fused)
    set_default_form("reference")
    assert torch.equal(semantic_attention(features, vectors), semantic_attention_reference(features, vectors))
    assert len(chosen) == 3  # the definition is not the operator


@pytest.mark.parametrize(("form", "loads"), [("chunked", False), ("auto", True)])
def test_the_chunked_form_as_default_loads_no_fused_kernel(
    monkeypatch: pytest.MonkeyPatch, form: Form, loads: bool
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(operator, "_loaded", lambda name: loaded.append(name))  # None: it cannot be loaded
    set_default_form(form)
    features, vectors = (value.float().requires_grad_() for value in inputs(1, 5, 2, 3))
    semantic_attention(features, vectors).sum().backward()
    assert (set(loaded) == {"numba"}) == loads
    assert loads or not loaded
