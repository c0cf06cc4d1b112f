"""MSRN without one of its parts is a network that can be written down without that part."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from msrn.config import load_settings
from msrn.errors import ConfigError
from msrn.models.heads.base import LabelInputs
from msrn.models.heads.msrn import MSRN, Options
from msrn.models.label_semantics import IsolatedLabels
from msrn.ops.semantic_attention import semantic_attention_reference

L, E, D, CHANNELS = 5, 7, 8, (3, 4, 6)
NAMES = tuple("abcde")
EMBEDDINGS = torch.randn(L, E, generator=torch.Generator().manual_seed(0))
GRAPH = torch.eye(L) + (torch.rand(L, L, generator=torch.Generator().manual_seed(1)) > 0.5)
INPUTS = LabelInputs(NAMES, EMBEDDINGS, GRAPH)


def head(inputs: LabelInputs = INPUTS, channels: tuple[int, ...] = CHANNELS, **options: object) -> MSRN:
    torch.manual_seed(0)
    small = {"width": D, "pools": (2, 2, 1), "group_ratio": 0.4, "output_layer": "per_label"}
    return MSRN(Options(**{**small, **options}), channels=channels, labels=inputs).eval()


def maps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(2, c, s, s, generator=generator) for c, s in zip(CHANNELS, (8, 4, 2), strict=True)]


def weights_of(model: MSRN) -> int:
    return sum(weight.numel() for weight in model.parameters())


@torch.no_grad()
@pytest.mark.parametrize("group_ratio", [0.4, 0])
def test_without_a_graph_it_is_the_network_of_the_graph_without_edges(group_ratio: float) -> None:
    identity = head(LabelInputs(NAMES, EMBEDDINGS, torch.eye(L)), group_ratio=group_ratio)
    without = head(LabelInputs(NAMES, EMBEDDINGS), label_graph="none", group_ratio=group_ratio)
    state = identity.state_dict()
    unused = {key for key in state if key.endswith(".attention")}
    assert set(state) - unused == set(without.state_dict())
    without.load_state_dict({key: value for key, value in state.items() if key not in unused})
    torch.testing.assert_close(without(maps()).logits, identity(maps()).logits)


@torch.no_grad()
def test_learned_vectors_are_what_the_first_layer_makes_of_one_hot_embeddings() -> None:
    one_hot = head(LabelInputs(NAMES, torch.eye(L), GRAPH))
    learned = head(LabelInputs(NAMES, None, GRAPH), label_embeddings="learned")
    state = one_hot.state_dict()
    weight, bias = state.pop("semantics.embed.weight"), state.pop("semantics.embed.bias")
    learned.load_state_dict({**state, "semantics.learned": weight.T + bias})
    torch.testing.assert_close(learned(maps()).logits, one_hot(maps()).logits)
    assert 0.2 < float(head(LabelInputs(NAMES, None, GRAPH), label_embeddings="learned").semantics.learned.std()) < 0.3


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_deepest_maps_are_those_of_a_backbone_that_gives_no_others(count: int) -> None:
    first = 3 - count
    some = head(maps=count, extra_convs=(True, False, True))
    extra, pools = (True, False, True)[first:], (2, 2, 1)[first:]
    alone = head(channels=CHANNELS[first:], extra_convs=extra, pools=pools)
    alone.load_state_dict(some.state_dict())
    torch.testing.assert_close(some(maps()).logits, alone(maps()[first:]).logits)
    assert len(some.projections) == count


@torch.no_grad()
def test_without_groups_each_label_reads_its_own_vector_alone() -> None:
    model = head(group_ratio=0, maps=2)
    output = model(maps())
    vectors = model.semantics().labels
    attended = [semantic_attention_reference(each, vectors) for each in model.project(model.pooled(maps()))]
    expected = torch.empty(2, L)
    for b in range(2):
        for label in range(L):
            own = torch.cat([each[b, label] for each in attended]).tanh()
            expected[b, label] = own @ model.output_layer.weight[label] + model.output_layer.bias[label]
    torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-5)
    assert output.aux_losses == {}
    assert model.label_groups() is None
    assert head().label_groups().shape == (L, 2)


def test_each_part_has_its_number_of_weights() -> None:
    """Layers of 256 and 300, two groups; graph attention has two attention weights per channel that it gives."""
    embed, layers, groups = 256 * (E + 1), 256 * 300 + 2 * 300 + 300 * D + 2 * D, D * D + 2 * D + 2 * D + 2 * 2
    convolutions, projections = 3 * 4 + 4 * 5, D * (4 + 5 + 7)
    whole = embed + layers + groups + convolutions + projections + L * (2 * 3 * D + 1)
    assert weights_of(head()) == whole
    assert weights_of(head(group_ratio=0)) == whole - groups - L * 3 * D
    assert weights_of(head(label_embeddings="learned")) == whole - embed + 256 * L
    assert weights_of(head(label_graph="none")) == whole - 2 * (300 + D + D + 2)
    assert weights_of(head(maps=1)) == whole - convolutions - D * (4 + 5) - L * 2 * 2 * D
    flat, fewer = head(output_layer="flatten"), head(output_layer="flatten", group_ratio=0)
    assert weights_of(flat) - weights_of(fewer) == groups + 2 * 3 * D * 2048


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, {"embeddings", "graph"}),
        ({"label_graph": "none"}, {"embeddings"}),
        ({"label_embeddings": "learned"}, {"graph"}),
        ({"label_embeddings": "learned", "label_graph": "none"}, set()),
    ],
    ids=["all", "no graph", "learned vectors", "neither"],  # a set has another order in each process
)
def test_what_is_left_out_is_not_asked_for_and_not_read(options: dict[str, str], needs: set[str]) -> None:
    assert MSRN.needs(Options(**options)) == needs
    inputs = LabelInputs(NAMES, EMBEDDINGS, GRAPH)  # more than is asked for
    kept = {name for name, _ in head(inputs, **options).named_buffers()}
    assert kept == {f"semantics.{'adjacency' if name == 'graph' else name}" for name in needs}


def test_layers_without_a_graph_never_mix_labels() -> None:
    torch.manual_seed(0)
    layer, nodes = IsolatedLabels(3, 4), torch.randn(L, 3)
    alone = torch.cat([layer(nodes[n : n + 1]) for n in range(L)])
    torch.testing.assert_close(layer(nodes), alone)


def test_more_maps_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected at most 3, as the backbone gives, got 4") as caught:
        head(maps=4)
    assert caught.value.where == "model.head.maps"


@pytest.mark.parametrize(
    ("option", "value"), [("group_ratio", 0), ("label_graph", "none"), ("label_embeddings", "learned"), ("maps", 2)]
)
def test_a_released_checkpoint_goes_with_the_whole_network(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"a released checkpoint has all parts of the network, got {option} {value}"):
        load_settings({"model": {"head": {"name": "msrn", "checkpoint": "released.pth.tar", option: value}}})
