"""Parameters and FLOPs, counted on tensors without content, against models that compute and against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from msrn.config import Settings
from msrn.models.classifier import MultiLabelClassifier
from msrn.profiling.model_cost import Part, Use, cost_of

Cost = Callable[..., tuple[dict[str, Part], dict[tuple[str, int], Use]]]
Build = Callable[[Settings], MultiLabelClassifier]
Chosen = Callable[..., Settings]
Images = Callable[..., Tensor]


# ---- weights


@pytest.mark.parametrize(
    ("labels", "ratio", "first_layer"), [(20, 0.2, 24 * 1536 * 2048), (80, 0.05, 84 * 1536 * 2048)], ids=["voc", "coco"]
)
def test_the_flatten_layer_has_the_weights_of_the_released_checkpoints(
    cost: Cost, labels: int, ratio: float, first_layer: int
) -> None:
    assert round(first_layer / 1e6, 1) in {75.5, 264.2}
    parts, _ = cost(labels, model={"head": {"output_layer": "flatten", "width": 512, "group_ratio": ratio}})
    assert parts["output layer"].parameters == first_layer + 2048 + 2048 * labels + labels
    assert parts["output layer"].flops_per_image == 2 * (first_layer + 2048 * labels)


def test_the_per_label_layer_has_a_quarter_of_a_million_weights_on_coco(cost: Cost) -> None:
    parts, _ = cost(80, model={"head": {"width": 512, "group_ratio": 0.05}})
    assert parts["output layer"].parameters == 80 * 2 * 3 * 512 + 80 == 245_840


@pytest.mark.parametrize(
    "model",
    [
        {"freeze": 2},
        {"head": "average_pool", "freeze": -1},
        {"head": "max_pool", "freeze_norm": True},
        {"head": {"name": "csra", "temperatures": [1, 2, "max"]}},
        {"head": "ml_gcn"},
        {"head": {"name": "query2label", "width": 16}},
        {"head": {"name": "ml_decoder", "queries": "words"}},
        {"backbone": "test_efficientnet", "final_conv": True, "weights": "hub"},  # no weights are asked for
        {"backbone": "test_convnext", "head": {"output_layer": "flatten", "checkpoint": "gone.pth.tar"}},
    ],
    ids=str,
)
def test_the_parts_together_have_the_weights_of_the_model(
    cost: Cost, real_model: Build, settings: Chosen, model: dict[str, Any]
) -> None:
    parts, uses = cost(model=model)
    real = real_model(settings(model=model))
    parameters = list(real.parameters())
    assert sum(part.parameters for part in parts.values()) == sum(value.numel() for value in parameters)
    free = sum(value.numel() for value in parameters if value.requires_grad)
    assert sum(part.trainable for part in parts.values()) == free
    state = sum(value.nbytes for value in (*real.parameters(), *real.buffers()))
    assert sum(part.weight_bytes for part in parts.values()) == state == uses["train", 8].weights
    assert parts["backbone"].parameters == sum(value.numel() for value in real.backbone.parameters())


def test_a_held_backbone_has_no_trainable_weights_and_keeps_nothing_for_the_backward_pass(cost: Cost) -> None:
    parts, uses = cost(model={"freeze": -1})
    free, free_uses = cost()
    assert (parts["backbone"].trainable, free["backbone"].trainable) == (0, free["backbone"].parameters)
    assert parts["backbone"].flops_per_image == free["backbone"].flops_per_image
    feature_maps = parts["backbone"].saved_bytes_per_image  # what the head reads: made by the backbone
    assert 0 < feature_maps < free["backbone"].saved_bytes_per_image / 5
    assert uses["train", 8].memory < free_uses["train", 8].memory / 2


@pytest.mark.parametrize(
    ("head", "own"),
    [
        ("msrn", ["semantics", "extra convs", "projections", "semantic attention", "output layer"]),
        ("average_pool", ["output"]),
        ("max_pool", ["output"]),
        ("csra", ["scores"]),
        ("ml_gcn", ["classifiers"]),
        ("add_gcn", ["activations", "projection", "static graph", "dynamic graph", "output"]),
        ("query2label", ["projection", "encoder", "queries", "decoder", "between layers", "output"]),
        ("ml_decoder", ["projection", "queries", "decoder", "output"]),
    ],
)
def test_parts_come_in_the_order_in_which_they_run(cost: Cost, head: str, own: list[str]) -> None:
    assert list(cost(model={"head": head})[0]) == ["backbone", *own, "between the parts"]


# ---- operations


@pytest.mark.parametrize("head", ["average_pool", "max_pool"])
def test_pooling_heads_cost_one_linear_layer(
    cost: Cost, real_model: Build, settings: Chosen, sizes: tuple[int, int], head: str
) -> None:
    part = cost(model={"head": head})[0]["output"]
    channels, labels = real_model(settings(model={"head": head})).backbone.channels[-1], sizes[0]
    assert (part.parameters, part.flops_per_image) == ((channels + 1) * labels, 2 * channels * labels)
    assert (part.flops_once, part.saved_bytes_once) == (0, 0)


@torch.no_grad()
def test_csra_costs_one_product_per_attention_head_label_channel_and_position(
    cost: Cost, real_model: Build, settings: Chosen, images: Images, sizes: tuple[int, int]
) -> None:
    model = {"head": {"name": "csra", "temperatures": [1, "max"]}}
    part = cost(model=model)[0]["scores"]
    _, channels, height, width = real_model(settings(model=model)).backbone(images(1))[-1].shape
    assert part.parameters == 2 * channels * sizes[0]
    assert part.flops_per_image == 2 * part.parameters * height * width
    assert part.flops_once == 0


def test_resnet_101_has_the_published_operations_and_parameters(settings: Chosen) -> None:
    published = torchvision.models.ResNet101_Weights.IMAGENET1K_V1.meta
    chosen = settings(
        model={"head": "average_pool", "backbone": "resnet101"}, data={"image_size": 224, "eval_batch_size": 1}
    )
    parts, uses = cost_of(chosen, num_labels=1000, embedding_width=1)
    assert sum(part.parameters for part in parts) == published["num_params"] == 44_549_160
    assert sum(part.flops_per_image for part in parts) / 2 / 1e9 == pytest.approx(published["_ops"], abs=0.001)
    assert uses[0].flops / 2 / 1e9 == pytest.approx(7.801, abs=0.001)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet"])
def test_operations_of_convolutions_are_those_of_a_loop_over_their_shapes(
    cost: Cost, real_model: Build, settings: Chosen, images: Images, backbone: str
) -> None:
    model = {"backbone": backbone}
    real = real_model(settings(model=model)).eval()
    counted: dict[str, int] = {}

    def count(name: str, layer: nn.Conv2d, output: Tensor) -> None:
        out_channels, in_channels, height, width = layer.weight.shape  # in_channels of one group
        products = output.shape[2] * output.shape[3] * out_channels * in_channels * height * width
        part = name.removeprefix("head.").split(".")[0].replace("_", " ")
        counted[part] = counted.get(part, 0) + 2 * products

    for name, layer in real.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, _, output, name=name: count(name, layer, output))
    with torch.no_grad():
        real(images(1))
    parts, _ = cost(model=model)
    assert counted == {name: parts[name].flops_per_image for name in ("backbone", "extra convs", "projections")}


@torch.no_grad()
def test_operations_of_attention_grow_with_positions_vectors_and_width(
    cost: Cost, real_model: Build, settings: Chosen, images: Images, sizes: tuple[int, int]
) -> None:
    chosen = settings()
    real = real_model(chosen).eval()
    positions = sum(math.prod(features.shape[2:]) for features in real.head.pooled(real.backbone(images(1))))
    found = cost()[0]["semantic attention"].flops_per_image
    assert found == 6 * positions * (sizes[0] + 1) * chosen.model.head.width  # an exponential counts as one


def test_label_semantics_cost_the_same_for_any_number_of_images(
    cost: Cost, settings: Chosen, sizes: tuple[int, int]
) -> None:
    part = cost()[0]["semantics"]
    labels, embedding_width = sizes
    width, groups = settings().model.head.width, 1

    def layer(inside: int, outside: int) -> int:  # x W, two vectors of scores, attention over labels
        return labels * inside * outside + 2 * labels * outside + labels * labels * outside

    products = labels * embedding_width * 256
    products += layer(256, 300) + layer(300, width) + layer(width, width) + layer(width, groups)
    products += groups * labels * width
    assert (part.flops_per_image, part.flops_once) == (0, 2 * products)
    assert part.saved_bytes_per_image == 0 < part.saved_bytes_once


def test_prediction_is_precomputed_and_computes_nothing_once(cost: Cost, real_model: Build, settings: Chosen) -> None:
    parts, uses = cost()
    per_image = sum(part.flops_per_image for part in parts.values())
    assert (uses["predict", 1].flops, uses["predict", 8].flops) == (per_image, 8 * per_image)
    assert uses["train", 8].flops > 2.5 * (8 * per_image + parts["semantics"].flops_once)
    real = real_model(settings())
    real.precompute()
    state = sum(value.nbytes for value in (*real.parameters(), *real.buffers()))
    assert uses["predict", 1].weights == state < uses["train", 8].weights
