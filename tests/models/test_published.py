"""Released checkpoints fill every entry of the head and its backbone by published names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from msrn.config import ModelSettings
from msrn.errors import WeightsError
from msrn.models.classifier import MultiLabelClassifier, create_model
from msrn.models.heads.base import LabelInputs
from msrn.models.published import load_published


def released(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A checkpoint as the published program writes it, for ``small()``: its names, written out by hand."""
    names = {
        "head.semantics.embed.weight": "fc_label.weight",
        "head.semantics.embed.bias": "fc_label.bias",
        "head.semantics.label_layers.0.weight": "label_embed.layers.0.W",
        "head.semantics.label_layers.0.attention": "label_embed.layers.0.a",
        "head.semantics.label_layers.1.weight": "label_embed.layers.1.W",
        "head.semantics.label_layers.1.attention": "label_embed.layers.1.a",
        "head.semantics.group_layer.weight": "group_embed.layers.0.embed.W",
        "head.semantics.group_layer.attention": "group_embed.layers.0.embed.a",
        "head.semantics.assignment_layer.weight": "group_embed.layers.0.assign_mat.W",
        "head.semantics.assignment_layer.attention": "group_embed.layers.0.assign_mat.a",
        "head.output_layer.hidden.weight": "fc1.weight",
        "head.output_layer.hidden.bias": "fc1.bias",
        "head.output_layer.output.weight": "fc2.weight",
        "head.output_layer.output.bias": "fc2.bias",
        **{f"head.projections.{n}.{kind}": f"ProjectM.{n}.{kind}" for n in range(3) for kind in ("weight", "bias")},
        **{
            f"head.extra_convs.{n}.{k}": f"resnet_101.conv_buffer{n + 1}.{k}"
            for n in range(2)
            for k in ("weight", "bias")
        },
    }
    state = {}
    for name, value in model.state_dict().items():
        state[names.get(name) or name.replace("backbone.body.", "resnet_101.")] = value.clone()
    unused = ("resnet_101.conv_buffer3.weight", "resnet_101.conv_buffer3.bias", "resnet_101.fc.weight", "W", "B")
    return state | {name: torch.zeros(1) for name in unused}


NAMES = ("dog", "cat", "sofa", "bus", "car")


def small(seed: int, checkpoint: str = "", order: str = "") -> MultiLabelClassifier:
    torch.manual_seed(seed)
    head = {"name": "msrn", "width": 8, "pools": (2, 1, 1), "group_ratio": 0.4}
    head |= {"checkpoint": checkpoint, "checkpoint_labels": order}
    settings = ModelSettings(backbone="test_resnet", weights="none", head=head)
    embeddings = torch.randn(5, 7, generator=torch.Generator().manual_seed(9))
    return create_model(settings, LabelInputs(NAMES, embeddings, torch.eye(5))).eval()


@pytest.fixture
def order(tmp_path: Path) -> str:
    (tmp_path / "order.txt").write_text("\n".join(NAMES))
    return str(tmp_path / "order.txt")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_released_checkpoint_fills_every_entry_by_its_published_name(tmp_path: Path, order: str, prefix: str) -> None:
    source = small(1)
    path = tmp_path / "released.pth.tar"
    state = {prefix + name: value for name, value in released(source).items()}
    torch.save({"epoch": 3, "best_score": np.float32(0.9), "state_dict": state}, path)
    model = small(2, str(path), order)
    own = source.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


def test_everything_wrong_with_a_released_checkpoint_is_reported_at_once_and_nothing_is_loaded(tmp_path: Path) -> None:
    model = small(2)
    state = released(small(1))
    del state["ProjectM.1.bias"], state["resnet_101.conv1.0.weight"]
    state["fc2.weight"] = torch.zeros(7, 3)
    state["resnet_101.conv_buffer9.more.weight"], state["surprise"] = torch.zeros(1), torch.zeros(1)
    path = tmp_path / "broken.pth.tar"
    torch.save({"state_dict": state}, path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match="the weights do not fit") as caught:
        load_published(model.head, model.backbone, path, order=NAMES)
    for part in (
        "missing entry ProjectM.1.bias (8,)",
        "missing entry resnet_101.conv1.0.weight",
        "entry fc2.weight: expected shape (5, 2048), got (7, 3)",
        "unknown entry surprise",
    ):
        assert part in str(caught.value)
    assert len(caught.value.problems) == 4
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
