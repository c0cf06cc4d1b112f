"""The fused CPU kernel on threads, in other processes, and compiled, kept on disk or loaded: always the same bits."""

from __future__ import annotations

import functools
import importlib
import importlib.util
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

from msrn.ops.semantic_attention import semantic_attention

numba = pytest.importorskip("numba", reason="needs numba, which this environment lacks")
cpu_kernel = importlib.import_module("msrn.ops.kernels.cpu")
rows = importlib.import_module("msrn.ops.kernels.rows")
fused_attention = functools.partial(semantic_attention, form="numba")


def draw(b: int, n: int, k: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features as a convolution leaves them, vectors, and a gradient for the output."""
    generator = torch.Generator().manual_seed(d)
    features = torch.randn(b, d, n, generator=generator).transpose(1, 2)
    return features, torch.randn(k, d, generator=generator), torch.randn(b, k, d, generator=generator)


def values_and_gradients(features: Tensor, vectors: Tensor, grad: Tensor) -> list[Tensor]:
    leaves = [features.detach().requires_grad_(), vectors.detach().requires_grad_()]
    pooled = fused_attention(*leaves)
    return [pooled.detach(), *torch.autograd.grad(pooled, leaves, grad)]


def test_results_are_the_same_bits_for_any_number_of_threads() -> None:
    inputs = draw(3, 784, 84, 128)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(values_and_gradients(*inputs))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_no_more_threads_run_than_torch_may_use(allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, vectors, _ = draw(3, 784, 84, 128)
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
    inputs = draw(3, 784, 84, 128)
    pool, teams = cpu_kernel._torch_pool(), []

    def counted(function: int, job: int, size: int, flags: int) -> None:
        teams.append(size)
        pool(function, job, size, flags)

    threads(3)
    monkeypatch.setattr(cpu_kernel, "_torch_pool", lambda: counted)
    ours = values_and_gradients(*inputs)
    assert teams == [3, 3]
    monkeypatch.setattr(cpu_kernel, "_torch_pool", lambda: None)
    theirs = values_and_gradients(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    threads(1)
    monkeypatch.setattr(cpu_kernel, "_torch_pool", lambda: counted)
    fused_attention(*inputs[:2])
    assert teams == [3, 3]  # one thread needs no team


def test_two_threads_may_call_at_once() -> None:
    inputs = draw(2, 784, 84, 128)
    expected = values_and_gradients(*inputs)
    results: list[list[Tensor]] = []

    def call() -> None:
        for _ in range(5):
            results.append(values_and_gradients(*inputs))

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
    output = fused_attention(*draw(2, 784, 84, 128)[:2])
    return output.flatten(1).tolist(), rows.forward.cache_hits


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 warns of every fork beside threads
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_computes_the_same_after_this_one_has(method: str) -> None:
    expected = fused_attention(*draw(2, 784, 84, 128)[:2]).flatten(1).tolist()
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


def test_a_disabled_compiler_refuses_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    spec = importlib.util.find_spec("msrn.ops.kernels.rows")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match="NUMBA_DISABLE_JIT"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_a_kernel_that_cannot_be_kept_on_disk_is_still_compiled() -> None:
    namespace: dict[str, object] = {"numba": numba, "np": np}
    code = "def double(address):\n    numbers = numba.carray(address, (3,), np.int64)\n    numbers *= 2"
    exec(code, namespace)  # numba has nowhere to keep code that comes from no file
    numbers = np.array([1, 2, 3])
    rows._kernel(namespace["double"]).ctypes(numbers.ctypes.data)
    assert numbers.tolist() == [2, 4, 6]


def test_results_do_not_depend_on_what_is_found_on_disk(tmp_path: Path) -> None:
    code = """
import torch
from msrn.ops.kernels import cpu as cpu_kernel, rows
torch.manual_seed(0)
features, vectors, grad = torch.randn(2, 196, 8), torch.randn(7, 8), torch.randn(2, 7, 8)
pooled, *sums = cpu_kernel.attention_forward(features, vectors)
values = [pooled, *cpu_kernel.attention_backward(grad, features, vectors, *sums)]
print(rows.forward.cache_hits, rows.backward.cache_hits, [value.tolist() for value in values])
"""

    def another() -> tuple[str, str, str]:
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        forward, backward, values = run.stdout.split(maxsplit=2)
        return forward, backward, values

    *hits, expected = another()
    assert hits == ["0", "0"]
    for kernel, found in (("forward", ["0", "1"]), ("backward", ["1", "0"])):
        (index,) = tmp_path.rglob(f"*.{kernel}-*.nbi")
        index.unlink()
        *hits, values = another()
        assert hits == found
        assert values == expected
