"""The cost of the preset ``tiny`` under other settings, and the same model with numbers in it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msrn.config import Settings, load_settings, merge
from msrn.losses.soft_margin import soft_margin
from msrn.models.classifier import MultiLabelClassifier, build_without_weights
from msrn.models.heads.base import LabelInputs
from msrn.presets import preset
from msrn.profiling.model_cost import Part, Use, cost_of

LABELS, WIDTH = 6, 10  # L and E; the group ratio of the preset gives one group, so K = 7

Costs = tuple[dict[str, Part], dict[tuple[str, int], Use]]


@pytest.fixture(scope="session")
def settings() -> Callable[..., Settings]:
    """The preset with other settings: ``settings(model={"freeze": 2})``."""
    return lambda **sections: load_settings(merge(preset("tiny"), sections))


@pytest.fixture(scope="session")
def cost(settings: Callable[..., Settings]) -> Callable[..., Costs]:
    """Parts by name, and uses by name and number of images: ``cost(20, model={"freeze": 2})``."""

    @functools.cache
    def found(tree: str, labels: int) -> Costs:
        parts, uses = cost_of(settings(**json.loads(tree)), num_labels=labels, embedding_width=WIDTH)
        return {part.name: part for part in parts}, {(use.name, use.images): use for use in uses}

    return lambda labels=LABELS, **sections: found(json.dumps(sections), labels)


@pytest.fixture(scope="session")
def real_model() -> Callable[[Settings], MultiLabelClassifier]:
    """The model of some settings as training has it, with numbers in it."""

    def build(chosen: Settings) -> MultiLabelClassifier:
        torch.manual_seed(0)
        names = tuple(f"label {number}" for number in range(LABELS))
        inputs = LabelInputs(names, torch.randn(LABELS, WIDTH), (torch.rand(LABELS, LABELS) > 0.5).float())
        model = build_without_weights(chosen.model, inputs, image_size=chosen.data.image_size)
        model = model.to(memory_format=torch.channels_last)
        model.backbone.freeze(chosen.model.freeze)
        model.train()
        model.backbone.hold_norms(everywhere=chosen.model.freeze_norm)
        return model

    return build


@pytest.fixture(scope="session")
def images() -> Callable[..., Tensor]:
    """Images without content: ``images(8, 160)``."""
    return lambda count, side=64: torch.zeros(count, 3, side, side).contiguous(memory_format=torch.channels_last)


@pytest.fixture(scope="session")
def loss_of() -> Callable[..., Tensor]:
    """The loss of a model on a batch, with its auxiliary losses: ``loss_of(model, batch, mixed=True)``."""

    def loss(model: MultiLabelClassifier, batch: Tensor, *, mixed: bool = False) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            output = model(batch)
        return soft_margin(output.logits, torch.zeros_like(output.logits)) + sum(output.aux_losses.values())

    return loss


@pytest.fixture(scope="session")
def sizes() -> tuple[int, int]:
    """L and E of ``cost`` and ``real_model``."""
    return LABELS, WIDTH
