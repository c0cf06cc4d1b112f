"""Multi-head attention and what stands around it for one image, as loops over heads, queries and positions."""

from __future__ import annotations

import math

import numpy as np
from torch import nn

from msrn.models.layers import Attention, AttentionBlock


def linear(vectors: np.ndarray, layer: nn.Module) -> np.ndarray:
    """``(n, in)`` to ``(n, out)``."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    return np.array(
        [[float(np.dot(row, vector)) + b for row, b in zip(weight, bias, strict=True)] for vector in vectors]
    )


def layer_norm(vectors: np.ndarray, layer: nn.LayerNorm) -> np.ndarray:
    """Each vector with mean 0 and variance 1, scaled and shifted."""
    rows = []
    for vector in vectors:
        mean = sum(vector) / len(vector)
        variance = sum((value - mean) ** 2 for value in vector) / len(vector)
        rows.append([(value - mean) / math.sqrt(variance + layer.eps) for value in vector])
    return np.array(rows) * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def attend(
    queries: np.ndarray, keys: np.ndarray, values: np.ndarray, attention: Attention
) -> tuple[np.ndarray, np.ndarray]:
    """Attended vectors ``(Q, D)``, and the mean over the heads of their weights ``(Q, N)``."""
    q, k, v = linear(queries, attention.query), linear(keys, attention.key), linear(values, attention.value)
    size = q.shape[1] // attention.heads
    attended, weights = np.zeros_like(q), np.zeros((len(q), len(k)))
    for head in range(attention.heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(q)):
            scores = [math.exp(float(np.dot(q[i, part], k[n, part])) / math.sqrt(size)) for n in range(len(k))]
            for n in range(len(k)):
                share = scores[n] / sum(scores)
                attended[i, part] += share * v[n, part]
                weights[i, n] += share / attention.heads
    return linear(attended, attention.output), weights


def run_block(
    vectors: np.ndarray, queries: np.ndarray, keys: np.ndarray, values: np.ndarray, block: AttentionBlock
) -> tuple[np.ndarray, np.ndarray]:
    """The block's vectors ``(Q, D)``, and its attention weights ``(Q, N)``."""
    attended, weights = attend(queries, keys, values, block.attention)
    vectors = layer_norm(vectors + attended, block.attention_norm)
    first, last = block.feed_forward[0], block.feed_forward[3]
    return layer_norm(vectors + linear(np.maximum(linear(vectors, first), 0), last), block.feed_forward_norm), weights
