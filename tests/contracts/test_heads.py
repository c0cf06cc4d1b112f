"""Every head trains a step, saves and loads to the same logits, precomputes, and takes what other heads take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_heads import CASES, small
from torch import Tensor

from msrn import registry
from msrn.config import ModelSettings, load_settings
from msrn.errors import ConfigError
from msrn.losses.soft_margin import soft_margin
from msrn.models.classifier import MultiLabelClassifier, create_model
from msrn.models.heads.base import Head, LabelInput, LabelInputs

NEEDS_TWO_LABELS = ("msrn",)
"""Heads that say so when there is one label."""
WITHOUT_ATTENTION = ("average_pool", "max_pool", "ml_gcn", "msrn")
"""Heads that do not say where they look."""
SHARED_BY_PLACE = {"msrn", "msrn without groups", "ml_decoder of two groups"}
"""Heads in which labels share weights by their place: in blocks of the flatten layer, or in groups."""


def label_inputs(count: int, order: list[int] | None = None) -> LabelInputs:
    generator = torch.Generator().manual_seed(count)
    graph = (torch.rand(count, count, generator=generator) > 0.5).float() + torch.eye(count)
    embeddings, order = torch.randn(count, 7, generator=generator), order or list(range(count))
    return LabelInputs(tuple(f"label {n}" for n in order), embeddings[order], graph[order][:, order])


def section_of(name: str, **options: Any) -> ModelSettings:
    return ModelSettings(backbone="test_resnet", weights="none", head={**small(name), **options})


def needs_of(name: str) -> frozenset[LabelInput]:
    head = section_of(name).head
    return registry.load("head", head.name).needs(head)


def model_of(name: str, *, labels: int = 3, order: list[int] | None = None, **options: Any) -> MultiLabelClassifier:
    torch.manual_seed(0)
    return create_model(section_of(name, **options), label_inputs(labels, order).only(needs_of(name)))


def images(count: int = 2, height: int = 96, width: int = 96) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=CASES)
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
    other = create_model(section_of(name), label_inputs(3)).eval()
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
    if name.startswith(NEEDS_TWO_LABELS):
        with pytest.raises(ConfigError, match="at least two labels, got 1"):
            model_of(name, labels=1)
    elif "groups" in small(name):
        with pytest.raises(ConfigError, match="at most one group for each of the 1 labels, got 2"):
            model_of(name, labels=1)
    else:
        assert model_of(name, labels=1)(images()).logits.shape == (2, 1)


def test_label_inputs_that_are_needed_and_missing_are_named(name: str) -> None:
    inputs, needs = LabelInputs(("cat", "dog")), needs_of(name)
    if needs:
        with pytest.raises(ConfigError, match=f"needs label {' and '.join(sorted(needs))}, got none"):
            create_model(section_of(name), inputs)
    else:
        assert create_model(section_of(name), inputs)(images()).logits.shape == (2, 2)


def test_no_label_input_is_part_of_the_weights(name: str) -> None:
    inputs = label_inputs(3)
    stored = model_of(name).state_dict()
    for tensor in (inputs.embeddings, inputs.graph):
        assert not any(value.shape == tensor.shape and torch.equal(value, tensor) for value in stored.values())  # type: ignore[union-attr]


def test_an_option_that_a_head_does_not_have_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown setting model\.head\.surprise"):
        load_settings({"model": {"head": {**small(name), "surprise": 1}}})


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


@torch.no_grad()
def test_attention_is_shares_of_the_positions_of_each_map_that_is_read(name: str) -> None:
    model = model_of(name).eval()
    maps = model.backbone(images(2, 65, 97))
    found = model.head.attention(maps)
    if found is None:
        assert name.startswith(WITHOUT_ATTENTION)
        return
    model.precompute()
    for shares, features, again in zip(found[::-1], maps[::-1], model.head.attention(maps)[::-1], strict=False):
        assert shares.shape == (2, 3, *features.shape[2:])
        assert shares.dtype == torch.float32
        assert float(shares.min()) >= 0
        torch.testing.assert_close(shares.sum(dim=(2, 3)), torch.ones(2, 3))
        torch.testing.assert_close(shares, again)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in CASES if name not in SHARED_BY_PLACE])
def test_labels_in_another_order_give_the_same_logits_in_that_order(name: str) -> None:
    """Every weight with a label axis is permuted; no other axis of these small heads has 11 entries."""
    order = [3, 9, 0, 10, 1, 8, 2, 7, 6, 4, 5]
    model, permuted = model_of(name, labels=11).eval(), model_of(name, labels=11, order=order).eval()
    state = model.state_dict()
    for key, value in state.items():
        for axis, size in enumerate(value.shape if key.startswith("head.") else ()):
            state[key] = state[key].index_select(axis, torch.tensor(order)) if size == 11 else state[key]
    permuted.load_state_dict(state)
    torch.testing.assert_close(permuted(images()).logits, model(images()).logits[:, order], rtol=1e-4, atol=1e-5)
