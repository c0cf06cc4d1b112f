"""Every head trains a step, saves and loads to the same logits, precomputes, and takes what other heads take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from msrn import registry
from msrn.config import ModelSettings, load_settings
from msrn.errors import ConfigError
from msrn.losses.soft_margin import soft_margin
from msrn.models.classifier import MultiLabelClassifier, create_model, head_class
from msrn.models.heads.base import Head, LabelInputs

HEADS = registry.names("head")
NEEDS_TWO_LABELS = {"msrn"}
"""Heads that say so when there is one label."""


def label_inputs(count: int) -> LabelInputs:
    generator = torch.Generator().manual_seed(count)
    graph = (torch.rand(count, count, generator=generator) > 0.5).float() + torch.eye(count)
    return LabelInputs(tuple(f"label {n}" for n in range(count)), torch.randn(count, 7, generator=generator), graph)


def model_of(name: str, *, labels: int = 3, **settings: Any) -> MultiLabelClassifier:
    torch.manual_seed(0)
    section = ModelSettings(backbone="test_resnet", weights="none", head=name, **settings)
    inputs = label_inputs(labels).only(head_class(name).needs)
    return create_model(section, inputs)


def images(count: int = 2, height: int = 96, width: int = 96) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=HEADS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_head_gives_one_logit_per_label_and_scalar_auxiliary_losses(name: str) -> None:
    model = model_of(name)
    assert isinstance(model.head, Head)
    output = model(images())
    assert output.logits.shape == (2, 3)
    assert output.logits.dtype == torch.float32
    assert all(loss.ndim == 0 for loss in output.aux_losses.values())


def test_a_training_step_changes_every_weight_of_the_head_and_lowers_the_loss(name: str) -> None:
    model = model_of(name).train()
    target = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    losses = []
    for _ in range(4):
        output = model(images())
        loss = soft_margin(output.logits, target) + sum(output.aux_losses.values())
        optimizer.zero_grad()
        loss.backward()
        silent = [key for key, weight in model.head.named_parameters() if weight.grad is None]
        assert not silent, f"no gradient: {silent}"
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_unknown_targets_have_no_part_in_the_gradient(name: str) -> None:
    gradients = []
    for value in (torch.nan, torch.nan):
        model = model_of(name).eval()
        target = torch.tensor([[1.0, value, 0.0]])
        logits = model(images(1)).logits
        logits.retain_grad()
        soft_margin(logits, target).backward()
        gradients.append(logits.grad)
    assert gradients[0] is not None
    assert float(gradients[0][0, 1]) == 0
    assert torch.isfinite(gradients[0]).all()


def test_saved_and_loaded_weights_give_the_same_logits_on_the_same_label_inputs(name: str, tmp_path: Path) -> None:
    model = model_of(name).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(99)
    section = ModelSettings(backbone="test_resnet", weights="none", head=name)
    other = create_model(section, label_inputs(3)).eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(model(images()).logits, other(images()).logits)


@torch.no_grad()
def test_precomputing_changes_no_logit(name: str) -> None:
    model = model_of(name).eval()
    before = model(images()).logits
    model.precompute()
    model.precompute()  # twice is once
    assert torch.equal(before, model(images()).logits)


@torch.no_grad()
def test_an_image_is_scored_by_itself_whatever_its_batch(name: str) -> None:
    model = model_of(name).eval()
    batch = images(3)
    alone = torch.cat([model(batch[n : n + 1]).logits for n in range(3)])
    torch.testing.assert_close(model(batch).logits, alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(65, 97), (128, 64)])
def test_odd_sizes_are_taken(name: str, height: int, width: int) -> None:
    assert model_of(name).eval()(images(2, height, width)).logits.shape == (2, 3)


@torch.no_grad()
def test_cached_feature_maps_give_the_logits_of_the_image(name: str) -> None:
    model = model_of(name).eval()
    assert torch.equal(model(model.backbone(images())).logits, model(images()).logits)


def test_one_label_works_or_is_refused_with_a_reason(name: str) -> None:
    if name in NEEDS_TWO_LABELS:
        with pytest.raises(ConfigError, match="at least two labels, got 1"):
            model_of(name, labels=1)
    else:
        assert model_of(name, labels=1)(images()).logits.shape == (2, 1)


def test_label_inputs_that_are_needed_and_missing_are_named(name: str) -> None:
    section = ModelSettings(backbone="test_resnet", weights="none", head=name)
    inputs = LabelInputs(("cat", "dog"))
    needs = head_class(name).needs
    if needs:
        with pytest.raises(ConfigError, match=f"needs label {' and '.join(sorted(needs))}, got none"):
            create_model(section, inputs)
    else:
        assert create_model(section, inputs)(images()).logits.shape == (2, 2)


def test_no_label_input_is_part_of_the_weights(name: str) -> None:
    inputs = label_inputs(3)
    stored = model_of(name).state_dict()
    for tensor in (inputs.embeddings, inputs.graph):
        assert not any(value.shape == tensor.shape and torch.equal(value, tensor) for value in stored.values())  # type: ignore[union-attr]


def test_an_option_that_a_head_does_not_have_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown setting model\.head\.surprise"):
        load_settings({"model": {"head": {"name": name, "surprise": 1}}})


@torch.no_grad()
def test_logits_are_float32_under_autocast_so_that_scores_do_not_tie(name: str) -> None:
    model = model_of(name).eval()
    batch = torch.randn(64, 3, 64, 64, generator=torch.Generator().manual_seed(2)).div(50)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch).logits
    assert logits.dtype == torch.float32
    coarse = logits.to(torch.bfloat16).float()
    assert not torch.equal(coarse, logits)
    assert len(logits[:, 0].unique()) > len(coarse[:, 0].unique())
