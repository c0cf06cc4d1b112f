"""Semantic attention of rows of numbers, in numba: no product is ever held (MSRN, section 3.3).

A row is one channel of one image: N positions ``x``, and for each of K vectors one number ``q``. Per row and vector:

    e[n] = exp(q (x[n] - top))       s0 = sum e       shift = sum e (x - top) / s0       out = top + shift

``q x`` is largest at ``top = max x`` when q >= 0 and at ``top = min x`` otherwise, the same two numbers for all K
vectors: no exponent is above zero, nothing can overflow, and the largest needs no search.

**By moments**, in ``M (N + K)`` operations a row in place of N K exponentials. With ``x = c + h t``, ``t`` in [-1, 1]
and ``z = q h``, the exponential series parts what depends on positions from what depends on vectors:

    sum_n t^j exp(z t) = sum_m  z^m / m!  mu[m + j]        mu[m] = sum_n t[n]^m

M terms leave an error below 1e-9 of the largest term, and so of the sum, since one position has ``t = 1`` and one
``t = -1``. M grows with the row's largest ``|z|`` (``TERMS``), to about 28 at the 5 that is usual in trained networks.
The gradient of ``q`` needs the moments again; that of ``x`` is a polynomial in ``t`` with sums over vectors as its
coefficients. All is summed in float64, where what cancels is far below the rounding of float32.

**Position by position**, where a row has a ``|z|`` beyond the table, or so few positions or vectors that this is
faster: one pass gives s0 and shift; the backward pass has them, computes e again and, with ``g`` the incoming gradient,

    grad x[n] = sum over k of  g e[n] / s0 (1 + q (x[n] - out))       grad q = sum over b of  g sum e (x - out)^2 / s0

The difference ``x - top`` is taken before the product, so exponents keep their relative precision however large ``q x``
is, and the exponential is our own, because LLVM cannot vectorise the library's. Which way a row takes depends on its
own values alone. Nothing here needs torch: a kernel gets the address of a job, an array of numbers and addresses.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["backward", "forward"]

STEPS, LARGEST, TRUNCATION = 4, 48, 1e-10  # steps of the table per unit of |z|, its end, and the first term left out
EXPONENTIAL = 8  # cost of one exponential and its sums, in operations of the series on a position or vector

if numba.config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT is set: the kernel would run as plain Python")


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


_minimum, _maximum = _extremum("llvm.minimum"), _extremum("llvm.maximum")
_LOG2_E = np.float32(1.4426950408889634)
_LOWEST = np.float32(-125.5)  # 2 ** -125.5 is about 2e-38: negligible, and still a normal number
_BIAS = np.float32(3 * 2**22 + 127)  # float32 of this size are whole numbers: n + _BIAS has n + 127 in its lowest bits
_ONE, _P1, _P2 = np.float32(1), np.float32(0.69314698), np.float32(0.24022242)  # 1 + _P1 f + ... + _P5 f^5: minimax
_P3, _P4, _P5 = np.float32(0.05550734), np.float32(0.00967151), np.float32(0.00132646)  # on -1/2 .. 1/2, to 1.1e-7


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
    return low, high, (np.float64(high) + low) / 2, (np.float64(high) - low) / 2


def _terms() -> tuple[np.ndarray, np.ndarray]:
    """How many terms of the series serve ``|z|`` up to ``i / STEPS``; and ``1 / m!``, as many as ``_moments`` fills."""
    counts = []
    for place in range(LARGEST * STEPS + 1):
        z, m = place / STEPS, 4
        while m <= z or m * math.log(max(z, 1e-9)) - math.lgamma(m + 1) - z > math.log(TRUNCATION):
            m += 4  # the loops take four at a time
        counts.append(m)
    return np.array(counts), np.array([1 / math.factorial(m) for m in range(max(counts) + 5)])


TERMS, INVERSE_FACTORIALS = _terms()


@_within
def _terms_for(vectors: Any, half: Any, positions: Any) -> Any:
    """Terms of the series for a row of extent ``2 half``; 0 where position by position is faster, or a NaN."""
    largest, count = np.float32(0), vectors.shape[0]
    for k in range(count):
        largest = max(largest, abs(vectors[k]))
    largest *= half
    if not (half > 0 and largest < LARGEST):
        return 0
    terms = TERMS[int(largest * STEPS) + 1]
    return terms if terms * (positions + 2 * count) < EXPONENTIAL * positions * count else 0


@_within
def _moments(
    terms: Any, row: Any, vectors: Any, centre: Any, half: Any, t: Any, power: Any, moments: Any, z: Any
) -> None:
    """``t (N,)`` of a row, ``z (K,)`` of its vectors, and sums ``moments[m]`` of powers of t, m up to ``terms + 4``."""
    for k in range(vectors.shape[0]):
        z[k] = vectors[k] * half
    for n in range(row.shape[0]):
        t[n] = (row[n] - centre) / half
        power[n] = 1.0
    moments[0] = row.shape[0]
    for m in range(1, terms + 2, 4):
        m1 = m2 = m3 = m4 = 0.0
        for n in range(row.shape[0]):
            p1 = power[n] * t[n]
            p2 = p1 * t[n]
            p3 = p2 * t[n]
            p4 = p3 * t[n]
            power[n] = p4
            m1 += p1
            m2 += p2
            m3 += p3
            m4 += p4
        moments[m], moments[m + 1], moments[m + 2], moments[m + 3] = m1, m2, m3, m4


@_within
def _series(terms: Any, moments: Any, offset: Any, z: Any, sums: Any) -> None:
    """``sums[k] = sum_m z[k]^m / m! moments[m + offset]``, by Horner's rule."""
    sums[:] = 0.0
    for m in range(terms - 4, -1, -4):
        c0 = moments[m + offset] * INVERSE_FACTORIALS[m]
        c1 = moments[m + 1 + offset] * INVERSE_FACTORIALS[m + 1]
        c2 = moments[m + 2 + offset] * INVERSE_FACTORIALS[m + 2]
        c3 = moments[m + 3 + offset] * INVERSE_FACTORIALS[m + 3]
        for k in range(z.shape[0]):
            sums[k] = (((sums[k] * z[k] + c3) * z[k] + c2) * z[k] + c1) * z[k] + c0


@_within
def _gradient_by_moments(
    terms: Any, t: Any, z: Any, constant: Any, linear: Any, power: Any, c: Any, value: Any, out: Any
) -> None:
    """``out[n] = sum_k exp(z[k] t[n]) (constant[k] + linear[k] t[n])``, a polynomial of coefficients ``c`` in t."""
    c[:] = 0.0
    power[:] = 1.0
    for m in range(0, terms, 4):
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = 0.0
        for k in range(z.shape[0]):
            p0 = power[k]
            p1 = p0 * z[k]
            p2 = p1 * z[k]
            p3 = p2 * z[k]
            power[k] = p3 * z[k]
            a0 += constant[k] * p0
            a1 += constant[k] * p1
            a2 += constant[k] * p2
            a3 += constant[k] * p3
            b0 += linear[k] * p0
            b1 += linear[k] * p1
            b2 += linear[k] * p2
            b3 += linear[k] * p3
        f0, f1 = INVERSE_FACTORIALS[m], INVERSE_FACTORIALS[m + 1]
        f2, f3 = INVERSE_FACTORIALS[m + 2], INVERSE_FACTORIALS[m + 3]
        c[m] += a0 * f0
        c[m + 1] += a1 * f1 + b0 * f0
        c[m + 2] += a2 * f2 + b1 * f1
        c[m + 3] += a3 * f3 + b2 * f2
        c[m + 4] += b3 * f3
    value[:] = c[terms]
    for m in range(terms - 4, -1, -4):
        for n in range(t.shape[0]):
            value[n] = (((value[n] * t[n] + c[m + 3]) * t[n] + c[m + 2]) * t[n] + c[m + 1]) * t[n] + c[m]
    out[:] = value


@_within
def _forward_rows(first: Any, last: Any, x: Any, q: Any, pooled: Any, shift: Any, total: Any) -> None:
    """Rows ``first`` to ``last`` of a job of ``forward``."""
    positions, count = x.shape[1], q.shape[1]
    t, power, moments = np.empty(positions), np.empty(positions), np.empty(INVERSE_FACTORIALS.size)
    z, s0, s1 = np.empty(count), np.empty(count), np.empty(count)
    for r in range(first, last):
        row, vectors = x[r], q[r % q.shape[0]]
        low, high, centre, half = _extent(row)
        terms = _terms_for(vectors, half, positions)
        if terms > 0:
            _moments(terms, row, vectors, centre, half, t, power, moments, z)
            _series(terms, moments, 0, z, s0)
            _series(terms, moments, 1, z, s1)
            for k in range(count):
                mean = s1[k] / s0[k]
                total[r, k] = s0[k] * _exp2(np.float32(-abs(z[k])) * _LOG2_E)
                shift[r, k] = half * (mean - 1 if vectors[k] >= 0 else mean + 1)
                pooled[r, k] = centre + half * mean
        else:
            for k in range(count):
                top = high if vectors[k] >= 0 else low
                rate = vectors[k] * _LOG2_E
                e0 = e1 = np.float32(0)
                for n in range(positions):
                    below = row[n] - top
                    e = _exp2(rate * below)
                    e0 += e
                    e1 += e * below
                total[r, k] = e0
                shift[r, k] = e1 / e0
                pooled[r, k] = top + shift[r, k]


@_within
def _backward_rows(
    first: Any, last: Any, x: Any, q: Any, shift: Any, total: Any, grad: Any, grad_x: Any, grad_q: Any
) -> None:
    """Rows ``first`` to ``last`` of a job of ``backward``."""
    positions, count = x.shape[1], q.shape[1]
    t, power, moments = np.empty(positions), np.empty(positions), np.empty(INVERSE_FACTORIALS.size)
    z, s0, s1, s2 = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
    for r in range(first, last):
        row, vectors, grad_row = x[r], q[r % q.shape[0]], grad_x[r]
        low, high, centre, half = _extent(row)
        terms = _terms_for(vectors, half, positions)
        if terms > 0:
            _moments(terms, row, vectors, centre, half, t, power, moments, z)
            _series(terms, moments, 0, z, s0)
            _series(terms, moments, 1, z, s1)
            _series(terms, moments, 2, z, s2)
            for k in range(count):
                mean = s1[k] / s0[k]
                grad_q[r, k] = grad[r, k] * half * half * (s2[k] / s0[k] - mean * mean)
                share = grad[r, k] / s0[k]
                s0[k], s1[k] = share * (1 - z[k] * mean), share * z[k]  # of 1 and of t, times exp(z t)
            _gradient_by_moments(terms, t, z, s0, s1, s2, moments, power, grad_row)
        else:
            for k in range(count):
                top = high if vectors[k] >= 0 else low
                rate = vectors[k] * _LOG2_E
                off_top = shift[r, k]
                direct, spread = grad[r, k] / total[r, k], np.float32(0)
                slope = direct * vectors[k]
                for n in range(positions):
                    below = row[n] - top
                    e = _exp2(rate * below)
                    off = below - off_top  # x - out, without the rounding of out
                    grad_row[n] += e * (direct + slope * off)
                    spread += e * off * off
                grad_q[r, k] = direct * spread


@_kernel
def forward(address: Any) -> None:
    """The work of one thread: take rows until none is left.

    Args:
        address: of a job, an array of int64: rows taken (shared by the threads), its own address, rows R, rows taken at
            a time, N, D, K, and the addresses of float32 arrays: ``x (R, N)`` and ``q (D, K)``, then the results
            ``pooled, shift, total (R, K)``. Row r is channel ``r % D``.
    """
    job = numba.carray(address, (12,), np.int64)
    rows, step, positions, width, count = job[2], job[3], job[4], job[5], job[6]
    x, q = numba.carray(_floats(job[7]), (rows, positions)), numba.carray(_floats(job[8]), (width, count))
    pooled, shift = numba.carray(_floats(job[9]), (rows, count)), numba.carray(_floats(job[10]), (rows, count))
    total = numba.carray(_floats(job[11]), (rows, count))
    while True:
        first = _take(job[1], step)
        if first >= rows:
            return
        _forward_rows(first, min(first + step, rows), x, q, pooled, shift, total)


@_kernel
def backward(address: Any) -> None:
    """As ``forward``; after ``x`` and ``q`` come ``shift, total, grad (R, K)`` and the results ``grad_x (R, N)``, which
    holds zeros, and ``grad_q (R, K)``."""
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
