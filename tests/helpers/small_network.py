"""A timm model of a few thousand weights, ``msrn_small``: importing this module registers it."""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from timm.models._builder import build_model_with_cfg
from timm.models._registry import generate_default_cfgs
from timm.models.resnet import BasicBlock, ResNet

default_cfgs = generate_default_cfgs({
    "msrn_small.none": {
        "input_size": (3, 64, 64), "pool_size": (2, 2), "num_classes": 10, "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "first_conv": "conv1", "classifier": "fc",
    },
})  # fmt: skip


@register_model
def msrn_small(pretrained: bool = False, **kwargs: Any) -> ResNet:
    shape = {"block": BasicBlock, "layers": (1, 1, 1, 1), "channels": (4, 8, 8, 16), "stem_width": 4}
    model: ResNet = build_model_with_cfg(ResNet, "msrn_small", pretrained, **shape, **kwargs)
    return model
