"""Which models are there? A new one is one function here and one file beside it.

A model is a ``Tagger``: it takes ``image (B, 3, H, W)`` and returns a ``ModelOutput``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from msrn.config import ModelSettings
from msrn.errors import ConfigError
from msrn.models.backbone import FeatureTaps
from msrn.models.classifier import ModelOutput, Tagger
from msrn.models.heads.average_pool import AveragePool
from msrn.models.heads.msrn import MSRN, FlattenHead, PerLabelHead
from msrn.models.label_semantics import LabelSemantics, num_groups_for
from msrn.models.weights import load_published

__all__ = ["MODELS", "ModelOutput", "Tagger", "build_model"]


def _msrn(settings: ModelSettings, backbone: FeatureTaps, label_vectors: Tensor, adjacency: Tensor) -> Tagger:
    labels, groups = len(label_vectors), num_groups_for(len(label_vectors), settings.group_ratio)
    if labels < 2:
        raise ConfigError(f"MSRN needs at least two labels, got {labels}", where="data.labels", hint="use average_pool")
    channels = settings.width * len(backbone.channels)
    head = (
        FlattenHead(num_labels=labels, num_groups=groups, channels=channels)
        if settings.head == "flatten"
        else PerLabelHead(num_labels=labels, channels=channels)
    )
    model = MSRN(
        backbone,
        LabelSemantics(label_vectors, adjacency, width=settings.width, num_groups=groups),
        head,
        width=settings.width,
        buffers=settings.buffers,
        pools=settings.pools,
        group_loss_weight=settings.group_loss,
    )
    if settings.checkpoint:
        load_published(model, settings.checkpoint)
    return model


def _average_pool(settings: ModelSettings, backbone: FeatureTaps, label_vectors: Tensor, adjacency: Tensor) -> Tagger:
    return AveragePool(backbone, num_labels=len(label_vectors))


MODELS: dict[str, Callable[[ModelSettings, FeatureTaps, Tensor, Tensor], Tagger]] = {
    "msrn": _msrn,
    "average_pool": _average_pool,
}


def build_model(
    settings: ModelSettings, *, label_vectors: Tensor, adjacency: Tensor, image_size: int | None = None
) -> Tagger:
    """A model from settings and the label side's inputs.

    Args:
        settings: the ``model`` section.
        label_vectors: ``(L, E)`` word vectors, in the order of the label space.
        adjacency: ``(L, L)`` label graph in the same order.
        image_size: side of the network's input in pixels, for backbones built for one size.

    Raises:
        ConfigError, WeightsError, DependencyError, ShapeError: as the parts raise them.
    """
    backbone = FeatureTaps(
        settings.backbone,
        taps=settings.taps,
        weights=settings.weights,
        final_conv=settings.final_conv,
        image_size=image_size,
    )
    return MODELS[settings.name](settings, backbone, label_vectors, adjacency)
