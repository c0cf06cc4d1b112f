"""Fused semantic attention on a CPU: the kernels of ``rows`` on torch's tensors and threads.

Rows run on the threads of torch's own pool (GNU OpenMP's ``GOMP_parallel``): these spin for a while after each of
torch's operations, so other threads would share cores with them and take twice as long. Where that pool is not found,
and in a forked child, which the pool does not survive, Python threads do the same work in code that releases the lock;
numba's own pools would abort there, or with two callers at once. Rows are independent, so results are the same bit for
bit for any number of threads.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from msrn.ops.kernels import rows

__all__ = ["attention_backward", "attention_forward"]

WORK_PER_THREAD = 500_000
"""Exponentials per additional thread, or as much work: a quarter of a millisecond, several times the cost of one."""
BLOCKS_PER_THREAD = 8
"""Rows are handed out in this many blocks per thread, so that a core busy elsewhere does not delay the others."""


def attention_forward(features: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``pooled (B, K, D)``, ``shift`` and ``total (B, D, K)`` float32 (see ``semantic_attention.Kernel``).

    Args:
        features: ``(B, N, D)`` float32, bfloat16 or float16 on the CPU. Fastest as a view of a contiguous
            ``(B, D, N)``, which is what a convolution leaves; anything else is copied once.
        vectors: ``(K, D)``, any floating dtype; used as float32.
    """
    x, q = _channels_first(features), _channels_first(vectors)  # (B, D, N), (D, K)
    pooled = x.new_empty(*x.shape[:2], q.shape[1])  # (B, D, K)
    shift, total = torch.empty_like(pooled), torch.empty_like(pooled)
    _over_rows(rows.forward, x, q, pooled, shift, total)
    return pooled.transpose(1, 2).to(features.dtype), shift, total


def attention_backward(
    grad: Tensor, features: Tensor, vectors: Tensor, shift: Tensor, total: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of features and vectors, laid out as ``empty_like`` of them, from ``grad (B, K, D)``."""
    x, q = _channels_first(features), _channels_first(vectors)
    grad_x = torch.zeros_like(x)
    grad_q = torch.empty_like(shift)  # (B, D, K): summed over images afterwards, always in one order
    _over_rows(rows.backward, x, q, shift, total, _channels_first(grad), grad_x, grad_q)
    return _laid_out(grad_x.transpose(1, 2), features), _laid_out(grad_q.sum(dim=0).T, vectors)


def _laid_out(value: Tensor, like: Tensor) -> Tensor:
    """``value`` in the dtype and strides of ``empty_like(like)``; copied only where it differs."""
    target = torch.empty_like(like)
    return value if value.dtype == target.dtype and value.stride() == target.stride() else target.copy_(value)


def _channels_first(tensor: Tensor) -> Tensor:
    """``(..., M, D)`` to ``(..., D, M)``: float32, contiguous, no gradient attached."""
    return tensor.detach().transpose(-1, -2).to(torch.float32).contiguous()


def _over_rows(kernel: Any, x: Tensor, q: Tensor, *others: Tensor) -> None:
    """Run ``kernel`` over all rows of ``x (B, D, N)`` with ``q (D, K)`` on torch's number of threads."""
    count, positions, vectors = x.shape[0] * x.shape[1], x.shape[2], q.shape[1]
    work = count * min(positions * vectors, 8 * (positions + vectors))
    threads = max(1, min(torch.get_num_threads(), count, work // WORK_PER_THREAD))
    step = max(1, -(-count // (threads * BLOCKS_PER_THREAD if threads > 1 else 1)))
    places = [tensor.data_ptr() for tensor in (x, q, *others)]
    job = np.array([0, 0, count, step, positions, *q.shape, *places], np.int64)
    address = job[1] = job.ctypes.data  # address of the counter of rows taken
    pool = _torch_pool() if threads > 1 and os.getpid() == _PROCESS else None
    if pool is not None:
        # All of torch's threads, even for little work: threads left out of a team end, and torch would start new ones.
        pool(kernel.address, address, torch.get_num_threads(), 0)
        return
    run = functools.partial(kernel.ctypes, address)  # releases the lock while it runs
    helpers = [threading.Thread(target=run, name="msrn-attention") for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    run()
    for helper in helpers:
        helper.join()


_PROCESS = os.getpid()


@functools.cache
def _torch_pool() -> Callable[[int, int, int, int], None] | None:
    """``GOMP_parallel`` of the OpenMP library that torch loaded; None where there is none."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            places = {line.split(maxsplit=5)[5].strip() for line in maps if "gomp" in line}
        own = os.path.dirname(os.path.realpath(torch.__file__))
        (place,) = [place for place in places if os.path.realpath(place).startswith(own + os.sep)]
        pool = ctypes.CDLL(place).GOMP_parallel
    except (OSError, ValueError, AttributeError):
        return None
    pool.argtypes, pool.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return pool
