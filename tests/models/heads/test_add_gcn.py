"""ADD-GCN against the paper's formulae, written as loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from msrn.config import load_settings
from msrn.errors import ConfigError
from msrn.models.heads.add_gcn import ADDGCN, Options
from msrn.models.heads.base import LabelInputs

LABELS = 3


def head() -> ADDGCN:
    torch.manual_seed(0)
    return ADDGCN(Options(width=6), channels=(4, 5), labels=LabelInputs(("cat", "dog", "sofa"))).double()


def maps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.zeros(2, 4, 6, 8), torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64)]


def numbers(layer: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    weight = layer.weight.detach().numpy()
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().numpy()
    return weight.reshape(len(weight), -1), bias


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def graph_layer(graph: np.ndarray, vectors: np.ndarray, layer: nn.Module) -> np.ndarray:
    weight, bias = numbers(layer)
    rows = []
    for i in range(LABELS):
        mixed = sum(graph[i, j] * vectors[j] for j in range(LABELS))
        row = weight @ mixed + bias
        rows.append([value if value > 0 else 0.2 * value for value in row])
    return np.array(rows)


def by_loops(gcn: ADDGCN, image: np.ndarray) -> tuple[list[float], np.ndarray]:
    """Logits, and the sigmoid of the activation maps over their sum ``(L, N)``, for features ``(C, N)``."""
    activation, (project, bias) = numbers(gcn.activations)[0], numbers(gcn.projection)
    places = range(image.shape[1])
    scores = np.array([[float(activation[i] @ image[:, n]) for n in places] for i in range(LABELS)])
    vectors = np.array(
        [sum(sigmoid(scores[i, n]) * (project @ image[:, n] + bias) for n in places) for i in range(LABELS)]
    )
    static, dynamic = gcn.static_graph, gcn.dynamic_graph
    vectors = vectors + graph_layer(static.graph.detach().numpy(), vectors, static.output)
    weight, bias = numbers(dynamic.whole)
    whole = weight @ (sum(vectors) / LABELS) + bias
    joined = np.concatenate((numbers(dynamic.edges)[0], numbers(dynamic.edges_of_whole)[0]), axis=1)  # W_A
    offsets = numbers(dynamic.edges_of_whole)[1]
    graph = np.array(
        [
            [sigmoid(float(joined[i] @ np.concatenate((vectors[j], whole))) + offsets[i]) for j in range(LABELS)]
            for i in range(LABELS)
        ]
    )
    vectors = vectors + graph_layer(graph, vectors, dynamic.output)
    output, offset = numbers(gcn.output)
    logits = [(max(scores[i]) + float(output[i] @ vectors[i]) + offset[i]) / 2 for i in range(LABELS)]
    shares = np.vectorize(sigmoid)(scores)
    return logits, shares / shares.sum(axis=1, keepdims=True)


@torch.no_grad()
def test_logits_and_attention_are_those_of_the_formulae() -> None:
    gcn = head()
    logits, (attention,) = gcn(maps()).logits.numpy(), gcn.attention(maps())
    for number, image in enumerate(maps()[-1].flatten(2).numpy()):
        expected, shares = by_loops(gcn, image)
        np.testing.assert_allclose(logits[number], expected, rtol=1e-10)
        np.testing.assert_allclose(attention[number].flatten(1).numpy(), shares, rtol=1e-10)


@torch.no_grad()
def test_the_dynamic_graph_depends_on_the_image_and_the_static_one_does_not() -> None:
    gcn, vectors = head(), torch.randn(2, LABELS, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for layer, linear in ((gcn.static_graph, True), (gcn.dynamic_graph, False)):
        layer.output.bias.zero_()
        scaled = layer(3 * vectors) / 3  # a leaky ReLU of a fixed linear map scales with its input
        assert torch.allclose(scaled, layer(vectors)) == linear


def test_the_head_has_its_number_of_weights_on_coco() -> None:
    labels, c, d = 80, 2048, 1024
    with torch.device("meta"):
        gcn = ADDGCN(Options(), channels=(512, 1024, c), labels=LabelInputs(tuple(map(str, range(labels)))))
    parts = [labels * c, d * (c + 1), labels**2, 3 * d * (d + 1), labels * (2 * d + 1), labels * (d + 1)]
    assert sum(weight.numel() for weight in gcn.parameters()) == sum(parts) == 5_663_136


def test_an_impossible_width_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.head\.width"):
        load_settings({"model": {"head": {"name": "add_gcn", "width": 0}}})
