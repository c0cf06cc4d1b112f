"""The fused GPU kernel against the definition in float64: interpreted, compiled ahead, and on a GPU if there is one.

Triton decides when it is imported whether kernels are interpreted, for the whole process, and torch imports it when
it likes. So the interpreter runs in one process of its own, started anew for this file: the variable that asks for it
is set there and nowhere else, and no order of tests, and nothing imported before, changes what is tested. In this
process the same kernels are compiled for a GPU that need not be there.
"""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
import torch
from attention_inputs import Results, draw, error, oracle
from torch import Tensor

from msrn.ops.semantic_attention import semantic_attention

triton = pytest.importorskip("triton", reason="needs triton, which this environment lacks")

Run = Callable[..., Results]

# Of the largest value: sums of float32, with an exponential good to 2e-7.
FORWARD, GRADIENT = 1e-6, 1e-5
SHAPES = {  # B, N, K, D
    "nothing divides": (2, 53, 11, 13),
    "everything divides": (1, 64, 8, 16),
    "one vector": (2, 49, 1, 8),
    "one position": (2, 1, 5, 8),
    "one channel": (1, 7, 3, 1),
    "one of each": (1, 1, 1, 1),
}


# ---- interpreted, in a process of its own


# As text, because a function of this module could run there only after this module was imported, and triton with it.
ASK_FOR_IT = "import os; os.environ['TRITON_INTERPRET'] = '1'"


def interpret(*arguments: Any) -> Results:
    """Value and gradients, in the process that interprets."""
    assert type(importlib.import_module("msrn.ops.kernels.triton")._pool).__name__ == "InterpretedFunction"
    return value_and_gradients(*arguments)


def value_and_gradients(features: Tensor, vectors: Tensor, grad: Tensor, enough_programs: int | None = None) -> Results:
    """Of the two functions as they are, without autograd."""
    kernel = importlib.import_module("msrn.ops.kernels.triton")
    kept = kernel.ENOUGH_PROGRAMS
    kernel.ENOUGH_PROGRAMS = enough_programs or kept
    try:
        pooled, shift, total = kernel.attention_forward(features, vectors)
        assert shift.dtype == total.dtype == torch.float32
        assert shift.shape == total.shape == (features.shape[0], features.shape[2], vectors.shape[0])
        return pooled, *kernel.attention_backward(grad, features, vectors, shift, total)
    finally:
        kernel.ENOUGH_PROGRAMS = kept


ON_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))


@pytest.fixture(scope="module", params=["interpreted", pytest.param("gpu", marks=ON_GPU)])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Value and gradients of tensors on the CPU: interpreted, and the same on a GPU where there is one."""
    if request.param == "gpu":
        yield lambda *inputs: tuple(one.cpu() for one in value_and_gradients(*map(on_gpu_as_it_is, inputs)))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=exec, initargs=(ASK_FOR_IT,)) as pool:
        yield lambda *arguments: pool.submit(interpret, *arguments).result(timeout=120)


def on_gpu_as_it_is(value: Any) -> Any:
    """A tensor with the strides that it has, zeros among them; anything else unchanged."""
    if not isinstance(value, Tensor):
        return value
    whole = torch.empty(0, dtype=value.dtype).set_(value.untyped_storage())
    return whole.cuda().as_strided(value.shape, value.stride(), value.storage_offset())


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_value_and_gradients_equal_the_definition(shape: tuple[int, int, int, int], layout: str, run: Run) -> None:
    inputs = draw(*shape, layout=layout)
    (value, grad_x, grad_q), (true_value, true_grad_x, true_grad_q) = run(*inputs), oracle(*inputs)
    assert error(value, true_value) < FORWARD
    assert error(grad_x, true_grad_x) < GRADIENT
    if shape[1] > 1:
        assert error(grad_q, true_grad_q) < GRADIENT
    else:
        assert grad_q.abs().max() == 0  # one position leaves nothing to choose


@pytest.mark.parametrize("scale", [1e-4, 30.0, 900.0])
def test_value_and_gradients_hold_for_products_from_tiny_to_ten_thousand(scale: float, run: Run) -> None:
    inputs = draw(1, 98, 9, 16, scale=scale)
    largest = inputs[0].abs().max()
    ours, theirs = run(*inputs), oracle(*inputs)
    assert (ours[0] - theirs[0]).abs().max() < FORWARD * largest  # a mean of features has their size
    assert error(ours[1], theirs[1]) < GRADIENT
    assert error(ours[2], theirs[2]) < GRADIENT


def test_no_product_is_too_large(run: Run) -> None:
    features, vectors, grad = draw(2, 49, 6, 8)
    pooled, grad_features, grad_vectors = run(features * 1e10, vectors * 1e15, grad)
    extreme = torch.where(vectors >= 0, features.amax(dim=1)[:, None], features.amin(dim=1)[:, None])
    assert torch.equal(pooled, extreme * 1e10)
    at_the_extreme = (features[:, None] == extreme[:, :, None]).double()  # (B, K, N, D): a maximum has one place
    assert error(grad_features, torch.einsum("bknd,bkd->bnd", at_the_extreme, grad.double())) < GRADIENT
    assert grad_vectors.abs().max() == 0


def test_precision_does_not_suffer_from_a_large_mean(run: Run) -> None:
    features, vectors, grad = draw(1, 49, 5, 8)
    inputs = (features + 1000, vectors, grad)
    ours, theirs = run(*inputs), oracle(*inputs)
    assert error(ours[0], theirs[0]) < FORWARD
    assert error(ours[1], theirs[1]) < GRADIENT
    assert error(ours[2], theirs[2]) < GRADIENT


def test_equal_positions_are_returned_exactly_and_pull_at_no_vector(run: Run) -> None:
    features = torch.tensor([[0.1, -3.0]]).expand(2, 37, 2)  # positions with a stride of zero
    value, grad_x, grad_q = run(features, draw(2, 1, 4, 2)[1], torch.ones(2, 4, 2))
    assert torch.equal(value, features[:, :4])
    assert grad_q.abs().max() == 0
    torch.testing.assert_close(grad_x, torch.full_like(grad_x, 4 / 37), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_half_precision_rounds_only_inputs_and_results(dtype: torch.dtype, layout: str, run: Run) -> None:
    inputs = [tensor.to(dtype) for tensor in draw(1, 50, 9, 16, layout=layout)]
    for ours, theirs in zip(run(*inputs), oracle(*inputs), strict=True):
        assert ours.dtype == dtype
        step, largest = torch.finfo(dtype).eps, theirs.abs().max().item()
        torch.testing.assert_close(ours.double(), theirs, rtol=step, atol=1e-6 * largest)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_each_gradient_has_the_dtype_and_layout_of_its_input(dtype: torch.dtype, run: Run) -> None:
    features, vectors, grad = draw(2, 21, 3, 10)
    strided = torch.stack((features, features), dim=-1)[..., 0]
    vectors = vectors.to(dtype).T.contiguous().T
    value, grad_x, grad_q = run(strided, vectors, grad)
    for ours, theirs in zip((value, grad_x, grad_q), oracle(strided, vectors, grad), strict=True):
        step = max(GRADIENT, torch.finfo(ours.dtype).eps)
        torch.testing.assert_close(ours.double(), theirs, rtol=step, atol=1e-6 * theirs.abs().max().item())
    assert (value.dtype, grad_x.dtype, grad_q.dtype) == (torch.float32, torch.float32, dtype)
    assert value.is_contiguous()
    assert grad_x.stride() == torch.empty_like(strided).stride()
    assert grad_q.stride() == torch.empty_like(vectors).stride()


def test_a_broadcast_gradient_is_accepted(run: Run) -> None:
    features, vectors, _ = draw(2, 20, 3, 4)
    ones = torch.ones(2, 3, 4)
    expected = run(features, vectors, ones)
    for ours, theirs in zip(run(features, vectors, ones[:1, :1, :1].expand(2, 3, 4)), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("b", "k", "d"), [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_empty_sizes_give_empty_results_and_zero_gradients(b: int, k: int, d: int, run: Run) -> None:
    features, vectors = torch.ones(b, 5, d), torch.ones(k, d)
    value, grad_x, grad_q = run(features, vectors, torch.ones(b, k, d))
    assert value.shape == (b, k, d)
    assert torch.equal(grad_x, torch.zeros_like(features))
    assert torch.equal(grad_q, torch.zeros_like(vectors))


@pytest.mark.parametrize("position", [0, 17, 48])
def test_nan_shows_in_its_image_and_channel_and_nowhere_else(position: int, run: Run) -> None:
    features, vectors, grad = draw(2, 49, 5, 6)
    clean = run(features, vectors, grad)
    features[1, position, 4] = float("nan")
    value, grad_x, grad_q = run(features, vectors, grad)
    for ours, before, place in (
        (value, clean[0], (1, slice(None), 4)),
        (grad_x, clean[1], (1, slice(None), 4)),
        (grad_q, clean[2], (slice(None), 4)),
    ):
        expected = torch.zeros_like(ours, dtype=torch.bool)
        expected[place] = True
        assert torch.equal(ours.isnan(), expected)
        assert torch.equal(ours[~expected], before[~expected])


def test_the_same_bits_come_again_whatever_the_split_of_the_work(run: Run) -> None:
    inputs = draw(2, 21, 19, 8)
    first = run(*inputs)
    for again in (run(*inputs), run(*inputs, 1), run(*inputs, 8)):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(again, first, strict=True))
    alone = run(*(inputs[0][1:], inputs[1], inputs[2][1:]))
    assert torch.equal(alone[0], first[0][1:])
    assert torch.equal(alone[1], first[1][1:])


# ---- on a GPU


def on_gpu(test: Callable[..., None]) -> Callable[..., None]:
    for mark in ON_GPU:
        test = mark(test)
    return test


def through_the_operator(features: Tensor, vectors: Tensor, grad: Tensor) -> Results:
    """Through the operator, as a model would."""
    inputs = [features.cuda().requires_grad_(), vectors.cuda().requires_grad_()]
    pooled = semantic_attention(*inputs, form="triton")
    return pooled.detach(), *torch.autograd.grad(pooled, inputs, grad.cuda().to(pooled.dtype))


@on_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("shape", [(2, 784, 84, 512), (3, 196, 24, 512), (2, 49, 84, 512), (1, 3137, 7, 77)])
def test_gpu_value_and_gradients_equal_the_definition(
    shape: tuple[int, int, int, int], layout: str, dtype: torch.dtype
) -> None:
    features, vectors, grad = draw(*shape, layout=layout)
    inputs = (features.to(dtype), vectors, grad.to(dtype))
    step = 0 if dtype == torch.float32 else torch.finfo(dtype).eps
    for ours, theirs, bound in zip(
        through_the_operator(*inputs), oracle(*(t.cuda() for t in inputs)), (FORWARD, GRADIENT, GRADIENT), strict=True
    ):
        torch.testing.assert_close(ours.double(), theirs, rtol=step, atol=bound * theirs.abs().max().item())


@on_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gpu_takes_this_kernel_by_itself(dtype: torch.dtype) -> None:
    features, vectors, _ = (one.cuda() for one in draw(2, 53, 11, 13))
    features = features.to(dtype)
    assert torch.equal(semantic_attention(features, vectors), semantic_attention(features, vectors, form="triton"))


@on_gpu
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # the check's own copies of the inputs
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_gpu_registration_is_sound(layout: str) -> None:
    features, vectors, _ = (one.cuda() for one in draw(2, 53, 11, 13, layout=layout))
    node = torch.ops.msrn.semantic_attention.default
    torch.library.opcheck(node, (features.requires_grad_(), vectors.requires_grad_(), "triton"))


@on_gpu
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_gpu_runs_it_within_a_compiled_network() -> None:
    torch.manual_seed(0)
    project = torch.nn.Conv2d(8, 16, 1).cuda()
    maps, (_, vectors, grad) = torch.randn(2, 8, 7, 7, device="cuda"), (one.cuda() for one in draw(2, 49, 5, 16))

    def network(maps: Tensor, vectors: Tensor) -> Tensor:
        return semantic_attention(project(maps).flatten(2).transpose(1, 2), vectors).tanh()

    wanted = [*project.parameters(), vectors.requires_grad_()]
    pooled = torch.compile(network)(maps, vectors), network(maps, vectors)
    torch.testing.assert_close(*pooled)
    for ours, theirs in zip(*(torch.autograd.grad(one, wanted, grad) for one in pooled), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@on_gpu
def test_gpu_gives_the_same_bits_each_time() -> None:
    inputs = draw(16, 784, 84, 512)
    first = through_the_operator(*inputs)
    for _ in range(3):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(through_the_operator(*inputs), first, strict=True))


@on_gpu
def test_gpu_keeps_nan_in_its_image_and_channel() -> None:
    features, vectors, grad = draw(2, 196, 24, 64)
    features[1, 17, 4] = float("nan")
    value, grad_x, grad_q = through_the_operator(features, vectors, grad)
    assert value[1, :, 4].isnan().all()
    assert value.isnan().sum() == 24
    assert grad_x[1, :, 4].isnan().all()
    assert grad_x.isnan().sum() == 196
    assert grad_q[:, 4].isnan().all()
    assert grad_q.isnan().sum() == 24


@on_gpu
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_gpu_reaches_beyond_two_thousand_million_features(layout: str) -> None:
    shape = (2, 300, 3_600_000) if layout == "channels first" else (2, 3_600_000, 300)  # 2.16e9
    if torch.cuda.get_device_properties(0).total_memory < 24 * 2**30:
        pytest.skip("needs a GPU with 24 GiB")
    features = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
    features = features.transpose(1, 2) if layout == "channels first" else features
    vectors, grad = torch.randn(1, 300, device="cuda"), torch.ones(2, 1, 300, device="cuda", dtype=torch.bfloat16)
    kernel = importlib.import_module("msrn.ops.kernels.triton")
    results = []
    for part in (slice(None), slice(1, 2)):
        pooled, shift, total = kernel.attention_forward(features[part], vectors)
        results.append(
            (pooled[-1], kernel.attention_backward(grad[part], features[part], vectors, shift, total)[0][-1])
        )
    for ours, alone in zip(*results, strict=True):
        assert torch.equal(ours, alone)
        assert ours.abs().max() > 0
