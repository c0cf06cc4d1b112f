"""The fused CPU kernel against the definition in float64, and where it cannot run."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from msrn.errors import ShapeError
from msrn.ops import kernels
from msrn.ops import semantic_attention as operator
from msrn.ops.semantic_attention import semantic_attention, semantic_attention_reference

pytest.importorskip("numba", reason="needs numba, which this environment lacks")
fused_attention = functools.partial(operator.semantic_attention, form="numba")

# Of the largest value. Sums of float32 over N positions, with an exponential good to 1.3e-7, come to 3e-7 here.
FORWARD, GRADIENT = 1e-6, 1e-5
SHAPES = {  # B, N, K, D
    "usual": (3, 196, 24, 32),
    "nothing divides": (2, 53, 7, 13),
    "one vector": (2, 49, 1, 8),
    "one position": (2, 1, 5, 8),
    "one of each": (1, 1, 1, 1),
    "several threads": (2, 784, 84, 16),
    "many vectors, few positions": (3, 49, 84, 16),
    "whole registers of vectors": (1, 64, 64, 4),
    "many vectors, one position": (1, 1, 33, 4),
}


def draw(b: int, n: int, k: int, d: int, *, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Features as a convolution leaves them, vectors, and a gradient for the output."""
    generator = torch.Generator().manual_seed(b + 10 * n + 100 * k + d)
    features = torch.randn(b, d, n, generator=generator).transpose(1, 2) * scale**0.5
    return features, torch.randn(k, d, generator=generator) * scale**0.5, torch.randn(b, k, d, generator=generator)


def values_and_gradients(function: object, features: Tensor, vectors: Tensor, grad: Tensor) -> list[Tensor]:
    inputs = [features.detach().requires_grad_(), vectors.detach().requires_grad_()]
    output = function(*inputs)  # type: ignore[operator]
    return [output.detach(), *torch.autograd.grad(output, inputs, grad.to(output.dtype))]


def oracle(features: Tensor, vectors: Tensor, grad: Tensor) -> list[Tensor]:
    return values_and_gradients(semantic_attention_reference, features.double(), vectors.double(), grad)


def error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, in units of the largest true value."""
    assert ours.shape == theirs.shape
    return ((ours.double() - theirs).abs().max() / theirs.abs().max().clamp_min(1e-30)).item()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_value_and_gradients_equal_the_definition(shape: tuple[int, int, int, int]) -> None:
    inputs = draw(*shape)
    value, grad_x, grad_q = values_and_gradients(fused_attention, *inputs)
    true_value, true_grad_x, true_grad_q = oracle(*inputs)
    assert error(value, true_value) < FORWARD
    assert error(grad_x, true_grad_x) < GRADIENT
    if shape[1] > 1:
        assert error(grad_q, true_grad_q) < GRADIENT
    else:
        assert grad_q.abs().max() == 0  # one position leaves nothing to choose


@pytest.mark.parametrize(("positions", "count"), [(196, 24), (49, 64)])
@pytest.mark.parametrize("scale", [1e-4, 30.0, 900.0])
def test_values_and_gradients_hold_for_products_tiny_and_huge(scale: float, positions: int, count: int) -> None:
    inputs = draw(2, positions, count, 32, scale=scale)
    largest = inputs[0].abs().max()
    assert scale < 900 or largest * inputs[1].abs().max() > 1e4
    ours, theirs = values_and_gradients(fused_attention, *inputs), oracle(*inputs)
    # The unit is the size of the features, of which the value is a mean: with tiny products nearly all of it cancels.
    assert (ours[0] - theirs[0]).abs().max() < FORWARD * largest
    assert error(ours[1], theirs[1]) < GRADIENT
    assert error(ours[2], theirs[2]) < GRADIENT


@pytest.mark.parametrize("largest", [0.01, 3.0, 20.0, 47.9, 48.1, 90.0])
@pytest.mark.parametrize("kind", ["two values", "one outlier", "two clusters", "uniform"])
def test_any_distribution_of_features_gives_the_values_and_gradients_of_the_definition(
    kind: str, largest: float
) -> None:
    generator = torch.Generator().manual_seed(3)
    draw_uniform = functools.partial(torch.rand, 2, 8, 196, generator=generator)
    high = draw_uniform() > 0.97
    x = {
        "two values": 2.0 * high - 1,
        "one outlier": torch.where(torch.arange(196) == 77, 1.0, -1 + 1e-3 * draw_uniform()),
        "two clusters": (2.0 * high - 1) * (1 - 0.01 * draw_uniform()),
        "uniform": 2 * draw_uniform() - 1,
    }[kind]
    features = (7 * x - 2).transpose(1, 2)
    vectors = torch.linspace(-1, 1, 24)[:, None].expand(24, 8) * largest / 7
    grad = torch.randn(2, 24, 8, generator=generator)
    ours, theirs = values_and_gradients(fused_attention, features, vectors, grad), oracle(features, vectors, grad)
    assert error(ours[0], theirs[0]) < FORWARD
    assert error(ours[1], theirs[1]) < GRADIENT
    assert error(ours[2], theirs[2]) < GRADIENT


def test_no_product_is_too_large() -> None:
    features, vectors, _ = draw(2, 49, 6, 8)
    output = fused_attention(features * 1e10, vectors * 1e15)
    extreme = torch.where(vectors >= 0, features.amax(dim=1)[:, None], features.amin(dim=1)[:, None])
    assert torch.equal(output, extreme * 1e10)


def test_equal_positions_are_returned_exactly_and_give_vectors_no_gradient() -> None:
    features = torch.tensor([[0.1, -3.0]]).expand(2, 37, 2)
    value, grad_x, grad_q = values_and_gradients(fused_attention, features, torch.randn(4, 2), torch.ones(2, 4, 2))
    assert torch.equal(value, features[:, :4])
    assert grad_q.abs().max() == 0
    torch.testing.assert_close(grad_x, torch.full_like(grad_x, 4 / 37), rtol=1e-6, atol=0)


def test_zero_vectors_take_the_mean() -> None:
    features, vectors, _ = draw(2, 50, 3, 4)
    torch.testing.assert_close(fused_attention(features, 0 * vectors)[:, 0], features.mean(dim=1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_only_inputs_and_results(dtype: torch.dtype) -> None:
    features, vectors, grad = (t.to(dtype) for t in draw(2, 196, 24, 16))
    step = torch.finfo(dtype).eps
    for ours, theirs in zip(
        values_and_gradients(fused_attention, features, vectors, grad), oracle(features, vectors, grad), strict=True
    ):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, rtol=step, atol=1e-6 * theirs.abs().max().item())


def test_under_autocast_the_result_has_the_dtype_of_the_features() -> None:
    features, vectors, _ = draw(2, 49, 3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert semantic_attention(features, vectors).dtype == torch.float32
        assert semantic_attention(features.bfloat16(), vectors).dtype == torch.bfloat16


def test_layout_of_inputs_and_gradient_does_not_matter() -> None:
    features, vectors, grad = draw(2, 53, 6, 12)
    strided = (
        torch.stack((features, features), dim=-1)[..., 0],
        vectors.T.contiguous().T,
        torch.stack((grad, grad), dim=1)[:, 0],
    )
    plain = values_and_gradients(fused_attention, features.contiguous(), vectors, grad)
    for ours, theirs in zip(values_and_gradients(fused_attention, *strided), plain, strict=True):
        assert torch.equal(ours, theirs)


def test_a_broadcast_gradient_is_accepted() -> None:
    features, vectors, _ = draw(2, 20, 3, 4)
    features.requires_grad_()
    fused_attention(features, vectors).sum().backward()
    assert features.grad is not None


@pytest.mark.parametrize(("b", "k", "d"), [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_empty_sizes_give_empty_results_and_zero_gradients(b: int, k: int, d: int) -> None:
    features, vectors = torch.ones(b, 5, d), torch.ones(k, d)
    value, grad_x, grad_q = values_and_gradients(fused_attention, features, vectors, torch.ones(b, k, d))
    assert value.shape == (b, k, d)
    assert torch.equal(grad_x, torch.zeros_like(features))
    assert torch.equal(grad_q, torch.zeros_like(vectors))


def test_only_the_gradients_asked_for_are_given() -> None:
    features, vectors, _ = draw(2, 20, 3, 4)
    fused_attention(features, vectors.requires_grad_()).sum().backward()
    assert vectors.grad is not None
    assert features.grad is None
    vectors = vectors.detach()
    fused_attention(features.requires_grad_(), vectors).sum().backward()
    assert features.grad is not None
    assert vectors.grad is None


@pytest.mark.parametrize("count", [5, 40])
@pytest.mark.parametrize("position", [0, 17, 48])
def test_nan_shows_in_its_image_and_channel_and_nowhere_else(position: int, count: int) -> None:
    features, vectors, grad = draw(2, 49, count, 6)
    clean = fused_attention(features, vectors)
    features[1, position, 4] = float("nan")
    value, grad_x, grad_q = values_and_gradients(fused_attention, features, vectors, grad)
    expected = torch.zeros_like(value, dtype=torch.bool)
    expected[1, :, 4] = True
    assert torch.equal(value.isnan(), expected)
    assert torch.equal(value[~expected], clean[~expected])
    assert grad_x[1, :, 4].isnan().all()
    assert grad_x.isnan().sum() == 49
    assert grad_q[:, 4].isnan().all()
    assert grad_q.isnan().sum() == count


def test_inference_mode_gives_the_same_values() -> None:
    features, vectors, _ = draw(2, 49, 5, 8)
    expected = fused_attention(features, vectors)
    with torch.inference_mode():
        assert torch.equal(fused_attention(features, vectors), expected)
        assert torch.equal(fused_attention(features.clone(), vectors.clone()), expected)


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    features, vectors, _ = draw(1, 9, 2, 3)
    features.requires_grad_()
    squares = fused_attention(features, vectors).square().sum()
    (first,) = torch.autograd.grad(squares, features, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        torch.autograd.backward(first.sum())


def test_wrong_shapes_and_dtypes_are_refused() -> None:
    with pytest.raises(ShapeError, match="one width D"):
        fused_attention(torch.ones(2, 3, 4), torch.ones(2, 5))
    with pytest.raises(ShapeError, match="N > 0"):
        fused_attention(torch.ones(2, 0, 4), torch.ones(2, 4))
    with pytest.raises(TypeError, match="float64"):
        fused_attention(torch.ones(2, 3, 4, dtype=torch.float64), torch.ones(2, 4))


@pytest.fixture
def fresh_choice() -> Iterator[None]:
    operator._loaded.cache_clear()
    yield
    operator._loaded.cache_clear()


@pytest.mark.usefixtures("fresh_choice")
def test_the_operator_chooses_the_kernel_and_leaves_float64_to_the_chunked_form() -> None:
    features, vectors, _ = draw(2, 53, 5, 6)
    assert torch.equal(semantic_attention(features, vectors), fused_attention(features, vectors))
    exact = semantic_attention_reference(features.double(), vectors.double())
    assert error(semantic_attention(features.double(), vectors.double()), exact) < 1e-14


@pytest.mark.usefixtures("fresh_choice")
def test_without_numba_the_chunked_form_runs_and_one_line_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("cpu", "rows"):
        monkeypatch.delitem(sys.modules, f"msrn.ops.kernels.{name}")
        monkeypatch.delattr(kernels, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    features, vectors, _ = draw(2, 53, 5, 6)
    with caplog.at_level(logging.WARNING):
        first, second = semantic_attention(features, vectors), semantic_attention(features, vectors)
    assert torch.equal(first, semantic_attention(features, vectors, form="chunked"))
    assert torch.equal(first, second)
    (record,) = caplog.records
    assert "numba" in record.getMessage()
    assert "chunked" in record.getMessage()
