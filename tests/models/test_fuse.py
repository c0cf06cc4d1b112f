"""Fused batch norms give the same numbers, and what a convolution does not own alone is left as it is."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.std_conv import StdConv2d
from torch import Tensor, nn

from msrn.models.backbone import Backbone
from msrn.models.classifier import MultiLabelClassifier
from msrn.models.fuse import fuse_batch_norms, with_tensors
from msrn.models.heads.average_pool import AveragePool, Options
from msrn.models.heads.base import HeadOutput, LabelInputs


def used(model: MultiLabelClassifier) -> MultiLabelClassifier:
    """In evaluation mode, with batch norms that do something, in float64: a wrong fusion cannot hide in rounding."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                if tensor is not None:
                    nn.init.uniform_(tensor, 0.5, 2.0)
            for tensor in (module.bias, module.running_mean):
                if tensor is not None:
                    nn.init.normal_(tensor)
    return model.eval().double()


def logits(model: MultiLabelClassifier, image: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(image).logits


@pytest.mark.parametrize(
    ("name", "fused", "left"),
    [
        ("test_resnet", 15, 0),
        ("test_efficientnet", 12, 0),  # batch norms with an activation inside
        ("tf_efficientnet_lite0", 49, 0),  # convolutions that pad by themselves
        ("test_byobnet", 14, 0),
        ("test_maxvit", 9, 4),  # norms that stand before their convolutions
        ("test_convnext", 0, 0),
    ],
)
def test_a_fused_network_gives_the_logits_of_the_unfused(name: str, fused: int, left: int) -> None:
    torch.manual_seed(0)
    lite = name.startswith("tf_")
    backbone = Backbone(name, stages=(-1,), weights="none", final_conv=lite, image_size=128)
    labels = LabelInputs(tuple("abcde"))
    head = AveragePool(Options(), channels=backbone.channels, labels=labels)
    model = used(MultiLabelClassifier(backbone, head))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(3, 3, 128, 128, dtype=torch.float64)
    expected = logits(model, images)
    copy, count = fuse_batch_norms(model, images[:1])
    assert count == fused
    assert sum(isinstance(module, nn.BatchNorm2d) for module in copy.modules()) == left
    assert (logits(copy, images) - expected).abs().max() < 1e-9 * expected.abs().max()
    assert torch.equal(logits(model, images), expected)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in copy.modules())


class Small(MultiLabelClassifier):
    """One label: the mean of whatever ``forward`` makes of two convolutions, two norms and an image."""

    def __init__(self, kind: str) -> None:
        super().__init__(nn.Identity(), nn.Identity())  # type: ignore[arg-type]
        self.kind = kind
        self.conv = StdConv2d(3, 4, 3) if kind == "convolution that changes its weights" else nn.Conv2d(3, 4, 3)
        self.second = nn.Conv2d(4, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4, track_running_stats=kind != "norm of the batch itself")
        self.act_norm = BatchNormAct2d(4)

    def forward(self, image: Tensor) -> HeadOutput:
        maps = self.features(image)
        return HeadOutput(maps.mean(dim=(1, 2, 3)).unsqueeze(1), {})

    def features(self, image: Tensor) -> Tensor:
        found = self.conv(image)
        match self.kind:
            case "skip connection":
                return self.norm(found) + found
            case "two norms":
                return self.norm(found) + self.act_norm(found)
            case "activation between":
                return self.norm(found.relu())
            case "activation between, in place":
                return self.norm(found.relu_())
            case "channels in another order":
                return self.norm(found.flip(1))
            case "convolution called twice":
                return self.norm(self.second(self.second(found)))
            case "norm called twice":
                return self.norm(self.second(self.norm(found)))
            case "nothing recorded":
                with torch.no_grad():
                    return self.norm(found.detach())
            case _:
                return self.norm(found)


@pytest.mark.parametrize(
    "kind",
    [
        "skip connection",
        "two norms",
        "activation between",
        "activation between, in place",
        "channels in another order",
        "convolution called twice",
        "norm called twice",
        "convolution that changes its weights",
        "norm of the batch itself",
        "nothing recorded",
    ],
)
def test_what_a_convolution_does_not_own_alone_stays(kind: str) -> None:
    torch.manual_seed(0)
    model = used(Small(kind))
    images = torch.randn(4, 3, 6, 6, dtype=torch.float64)
    copy, count = fuse_batch_norms(model, images)
    assert count == 0
    assert torch.equal(logits(copy, images), logits(model, images))


def test_a_norm_in_training_mode_stays() -> None:
    model = used(Small("plain"))
    model.norm.train()
    assert fuse_batch_norms(model, torch.randn(2, 3, 6, 6, dtype=torch.float64))[1] == 0


def test_a_fused_convolution_scales_and_shifts_as_its_norm_did() -> None:
    torch.manual_seed(0)
    model = used(Small("plain"))
    copy, count = fuse_batch_norms(model, torch.randn(1, 3, 6, 6, dtype=torch.float64))
    assert count == 1
    conv, norm, fused = model.conv, model.norm, copy.conv
    for channel in range(4):
        scale = norm.weight[channel].item() / math.sqrt(norm.running_var[channel].item() + norm.eps)
        shift = scale * (conv.bias[channel] - norm.running_mean[channel]).item() + norm.bias[channel].item()
        assert fused.weight[channel].flatten().tolist() == pytest.approx(
            [scale * weight for weight in conv.weight[channel].flatten().tolist()]
        )
        assert fused.bias[channel].item() == pytest.approx(shift)
    assert isinstance(copy.norm, nn.Identity)


def test_only_the_fused_tensors_take_new_memory() -> None:
    model = used(Small("plain"))
    copy, _ = fuse_batch_norms(model, torch.randn(1, 3, 6, 6, dtype=torch.float64))
    assert copy.second.weight is model.second.weight
    assert copy.act_norm.running_mean is model.act_norm.running_mean
    assert copy.conv.weight is not model.conv.weight


def test_a_model_that_was_made_under_inference_mode_can_be_fused() -> None:
    with torch.inference_mode():
        torch.manual_seed(0)
        model = used(Small("plain"))
        images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
        copy, count = fuse_batch_norms(model, images)
    assert count == 1
    assert torch.allclose(logits(copy, images), logits(model, images), rtol=0, atol=1e-12)


def test_a_copy_holds_converted_tensors_and_keeps_what_is_tied() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    model: Any = nn.Sequential(first, second, nn.BatchNorm1d(2))
    copy: Any = with_tensors(model, lambda module, tensor: tensor.double() if isinstance(module, nn.Linear) else tensor)
    assert copy[0].weight is copy[1].weight is not model[0].weight
    assert copy[0].weight.dtype == torch.float64
    assert isinstance(copy[0].weight, nn.Parameter)
    assert copy[2].running_mean is model[2].running_mean
    assert model[0].weight.dtype == torch.float32
    assert model[0].weight.requires_grad
