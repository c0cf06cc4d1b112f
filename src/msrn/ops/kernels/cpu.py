"""Fused semantic attention on a CPU, in numba: no product is ever held (MSRN, section 3.3).

A row is one channel of one image: N positions ``x``, and for each of K vectors one number ``q``. Per row and vector:

    e[n] = exp(q (x[n] - top))       s0 = sum e       shift = sum e (x - top) / s0       out = top + shift

One pass over the positions suffices, because the largest exponent needs no search: ``q x`` is largest at
``top = max x`` when q >= 0 and at ``top = min x`` otherwise, the same two numbers for all K vectors. So no exponent is
above zero, nothing can overflow, and no sum is rescaled. The difference ``x - top`` is taken before the product, so
exponents keep their relative precision however large ``q x`` is. The backward pass has ``s0`` and ``shift``, computes e
again and, with ``g`` the incoming gradient, computes in one pass

    grad x[n] = sum over k of  g e[n] / s0 (1 + q (x[n] - out))       grad q = sum over b of  g sum e (x - out)^2 / s0

Nothing of size N * K is ever stored: a row's positions stay in the nearest cache while all K vectors read them.

Two choices have particular reasons. The exponential is our own, because LLVM cannot vectorise the library's. And rows
run on the threads of torch's own pool (GNU OpenMP's ``GOMP_parallel``): these spin for a while after each of torch's
operations, so other threads would share cores with them and take twice as long. Where that pool is not found, and in a
forked child, which the pool does not survive, Python threads do the same work in code that releases the lock; numba's
own pools would abort there, or with two callers at once. Rows are independent, so results are the same bit for bit for
any number of threads.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

__all__ = ["attention_backward", "attention_forward"]

WORK_PER_THREAD = 500_000
"""Exponentials per additional thread: about a quarter of a millisecond, several times what starting one takes."""
BLOCKS_PER_THREAD = 8
"""Rows are handed out in this many blocks per thread, so that a core busy elsewhere does not delay the others."""

if numba.config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT is set: the kernel would run as plain Python")


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
    _over_rows(_forward, x, q, pooled, shift, total)
    return pooled.transpose(1, 2).to(features.dtype), shift, total


def attention_backward(
    grad: Tensor, features: Tensor, vectors: Tensor, shift: Tensor, total: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of features and vectors, laid out as ``empty_like`` of them, from ``grad (B, K, D)``."""
    x, q = _channels_first(features), _channels_first(vectors)
    grad_x = torch.zeros_like(x)
    grad_q = torch.empty_like(shift)  # (B, D, K): summed over images afterwards, always in one order
    _over_rows(_backward, x, q, shift, total, _channels_first(grad), grad_x, grad_q)
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
    rows, positions = x.shape[0] * x.shape[1], x.shape[2]
    threads = max(1, min(torch.get_num_threads(), rows, rows * positions * q.shape[1] // WORK_PER_THREAD))
    step = max(1, -(-rows // (threads * BLOCKS_PER_THREAD if threads > 1 else 1)))
    places = [tensor.data_ptr() for tensor in (x, q, *others)]
    job = np.array([0, 0, rows, step, positions, *q.shape, *places], np.int64)
    address = job[1] = job.ctypes.data  # address of the counter of rows taken
    pool = _torch_pool() if threads > 1 and os.getpid() == _PROCESS else None
    if pool is not None:
        # All of torch's threads, even for little work: threads left out of a team end, and torch would start new ones.
        pool(kernel.address, address, torch.get_num_threads(), 0)
        return
    work = functools.partial(kernel.ctypes, address)  # releases the lock while it runs
    helpers = [threading.Thread(target=work, name="msrn-attention") for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    work()
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


def _kernel(function: Callable[[Any], None]) -> Any:
    """A kernel compiled now, or loaded as another process compiled it; not kept where nothing can be written."""
    kind, options = types.void(types.voidptr), {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"}
    try:
        return numba.cfunc(kind, cache=True, **options)(function)
    except (RuntimeError, OSError):  # no folder to write to; a full disk
        return numba.cfunc(kind, **options)(function)


# Inlined, so that a kernel is one function of machine code. A separate function would be compiled by itself and again
# within the kernel; which of the two runs, and so the last bits of a result, would depend on what is found on disk.
_within = functools.partial(numba.njit, inline="always")


@intrinsic  # type: ignore[untyped-decorator]
def _power_of_two(typing: Any, biased: Any) -> Any:
    """``2 ** n`` of the float whose lowest bits hold n + 127: those bits, shifted to the place of the exponent."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        bits = builder.bitcast(arguments[0], word)
        return builder.bitcast(builder.shl(bits, ir.Constant(word, 23)), ir.FloatType())

    return types.float32(types.float32), generate


def _extremum(name: str) -> Any:
    """LLVM's minimum or maximum; unlike a comparison it vectorises without the assumption that there is no NaN."""

    @intrinsic  # type: ignore[untyped-decorator]
    def extremum(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = ir.FloatType()
            function = builder.module.declare_intrinsic(name, [kind], ir.FunctionType(kind, [kind, kind]))
            return builder.call(function, arguments)

        return types.float32(types.float32, types.float32), generate

    return extremum


@intrinsic  # type: ignore[untyped-decorator]
def _take(typing: Any, address: Any, count: Any) -> Any:
    """Add to the number at an address atomically; the result is the number before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", place, arguments[1], "monotonic")

    return types.int64(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _floats(typing: Any, address: Any) -> Any:
    """A pointer to the float32 numbers at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.FloatType().as_pointer())

    return types.CPointer(types.float32)(types.int64), generate


_minimum = _extremum("llvm.minimum")
_maximum = _extremum("llvm.maximum")
_LOG2_E = np.float32(1.4426950408889634)
_LOWEST = np.float32(-125.5)  # 2 ** -125.5 is about 2e-38: negligible, and still a normal number
_BIAS = np.float32(3 * 2**22 + 127)  # float32 of this size are whole numbers: n + _BIAS has n + 127 in its lowest bits
_P1 = np.float32(0.69314698)  # 1 + _P1 f + ... + _P5 f^5: minimax relative error on -1/2 .. 1/2, 1.1e-7
_P2 = np.float32(0.24022242)
_P3 = np.float32(0.05550734)
_P4 = np.float32(0.00967151)
_P5 = np.float32(0.00132646)
_ONE = np.float32(1)


@_within
def _exp2(a: Any) -> Any:
    """``2 ** a`` for a <= 0, to 1.3e-7 of its value; NaN stays NaN. ``2 ** n`` times a polynomial on -1/2 .. 1/2."""
    a = _LOWEST if a < _LOWEST else a  # in this order, NaN passes
    n = np.rint(a)
    f = a - n
    return (_ONE + f * (_P1 + f * (_P2 + f * (_P3 + f * (_P4 + f * _P5))))) * _power_of_two(n + _BIAS)


@_within
def _extent(x: Any) -> Any:
    low = high = x[0]
    for n in range(x.shape[0]):
        low, high = _minimum(low, x[n]), _maximum(high, x[n])
    return low, high


@_within
def _forward_rows_across(first: Any, last: Any, x: Any, q: Any, pooled: Any, shift: Any, total: Any) -> None:
    """``_forward_rows`` for few positions, vectorised over vectors: a sum over so few positions would not vectorise."""
    count = q.shape[1]
    # Whole registers, padded with zero vectors. Without the maximum LLVM cannot derive the number of iterations.
    wide = max(32, (count + 31) // 32 * 32)
    rate, top = np.zeros(wide, np.float32), np.zeros(wide, np.float32)
    s0, s1 = np.empty(wide, np.float32), np.empty(wide, np.float32)
    for r in range(first, last):
        row, vectors = x[r], q[r % q.shape[0]]
        low, high = _extent(row)
        for k in range(count):
            top[k] = high if vectors[k] >= 0 else low
            rate[k] = vectors[k] * _LOG2_E
        s0[:] = s1[:] = np.float32(0)
        for n in range(row.shape[0]):
            for k in range(wide):
                below = row[n] - top[k]
                e = _exp2(rate[k] * below)
                s0[k] += e
                s1[k] += e * below
        for k in range(count):
            total[r, k] = s0[k]
            shift[r, k] = s1[k] / s0[k]
            pooled[r, k] = top[k] + shift[r, k]


@_within
def _forward_rows(first: Any, last: Any, x: Any, q: Any, pooled: Any, shift: Any, total: Any) -> None:
    """``x (R, N), q (D, K)`` to ``pooled, shift, total (R, K)``; row r is channel r % D."""
    for r in range(first, last):
        row, vectors = x[r], q[r % q.shape[0]]
        low, high = _extent(row)
        for k in range(vectors.shape[0]):
            top = high if vectors[k] >= 0 else low
            rate = vectors[k] * _LOG2_E
            s0 = s1 = np.float32(0)
            for n in range(row.shape[0]):
                below = row[n] - top
                e = _exp2(rate * below)
                s0 += e
                s1 += e * below
            total[r, k] = s0
            shift[r, k] = s1 / s0
            pooled[r, k] = top + shift[r, k]


@_within
def _backward_rows(
    first: Any, last: Any, x: Any, q: Any, shift: Any, total: Any, grad: Any, grad_x: Any, grad_q: Any
) -> None:
    """Add to ``grad_x (R, N)``, which starts at zero, and set ``grad_q (R, K)``; the rest as in ``_forward_rows``."""
    for r in range(first, last):
        row, vectors, grad_row = x[r], q[r % q.shape[0]], grad_x[r]
        low, high = _extent(row)
        for k in range(vectors.shape[0]):
            top = high if vectors[k] >= 0 else low
            rate = vectors[k] * _LOG2_E
            centre = shift[r, k]
            share = grad[r, k] / total[r, k]
            slope = share * vectors[k]
            spread = np.float32(0)
            for n in range(row.shape[0]):
                below = row[n] - top
                e = _exp2(rate * below)
                off = below - centre  # x - out, without the rounding of out
                grad_row[n] += e * (share + slope * off)
                spread += e * off * off
            grad_q[r, k] = share * spread


@_kernel
def _forward(address: Any) -> None:
    """The work of one thread on a job of ``_over_rows``: take rows until none is left."""
    job = numba.carray(address, (12,), np.int64)
    rows, step, positions, width, count = job[2], job[3], job[4], job[5], job[6]
    x, q = numba.carray(_floats(job[7]), (rows, positions)), numba.carray(_floats(job[8]), (width, count))
    pooled, shift = numba.carray(_floats(job[9]), (rows, count)), numba.carray(_floats(job[10]), (rows, count))
    total = numba.carray(_floats(job[11]), (rows, count))
    while True:
        first = _take(job[1], step)
        if first >= rows:
            return
        if positions <= 64 and count >= 32:
            _forward_rows_across(first, min(first + step, rows), x, q, pooled, shift, total)
        else:
            _forward_rows(first, min(first + step, rows), x, q, pooled, shift, total)


@_kernel
def _backward(address: Any) -> None:
    """As ``_forward``."""
    job = numba.carray(address, (14,), np.int64)
    rows, step, positions, width, count = job[2], job[3], job[4], job[5], job[6]
    x, q = numba.carray(_floats(job[7]), (rows, positions)), numba.carray(_floats(job[8]), (width, count))
    shift, total = numba.carray(_floats(job[9]), (rows, count)), numba.carray(_floats(job[10]), (rows, count))
    grad, grad_x = numba.carray(_floats(job[11]), (rows, count)), numba.carray(_floats(job[12]), (rows, positions))
    grad_q = numba.carray(_floats(job[13]), (rows, count))
    while True:
        first = _take(job[1], step)
        if first >= rows:
            return
        _backward_rows(first, min(first + step, rows), x, q, shift, total, grad, grad_x, grad_q)
