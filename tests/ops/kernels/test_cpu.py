"""The fused CPU kernel against the four-line definition in float64, and under everything a process may do to it."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from msrn.errors import ShapeError
from msrn.ops import semantic_attention as operator
from msrn.ops.semantic_attention import semantic_attention, semantic_attention_reference

numba = pytest.importorskip("numba", reason="needs numba, which this environment lacks")
cpu_kernel = importlib.import_module("msrn.ops.kernels.cpu")
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
    # The value is a mean of features, so their size is its unit: with tiny products all but everything cancels in it.
    assert (ours[0] - theirs[0]).abs().max() < FORWARD * largest
    assert error(ours[1], theirs[1]) < GRADIENT
    assert error(ours[2], theirs[2]) < GRADIENT


def test_no_product_is_too_large() -> None:
    features, vectors, _ = draw(2, 49, 6, 8)
    output = fused_attention(features * 1e10, vectors * 1e15)
    extreme = torch.where(vectors >= 0, features.amax(dim=1)[:, None], features.amin(dim=1)[:, None])
    assert torch.equal(output, extreme * 1e10)


def test_equal_positions_are_returned_exactly_and_pull_at_no_vector() -> None:
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


def test_results_are_the_same_bits_for_any_number_of_threads() -> None:
    inputs = draw(3, 784, 84, 16)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(values_and_gradients(fused_attention, *inputs))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_no_more_threads_run_than_torch_may_use(allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, vectors, _ = draw(3, 784, 84, 16)
    started: list[str] = []
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(cpu_kernel, "_torch_pool", lambda: None)  # as where torch's own pool is not to be found
    monkeypatch.setattr(threading.Thread, "start", counted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: allowed)
    fused_attention(features, vectors)
    assert len(started) == allowed - 1
    started.clear()
    fused_attention(features[:, :9, :2], vectors[:, :2])
    assert not started  # too little work to share


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.skipif(cpu_kernel._torch_pool() is None, reason="needs a torch built with GNU OpenMP")
def test_torchs_own_threads_compute_the_same_bits_as_threads_of_python(
    threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = draw(3, 784, 84, 16)
    pool, teams = cpu_kernel._torch_pool(), []

    def counted(function: int, job: int, size: int, flags: int) -> None:
        teams.append(size)
        pool(function, job, size, flags)

    threads(3)
    monkeypatch.setattr(cpu_kernel, "_torch_pool", lambda: counted)
    ours = values_and_gradients(fused_attention, *inputs)
    assert teams == [3, 3]
    monkeypatch.setattr(cpu_kernel, "_torch_pool", lambda: None)
    theirs = values_and_gradients(fused_attention, *inputs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    threads(1)
    monkeypatch.setattr(cpu_kernel, "_torch_pool", lambda: counted)
    fused_attention(*inputs[:2])
    assert teams == [3, 3]  # one thread needs no team


def test_two_threads_may_call_at_once() -> None:
    inputs = draw(2, 784, 84, 16)
    expected = values_and_gradients(fused_attention, *inputs)
    results: list[list[Tensor]] = []

    def call() -> None:
        for _ in range(5):
            results.append(values_and_gradients(fused_attention, *inputs))

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 10
    assert all(torch.equal(a, b) for result in results for a, b in zip(result, expected, strict=True))


def child_process(_: object) -> tuple[list[list[float]], int]:
    """What another process computes, on two threads, and how many compiled kernels it found on disk."""
    torch.set_num_threads(2)
    output = fused_attention(*draw(2, 784, 84, 8)[:2])
    return output.flatten(1).tolist(), cpu_kernel._forward.cache_hits


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 warns of every fork beside threads
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_computes_the_same_after_this_one_has(method: str) -> None:
    expected = fused_attention(*draw(2, 784, 84, 8)[:2]).flatten(1).tolist()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        output, cache_hits = pool.submit(child_process, None).result(timeout=60)
    assert output == expected
    if method == "spawn":
        assert cache_hits > 0  # nothing was compiled twice


class PooledInWorkers(Dataset[Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        features, vectors, _ = draw(1, 784, 84, index + 1)
        return semantic_attention(features, vectors).sum()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_loader_workers_compute_the_same() -> None:
    data = PooledInWorkers()
    expected = [data[index] for index in range(4)]
    assert torch.equal(torch.cat(list(DataLoader(data, num_workers=2, batch_size=1))), torch.stack(expected))


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
def test_without_numba_the_chunked_form_serves_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "msrn.ops.kernels.cpu")
    monkeypatch.setitem(sys.modules, "numba", None)
    features, vectors, _ = draw(2, 53, 5, 6)
    with caplog.at_level(logging.WARNING):
        first, second = semantic_attention(features, vectors), semantic_attention(features, vectors)
    assert torch.equal(first, semantic_attention(features, vectors, form="chunked"))
    assert torch.equal(first, second)
    (record,) = caplog.records
    assert "numba" in record.getMessage()
    assert "chunked" in record.getMessage()


def test_a_disabled_compiler_refuses_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    spec = importlib.util.find_spec("msrn.ops.kernels.cpu")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match="NUMBA_DISABLE_JIT"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_a_kernel_that_cannot_be_kept_on_disk_is_compiled_all_the_same() -> None:
    namespace: dict[str, object] = {"numba": numba, "np": np}
    code = "def double(address):\n    numbers = numba.carray(address, (3,), np.int64)\n    numbers *= 2"
    exec(code, namespace)  # numba has nowhere to keep code that comes from no file
    numbers = np.array([1, 2, 3])
    cpu_kernel._kernel(namespace["double"]).ctypes(numbers.ctypes.data)
    assert numbers.tolist() == [2, 4, 6]


def test_results_do_not_depend_on_what_was_found_on_disk(tmp_path: Path) -> None:
    code = """
import torch
from msrn.ops.kernels import cpu as cpu_kernel
torch.manual_seed(0)
features, vectors, grad = torch.randn(2, 196, 8), torch.randn(7, 8), torch.randn(2, 7, 8)
pooled, *sums = cpu_kernel.attention_forward(features, vectors)
values = [pooled, *cpu_kernel.attention_backward(grad, features, vectors, *sums)]
print(cpu_kernel._forward.cache_hits, cpu_kernel._backward.cache_hits, [value.tolist() for value in values])
"""

    def another() -> tuple[str, str, str]:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        forward, backward, values = run.stdout.split(maxsplit=2)
        return forward, backward, values

    *hits, expected = another()
    assert hits == ["0", "0"]
    for kernel, found in (("_forward", ["0", "1"]), ("_backward", ["1", "0"])):
        (index,) = tmp_path.rglob(f"*{kernel}-*.nbi")
        index.unlink()
        *hits, values = another()
        assert hits == found
        assert values == expected
