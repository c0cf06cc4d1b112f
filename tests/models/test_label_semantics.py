"""Are label and group semantics the formulae of the paper, and is their folded form the same constants?"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msrn.errors import ShapeError
from msrn.models.label_semantics import GraphAttention, LabelSemantics, num_groups_for


def by_pairs(nodes: Tensor, edges: Tensor, weight: Tensor, attention: Tensor) -> Tensor:
    """One graph attention layer in plain numbers: every pair's score, -1e12 where there is no edge, softmax, ELU."""
    x, w, a = nodes.tolist(), weight.tolist(), attention[:, 0].tolist()
    out = len(w[0])
    h = [[sum(row[i] * w[i][o] for i in range(len(w))) for o in range(out)] for row in x]
    rows = []
    for i in range(len(x)):
        scores = []
        for j in range(len(x)):
            raw = sum(a[o] * h[i][o] + a[out + o] * h[j][o] for o in range(out))
            scores.append((raw if raw > 0 else 0.2 * raw) if edges[i, j] else -1e12)
        e = [math.exp(score - max(scores)) for score in scores]
        total = [sum(e[j] * h[j][o] for j in range(len(x))) / sum(e) + h[i][o] for o in range(out)]
        rows.append([value if value > 0 else math.expm1(value) for value in total])
    return torch.tensor(rows, dtype=torch.float64)


def network(labels: int = 5, groups: int = 2, seed: int = 0) -> LabelSemantics:
    torch.manual_seed(seed)
    adjacency = torch.eye(labels) + (torch.rand(labels, labels) > 0.6)
    vectors = torch.randn(labels, 7)
    semantics = LabelSemantics(vectors, adjacency, num_labels=labels, width=4, num_groups=groups, hidden=(6, 5))
    return semantics.double()


def graph(kind: str) -> Tensor:
    edges = torch.rand(6, 6, generator=torch.Generator().manual_seed(4)) > 0.5
    if kind == "own":
        edges = torch.eye(6, dtype=torch.bool)
    if kind == "none":  # the softmax of a row of -1e12 is uniform, as in the published network
        edges[2] = False
    return edges


@pytest.mark.parametrize("kind", ["some", "own", "none"])
def test_graph_attention_is_the_formula_in_plain_numbers(kind: str) -> None:
    torch.manual_seed(0)
    layer = GraphAttention(3, 4).double()
    nodes, edges = torch.randn(6, 3, dtype=torch.float64), graph(kind)
    torch.testing.assert_close(layer(nodes, edges), by_pairs(nodes, edges, layer.weight, layer.attention))


def test_labels_without_an_edge_do_not_hear_of_each_other() -> None:
    torch.manual_seed(0)
    layer = GraphAttention(3, 4)
    nodes, edges = torch.randn(6, 3), graph("some")
    edges[1, 4] = False
    changed = nodes.clone()
    changed[4] += 1
    assert torch.equal(layer(nodes, edges)[1], layer(changed, edges)[1])
    edges[1, 4] = True
    assert not torch.equal(layer(nodes, edges)[1], layer(changed, edges)[1])


def test_a_graph_layer_starts_xavier_uniform_with_the_published_gain() -> None:
    torch.manual_seed(0)
    layer = GraphAttention(300, 512)
    for parameter, fans in ((layer.weight, 300 + 512), (layer.attention, 1024 + 1)):
        bound = 1.414 * math.sqrt(6 / fans)
        assert 0.95 * bound < float(parameter.detach().abs().max()) <= bound
        assert float(parameter.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_label_and_group_semantics_are_the_paper_step_by_step() -> None:
    net = network()
    edges = net.adjacency > 0
    labels = net.embeddings @ net.embed.weight.T + net.embed.bias
    for layer in net.label_layers:
        labels = by_pairs(labels, edges, layer.weight, layer.attention)
    positive = labels.clamp(min=0)
    members = by_pairs(positive, edges, net.group_layer.weight, net.group_layer.attention)
    raw = by_pairs(positive, edges, net.assignment_layer.weight, net.assignment_layer.attention).exp()
    assignment = raw / raw.sum(dim=1, keepdim=True)
    groups = torch.stack([sum(assignment[i, g] * members[i] for i in range(5)) for g in range(2)])
    got = net()
    torch.testing.assert_close(got.labels, labels)
    torch.testing.assert_close(got.assignment, assignment)
    torch.testing.assert_close(got.groups, groups)
    assert torch.equal(got.vectors, torch.cat((got.labels, got.groups)))
    loss = sum(math.dist(labels[i].tolist(), groups[int(assignment[i].argmax())].tolist()) for i in range(5))
    assert float(got.group_loss().detach()) == pytest.approx(loss, rel=1e-9)


def test_only_the_sign_of_the_adjacency_matters() -> None:
    net = network()
    before = net()
    net.adjacency.copy_(torch.where(net.adjacency > 0, 0.01, -3.0))
    for ours, theirs in zip(net(), before, strict=True):
        assert torch.equal(ours, theirs)


def test_the_group_loss_moves_every_layer() -> None:
    net = network()
    net().group_loss().backward()
    # The assignment too: groups are weighted sums by it, though the choice of the nearest has no gradient.
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())


def test_folded_semantics_are_the_same_constants_and_cannot_be_trained() -> None:
    net = network()
    folded, live = net.precompute(), net()
    for ours, theirs in zip(folded(), live, strict=True):
        assert torch.equal(ours, theirs)
        assert not ours.requires_grad
    assert not list(folded.parameters())
    assert not folded().group_loss().requires_grad
    with torch.no_grad():
        net.embed.weight.add_(1.0)  # they do not follow the network they came from
    assert torch.equal(folded().labels, live.labels)
    assert set(folded.state_dict()) == {"labels", "groups", "assignment"}


def test_semantics_run_in_float32_under_autocast() -> None:
    net = network().float()
    expected = net()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for ours, theirs in zip(net(), expected, strict=True):
            assert ours.dtype == torch.float32
            assert torch.equal(ours, theirs)


def test_the_published_sets_have_their_number_of_groups_and_there_is_always_one() -> None:
    assert [num_groups_for(*pair) for pair in ((20, 0.2), (80, 0.05), (81, 0.05), (11, 0.2))] == [4, 4, 4, 2]
    assert num_groups_for(2, 0.05) == 1
    assert num_groups_for(10, 0.3) == 3  # 0.3 * 10 in floating point, and ratios like it
    assert num_groups_for(100, 0.29) == 29  # 0.29 * 100 is 28.999...


@pytest.mark.parametrize(("vectors", "adjacency"), [((4, 7), (5, 5)), ((4, 7), (4, 5)), ((4,), (4, 4))])
def test_labels_and_graph_of_different_sizes_are_told(vectors: tuple[int, ...], adjacency: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="expected embeddings") as caught:
        LabelSemantics(torch.zeros(vectors), torch.ones(adjacency), num_labels=4, width=8, num_groups=1)
    assert str(vectors) in str(caught.value)
