"""Semantic attention on a GPU, fused, in Triton: no product is ever held (MSRN, section 3.3).

The mathematics is that of ``kernels.cpu``, with the same care: ``top`` is known beforehand, ``x - top`` is taken before
the product, sums run in float32, the backward pass makes ``e = exp(q (x - top))`` again. What differs is the machine.
In one cycle a multiprocessor makes 16 exponentials and starts 128 instructions, eight for each exponential. The loops
below need fewer, itself included, so that the exponentials are the floor; the design keeps it so.

- **No sum crosses threads inside a loop.** A thread takes up to 8 vectors of one channel and walks over every fourth
  position; four threads meet once, at the end. One value of x, once loaded, serves 8 exponentials.
- **The backward pass is two kernels**, because its two sums run over different axes. The first walks as the forward
  kernel does and sums over positions, for the vectors. The second gives a thread up to 8 positions of one channel and
  walks over the vectors, for the features. A single kernel would make e once instead of twice, and for that would add
  across threads for every vector or every position, which costs much of what it saves, or add in memory in an order
  that differs from run to run.
- **Both layouts of features run as they are.** The 32 threads of a program stand on 8 channels x 4 positions, so that a
  ``(B, D, N)`` and a channels-last ``(B, N, D)`` are read in pieces of 16 or 32 bytes, after the first time from the
  nearest caches. Strides are arguments; nothing is copied.
- **Nothing is tuned at run time.** Tiles follow from the shape by two rules, ``_per_thread`` and ``_walk``. A kernel is
  compiled once for a dtype, layout and tile (and again where a size or stride is a multiple of 16, or one), not for
  each B, N, D or K. Programs share nothing and every sum has one order: same input, same bits.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["attention_backward", "attention_forward"]

CHANNELS, POSITIONS = 8, 4
"""How the 32 threads of a program stand. Few positions mean little padding: N = 49 becomes 52."""
MOST_PER_THREAD = 8
"""Vectors, or positions, of one thread: enough to hide latencies, few enough that K = 84 becomes 88 and no more."""
ENOUGH_PROGRAMS = 4096
"""Twice what the largest GPUs hold at a time: 132 multiprocessors, and registers for 16 programs on each."""
SPAN = tl.constexpr(32)
"""Positions read at a time in the search for a channel's smallest and largest value."""
UNROLL = tl.constexpr(4)
"""Turns of a loop whose loads are under way together."""
LOG2_E = tl.constexpr(1.4426950408889634)
# One warp a program: no barriers, and many programs on a multiprocessor, whose arithmetic hides each other's loads.
# Pipelining through shared memory would cost instructions and hide nothing more.
OPTIONS = {"num_warps": 1, "num_stages": 1, "enable_fp_fusion": True}


def attention_forward(features: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``pooled (B, K, D)``, ``shift`` and ``total (B, D, K)`` float32 (see ``semantic_attention.Kernel``).

    Args:
        features: ``(B, N, D)`` float32, bfloat16 or float16, of any strides, on a GPU.
        vectors: ``(K, D)``, any floating dtype, on the same GPU; used as float32.
    """
    (images, positions, width), count = features.shape, vectors.shape[0]
    pooled = features.new_empty((images, count, width))
    shift = features.new_empty((images, width, count), dtype=torch.float32)
    total = torch.empty_like(shift)
    if pooled.numel():
        grid, turns, per_thread = _walk(images, width, count)
        with torch.cuda.device_of(features):  # type: ignore[no-untyped-call]
            _pool[grid](
                *(features, _plain(vectors), pooled, shift, total),
                *(*features.stride(), positions, width, count),
                *(turns, per_thread, CHANNELS, POSITIONS),
                **OPTIONS,
            )
    return pooled, shift, total


def attention_backward(
    grad: Tensor, features: Tensor, vectors: Tensor, shift: Tensor, total: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of features and vectors, laid out as ``empty_like`` of them, from ``grad (B, K, D)``.

    ``shift`` and ``total`` are those of ``attention_forward``. Three times ``(B, K, D)`` floats are held on the way.
    """
    (images, positions, width), count = features.shape, vectors.shape[0]
    grad_features, grad_vectors = torch.empty_like(features), torch.empty_like(vectors)
    if not grad.numel():
        return grad_features.zero_(), grad_vectors.zero_()
    q, grad = _plain(vectors), _plain(grad)
    # d out / d x is e times a line in x: its height at the top and its slope, written once, read by every position.
    by_image, height, slope = grad.new_empty((3, images, count, width)).unbind()
    low, high = grad.new_empty((2, images, width)).unbind()
    with torch.cuda.device_of(features):  # type: ignore[no-untyped-call]
        grid, turns, per_thread = _walk(images, width, count)
        _vector_gradient[grid](
            *(features, q, grad, shift.contiguous(), total.contiguous(), by_image, height, slope, low, high),
            *(*features.stride(), positions, width, count),
            *(turns, per_thread, CHANNELS, POSITIONS),
            **OPTIONS,
        )
        per_thread = _per_thread(triton.cdiv(positions, POSITIONS))
        blocks = triton.cdiv(positions, per_thread * POSITIONS)
        _feature_gradient[(images * blocks * triton.cdiv(width, CHANNELS),)](
            *(features, q, height, slope, low, high, grad_features),
            *(*features.stride(), *grad_features.stride(), positions, width, count),
            *(per_thread, CHANNELS, POSITIONS),
            **OPTIONS,
        )
    return grad_features, grad_vectors.copy_(by_image.sum(dim=0))


def _per_thread(size: int) -> int:
    """How many vectors or positions out of ``size`` a thread takes: a power of two, no more than needed, at most 8."""
    return min(MOST_PER_THREAD, triton.next_power_of_2(size))


def _walk(images: int, width: int, count: int) -> tuple[tuple[int], int, int]:
    """Grid of the kernels that walk over positions; how often one program walks; vectors of a walk.

    A program searches the extent of its channels once and walks as often as there are programs enough without it.
    """
    per_thread = _per_thread(count)
    walks, rows = triton.cdiv(count, per_thread), images * triton.cdiv(width, CHANNELS)
    turns = triton.cdiv(walks, min(walks, triton.cdiv(ENOUGH_PROGRAMS, rows)))
    return (rows * triton.cdiv(walks, turns),), turns, per_thread


def _plain(tensor: Tensor) -> Tensor:
    """Float32 and contiguous. Only for what is small beside the features."""
    return tensor.to(torch.float32).contiguous()


# ---- device code. Tiles are (vectors or positions of a thread, channels, positions); offsets into tensors are int64.


@triton.jit  # type: ignore[untyped-decorator]
def _block(blocks, num_channels, channels: tl.constexpr):  # type: ignore[no-untyped-def]
    """Image, block of vectors or positions (one of ``blocks``) and channels of this program."""
    channel_blocks = tl.cdiv(num_channels, channels)
    program = tl.program_id(0)
    image = (program // (channel_blocks * blocks)).to(tl.int64)
    d = program % channel_blocks * channels + tl.arange(0, channels)
    return image, program // channel_blocks % blocks, d.to(tl.int64)


@triton.jit  # type: ignore[untyped-decorator]
def _extent(rows, inside, stride_n, num_positions, channels: tl.constexpr):  # type: ignore[no-untyped-def]
    """The smallest and the largest x of each channel. ``rows (channels, 1)`` points to their first positions."""
    first = tl.load(rows, mask=inside, other=0.0).to(tl.float32)
    low = tl.broadcast_to(first, [channels, SPAN])
    high = low
    for start in tl.range(0, num_positions, SPAN, loop_unroll_factor=UNROLL):
        n = start + tl.arange(0, SPAN)[None, :]
        x = tl.load(rows + n.to(tl.int64) * stride_n, mask=inside & (n < num_positions), other=0.0).to(tl.float32)
        x = tl.where(n < num_positions, x, first)
        low, high = tl.minimum(low, x), tl.maximum(high, x)
    return tl.min(low, axis=1), tl.max(high, axis=1)


@triton.jit(do_not_specialize=["turns"])  # type: ignore[untyped-decorator]
def _pool(  # type: ignore[no-untyped-def]
    x_ptr, q_ptr, pooled_ptr, shift_ptr, total_ptr,
    stride_b, stride_n, stride_d, num_positions, num_channels, num_vectors,
    turns, per_thread: tl.constexpr, channels: tl.constexpr, positions: tl.constexpr,
):  # fmt: skip
    """``out = top + sum e (x - top) / sum e`` of some vectors and channels of one image."""
    image, block, d = _block(tl.cdiv(num_vectors, turns * per_thread), num_channels, channels)
    rows, inside = x_ptr + image * stride_b + d[:, None] * stride_d, d[:, None] < num_channels
    low, high = _extent(rows, inside, stride_n, num_positions, channels)
    whole = num_positions // positions * positions
    for first in range(block * turns * per_thread, min((block + 1) * turns * per_thread, num_vectors), per_thread):
        k = first + tl.arange(0, per_thread).to(tl.int64)[:, None]
        valid = (k < num_vectors) & (d < num_channels)[None, :]
        q = tl.load(q_ptr + k * num_channels + d[None, :], mask=valid, other=0.0)
        top = tl.where(q >= 0, high[None, :], low[None, :])
        rate = q * LOG2_E
        sum_0 = tl.zeros([per_thread, channels, positions], tl.float32)
        sum_1 = tl.zeros([per_thread, channels, positions], tl.float32)
        for rest in tl.static_range(2):  # twice the same loop: a mask is paid for only where positions are left over
            for start in tl.range(
                whole * rest, num_positions if rest else whole, positions, loop_unroll_factor=1 if rest else UNROLL
            ):
                n = start + tl.arange(0, positions).to(tl.int64)[None, :]
                mask = inside & (n < num_positions) if rest else inside
                x = tl.load(rows + n * stride_n, mask=mask, other=0.0).to(tl.float32)
                below = x[None, :, :] - top[:, :, None]
                e = tl.exp2(rate[:, :, None] * below)
                if rest:
                    e = tl.where((n < num_positions)[None, :, :], e, 0.0)
                sum_0 += e
                sum_1 += e * below
        total = tl.sum(sum_0, axis=2)
        shift = tl.sum(sum_1, axis=2) / total

        by_channel = (image * num_channels + d[None, :]) * num_vectors + k  # (B, D, K)
        tl.store(total_ptr + by_channel, total, mask=valid)
        tl.store(shift_ptr + by_channel, shift, mask=valid)
        tl.store(pooled_ptr + (image * num_vectors + k) * num_channels + d[None, :], top + shift, mask=valid)


@triton.jit(do_not_specialize=["turns"])  # type: ignore[untyped-decorator]
def _vector_gradient(  # type: ignore[no-untyped-def]
    x_ptr, q_ptr, grad_ptr, shift_ptr, total_ptr, by_image_ptr, height_ptr, slope_ptr, low_ptr, high_ptr,
    stride_b, stride_n, stride_d, num_positions, num_channels, num_vectors,
    turns, per_thread: tl.constexpr, channels: tl.constexpr, positions: tl.constexpr,
):  # fmt: skip
    """``grad q = g sum e (x - out)^2 / sum e`` of one image, and what ``_feature_gradient`` needs."""
    image, block, d = _block(tl.cdiv(num_vectors, turns * per_thread), num_channels, channels)
    rows, inside = x_ptr + image * stride_b + d[:, None] * stride_d, d[:, None] < num_channels
    low, high = _extent(rows, inside, stride_n, num_positions, channels)
    if block == 0:  # they are the same for every block of vectors
        tl.store(low_ptr + image * num_channels + d, low, mask=d < num_channels)
        tl.store(high_ptr + image * num_channels + d, high, mask=d < num_channels)
    whole = num_positions // positions * positions
    for first in range(block * turns * per_thread, min((block + 1) * turns * per_thread, num_vectors), per_thread):
        k = first + tl.arange(0, per_thread).to(tl.int64)[:, None]
        valid = (k < num_vectors) & (d < num_channels)[None, :]
        by_channel = (image * num_channels + d[None, :]) * num_vectors + k  # (B, D, K)
        by_vector = (image * num_vectors + k) * num_channels + d[None, :]  # (B, K, D)
        q = tl.load(q_ptr + k * num_channels + d[None, :], mask=valid, other=0.0)
        shift = tl.load(shift_ptr + by_channel, mask=valid, other=0.0)
        share = tl.load(grad_ptr + by_vector, mask=valid, other=0.0)
        share /= tl.load(total_ptr + by_channel, mask=valid, other=1.0)
        # The line share (1 + q (x - out)), where x - out = (x - top) - shift. As q shift is at most 0, and small (a
        # mean of exponents, above -log N), 1 - q shift loses nothing.
        tl.store(height_ptr + by_vector, share * (1.0 - q * shift), mask=valid)
        tl.store(slope_ptr + by_vector, share * q, mask=valid)

        top = tl.where(q >= 0, high[None, :], low[None, :])
        rate = q * LOG2_E
        spread = tl.zeros([per_thread, channels, positions], tl.float32)
        for rest in tl.static_range(2):
            for start in tl.range(
                whole * rest, num_positions if rest else whole, positions, loop_unroll_factor=1 if rest else UNROLL
            ):
                n = start + tl.arange(0, positions).to(tl.int64)[None, :]
                mask = inside & (n < num_positions) if rest else inside
                x = tl.load(rows + n * stride_n, mask=mask, other=0.0).to(tl.float32)
                below = x[None, :, :] - top[:, :, None]
                off = below - shift[:, :, None]  # x - out, without the rounding of out
                e = tl.exp2(rate[:, :, None] * below)
                if rest:
                    e = tl.where((n < num_positions)[None, :, :], e, 0.0)
                spread += e * off * off
        tl.store(by_image_ptr + by_vector, share * tl.sum(spread, axis=2), mask=valid)


@triton.jit  # type: ignore[untyped-decorator]
def _feature_gradient(  # type: ignore[no-untyped-def]
    x_ptr, q_ptr, height_ptr, slope_ptr, low_ptr, high_ptr, grad_x_ptr,
    stride_b, stride_n, stride_d, grad_stride_b, grad_stride_n, grad_stride_d,
    num_positions, num_channels, num_vectors,
    per_thread: tl.constexpr, channels: tl.constexpr, positions: tl.constexpr,
):  # fmt: skip
    """``grad x = sum over k of  e (height + slope (x - top))`` of some positions and channels of one image."""
    program, channel_blocks = tl.program_id(0), tl.cdiv(num_channels, channels)
    blocks = tl.cdiv(num_positions, per_thread * positions)
    image = (program // (channel_blocks * blocks)).to(tl.int64)
    first_n = (program // channel_blocks % blocks).to(tl.int64) * (per_thread * positions)
    first_d = (program % channel_blocks).to(tl.int64) * channels
    # One dimension, channels fastest, folded after the load. How a tile of several dimensions is laid over the threads
    # differs between versions of Triton, and a thread that is given several channels has the loads of each of them in
    # the loop. For the same reason neighbours change places (^ 1): channels side by side would be one thread's.
    lanes: tl.constexpr = channels * positions
    tile, lane = tl.arange(0, per_thread * lanes), tl.arange(0, lanes)
    n, tile_d, d = first_n + tile // channels, first_d + (tile % channels ^ 1), first_d + (lane % channels ^ 1)
    valid, inside = (n < num_positions) & (tile_d < num_channels), d < num_channels
    x = tl.load(x_ptr + image * stride_b + n * stride_n + tile_d * stride_d, mask=valid, other=0.0).to(tl.float32)
    x = tl.reshape(x, [per_thread, lanes])

    low = tl.load(low_ptr + image * num_channels + d, mask=inside, other=0.0)
    high = tl.load(high_ptr + image * num_channels + d, mask=inside, other=0.0)
    height_ptr += image * num_vectors * num_channels
    slope_ptr += image * num_vectors * num_channels
    grad_x = tl.zeros([per_thread, lanes], tl.float32)
    for _ in tl.range(num_vectors, loop_unroll_factor=UNROLL):
        q = tl.load(q_ptr + d, mask=inside, other=0.0)
        height = tl.load(height_ptr + d, mask=inside, other=0.0)
        slope = tl.load(slope_ptr + d, mask=inside, other=0.0)
        below = x - tl.where(q >= 0, high, low)[None, :]
        grad_x += tl.exp2((q * LOG2_E)[None, :] * below) * (height[None, :] + slope[None, :] * below)
        q_ptr += num_channels
        height_ptr += num_channels
        slope_ptr += num_channels
    grad_x = tl.reshape(grad_x, [per_thread * lanes])
    grad_x_ptr += image * grad_stride_b
    tl.store(grad_x_ptr + n * grad_stride_n + tile_d * grad_stride_d, grad_x, mask=valid)
