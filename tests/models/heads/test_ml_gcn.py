"""ML-GCN against the paper's formulae, written as loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from msrn.config import load_settings
from msrn.errors import ConfigError
from msrn.labels.graph import label_graph, normalise
from msrn.models.heads.base import LabelInputs
from msrn.models.heads.ml_gcn import MLGCN, Options

LABELS = 4


def label_inputs() -> LabelInputs:
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 9, (LABELS, LABELS), generator=generator).numpy()
    graph = label_graph(counts * (1 - np.eye(LABELS, dtype=int)), [12, 9, 10, 15]).adjacency
    return LabelInputs(tuple("abcd"), torch.randn(LABELS, 3, generator=generator), torch.from_numpy(graph.copy()))


def head() -> MLGCN:
    torch.manual_seed(0)
    return MLGCN(Options(width=6), channels=(4, 5), labels=label_inputs())


def maps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.zeros(2, 4, 6, 8), torch.randn(2, 5, 3, 4, generator=generator)]


def convolved(graph: np.ndarray, nodes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``sum_j A_ij sum_k H_jk W_ko``."""
    count, (size, out) = len(nodes), weight.shape
    result = np.zeros((count, out))
    for i, o in np.ndindex(count, out):
        result[i, o] = sum(graph[i, j] * nodes[j, k] * weight[k, o] for j in range(count) for k in range(size))
    return result


def classifiers_by_loops(gcn: MLGCN) -> np.ndarray:
    inputs = label_inputs()
    graph, nodes = inputs.graph.double().numpy(), inputs.embeddings.double().numpy()
    first, second = (weight.detach().double().numpy() for weight in gcn.classifiers.weights)
    hidden = convolved(graph, nodes, first)
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden)
    return convolved(graph, hidden, second)


@torch.no_grad()
def test_the_logits_are_those_of_the_formula() -> None:
    gcn = head()
    classifiers, x = classifiers_by_loops(gcn), maps()[-1].flatten(2).double().numpy()
    assert (classifiers != 0).all()
    expected = [[sum(max(x[b, c]) * classifiers[i, c] for c in range(5)) for i in range(LABELS)] for b in range(len(x))]
    np.testing.assert_allclose(gcn(maps()).logits.numpy(), expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_precomputing_leaves_the_classifiers_alone() -> None:
    gcn = head()
    gcn.precompute()
    assert not list(gcn.parameters())
    (stored,) = gcn.state_dict().values()
    np.testing.assert_allclose(stored.numpy(), classifiers_by_loops(head()), rtol=1e-4, atol=1e-6)


def test_the_reweighting_of_the_paper_is_a_quarter_in_the_settings() -> None:
    """Equation 8 with p = 0.2, normalised; an edge's weight is shared over the edges into its label."""
    links = np.array([[0, 1, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    paper = np.diag([0.8] * LABELS)
    for i in range(LABELS):
        for j in range(LABELS):
            if links[i, j]:
                paper[i, j] = 0.2 / sum(links[:, j])
    ours = label_graph(links * 10, [10] * LABELS, reweight=0.25).adjacency
    np.testing.assert_allclose(ours, normalise(paper), rtol=1e-5)


def test_on_coco_the_head_has_2_4_million_weights_whatever_the_labels() -> None:
    for count in (20, 80):
        with torch.device("meta"):
            labels = LabelInputs(tuple(map(str, range(count))), torch.empty(count, 300), torch.empty(count, count))
            gcn = MLGCN(Options(), channels=(512, 1024, 2048), labels=labels)
        assert sum(weight.numel() for weight in gcn.parameters()) == 300 * 1024 + 1024 * 2048 == 2_404_352


def test_an_impossible_width_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.head\.width"):
        load_settings({"model": {"head": {"name": "ml_gcn", "width": 0}}})
