"""The classifier: a backbone and a head, built from the ``model`` section of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from msrn import registry
from msrn.models.backbone import Backbone
from msrn.models.heads.base import Head, HeadOutput, LabelInputs

if TYPE_CHECKING:
    from msrn.config import ModelSettings

__all__ = [
    "MultiLabelClassifier",
    "build_without_weights",
    "create_model",
    "head_class",
    "memory_layout",
    "probabilities",
]

FEW_CHANNELS = 16


class MultiLabelClassifier(nn.Module):
    """Images to multi-label logits: ``head(backbone(image))``.

    Args:
        backbone: gives the feature maps.
        head: turns them into logits.
    """

    scale: Tensor | None
    offset: Tensor | None

    def __init__(self, backbone: Backbone, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.register_buffer("scale", None, persistent=False)
        self.register_buffer("offset", None, persistent=False)

    def forward(self, image: Tensor | list[Tensor]) -> HeadOutput:
        """``image (B, 3, H, W)``, normalised as ``backbone.statistics`` says, to logits ``(B, L)``.

        A list is taken for feature maps that the backbone computed before.
        """
        output: HeadOutput = self.head(self.backbone(image))
        if self.scale is None or self.offset is None:
            return output
        return HeadOutput(output.logits * self.scale + self.offset, output.aux_losses)

    def calibrate(self, scale: Tensor, offset: Tensor) -> None:
        """Make the logits ``scale * logits + offset`` from now on, both ``(L,)``: calibrated, wherever they are read.

        Neither is part of the weights. Scales are positive, so the order of the images of a label stays.
        """
        self.scale, self.offset = scale, offset

    def precompute(self) -> None:
        """Turn what does not depend on images into constants. After this the model can no longer be trained."""
        self.head.precompute()


def probabilities(logits: Tensor) -> Tensor:
    """Logits to probabilities in float64, which tell confident images apart where float32 would tie them."""
    return logits.double().sigmoid()


def memory_layout(model: nn.Module) -> torch.memory_format:
    """Channels last, unless the CPU library corrupts memory or torch has no such layout for a weight.

    oneDNN's weight gradient of a 1x1 convolution with a stride above 1 and few input channels writes out of bounds in
    channels last (uxlfoundation/oneDNN issue 6035): repvgg, mobileone and fastvit have such layers.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            if max(module.stride) > 1 and module.in_channels // module.groups < FEW_CHANNELS:
                return torch.contiguous_format
        elif isinstance(module, nn.Conv3d):
            return torch.contiguous_format
    return torch.channels_last


def head_class(name: str) -> type[Head]:
    """The class of a head; raises ConfigError for an unknown name."""
    found: type[Head] = registry.load("head", name)
    return found


def create_model(
    settings: ModelSettings, labels: LabelInputs, *, image_size: int | None = None
) -> MultiLabelClassifier:
    """A classifier that is ready for training, with the pretrained weights that the settings name.

    Args:
        settings: the ``model`` section, such as ``ModelSettings(backbone="resnet50", head="csra")``.
        labels: names of the labels, and the inputs that the head needs.
        image_size: side of the network's input in pixels, for backbones built for one size.

    Raises:
        ConfigError, WeightsError, DependencyError, ShapeError: as backbone and head raise them.

    Example:
        >>> from msrn.config import ModelSettings
        >>> settings = ModelSettings(backbone="test_resnet", weights="none", head="max_pool")
        >>> model = create_model(settings, LabelInputs(("cat", "dog")))
    """
    model = _build(settings, labels, settings.weights, image_size)
    model.head.initialize(model.backbone)
    return model


def build_without_weights(
    settings: ModelSettings, labels: LabelInputs, *, image_size: int | None = None
) -> MultiLabelClassifier:
    """The same network, from which no weights file is read: for weights that are loaded next, or never."""
    return _build(settings, labels, "none", image_size)


def _build(settings: ModelSettings, labels: LabelInputs, weights: str, image_size: int | None) -> MultiLabelClassifier:
    backbone = Backbone(
        settings.backbone,
        stages=settings.stages,
        weights=weights,
        final_conv=settings.final_conv,
        image_size=image_size,
    )
    make: Any = head_class(settings.head.name)
    head: Head = make(settings.head, channels=backbone.channels, labels=make.require(settings.head, labels))
    return MultiLabelClassifier(backbone, head)
