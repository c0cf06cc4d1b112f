"""Every loss masks unknown targets, has right gradients, stays finite, and is computed in at least float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from msrn import registry
from msrn.bundle.metadata import read_metadata
from msrn.engine.trainer import train
from msrn.losses.base import LabelCounts, Loss

NAN = float("nan")
IMAGES, LABELS = 6, 5
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "soft_margin": [{}, {"label_smoothing": 0.1}, {"weights": "ratio"}, {"weights": "effective"}],
    "focal": [{}, {"alpha": None, "gamma": 0.5}, {"gamma": 0.0}],
    "asl": [{}, {"clip": 0.0, "gamma_positive": 1.0}, {"clip": 0.0, "gamma_negative": 0.0}, {"gamma_negative": 0.5}],
    "splc": [{}, {"start_epoch": 0}],
}
"""Options to try beside the defaults."""

PARTS = [(name, options) for name in registry.names("loss") for options in VARIANTS.get(name, [{}])]


def counts(labels: int = LABELS) -> LabelCounts:
    generator = torch.Generator().manual_seed(5)
    positives = torch.randint(0, 40, (labels,), generator=generator).float()
    positives[0] = 0  # a label that training has no positive of
    return LabelCounts(positives, 100 - positives)


def build(name: str, labels: int = LABELS, **options: Any) -> Loss:
    chosen = registry.options_class("loss", name).model_validate({"name": name, **options})
    loss: Loss = registry.load("loss", name)(chosen, counts=counts(labels))
    return loss


def example(images: int = IMAGES, labels: int = LABELS, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(images, labels, generator=generator, dtype=torch.float64)).to(dtype)
    target = (torch.rand(images, labels, generator=generator) > 0.6).float()
    target[0] = torch.tensor([1.0, 0.0] * labels)[:labels]
    return logits, target


def value_and_gradient(loss: Loss, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


each = pytest.mark.parametrize(("name", "options"), PARTS, ids=str)


@each
def test_a_loss_is_a_scalar_of_float32_and_moves_logits_towards_their_targets(name: str, options: dict) -> None:
    loss, (logits, target) = build(name, **options), example()
    assert isinstance(loss, Loss)
    value, gradient = value_and_gradient(loss, torch.zeros_like(logits), target)
    assert (value.ndim, value.dtype) == (0, torch.float32)
    assert float(value) > 0
    assert bool((gradient[target == 1] < 0).all())
    assert bool((gradient[target == 0] > 0).all())


@each
def test_gradients_are_those_of_finite_differences_in_float64(name: str, options: dict) -> None:
    loss, (logits, target) = build(name, **options), example(dtype=torch.float64)
    target[1, 2] = target[4] = NAN
    loss.epoch = 3
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits.requires_grad_(), eps=1e-6, atol=1e-7)


@each
def test_unknown_entries_have_no_part_whatever_their_logits(name: str, options: dict) -> None:
    loss, (logits, target) = build(name, **options), example()
    target[1, 2] = target[3, 0] = target[4] = NAN
    value, gradient = value_and_gradient(loss, logits, target)
    assert bool((gradient[target.isnan()] == 0).all())
    assert bool((gradient[~target.isnan()] != 0).any())
    for spoiled in (float("inf"), float("-inf"), 1e30):
        others = logits.masked_fill(target.isnan(), spoiled)
        again, same = value_and_gradient(loss, others, target)
        assert torch.equal(again, value)
        assert torch.equal(same, gradient)


@each
def test_nothing_known_gives_zero_with_a_gradient_of_zero(name: str, options: dict) -> None:
    loss, (logits, target) = build(name, **options), example()
    value, gradient = value_and_gradient(loss, logits, torch.full_like(target, NAN))
    assert float(value) == 0
    assert not gradient.any()


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_extreme_logits_give_finite_values_and_gradients(name: str, options: dict, dtype: torch.dtype) -> None:
    loss, (_, target) = build(name, **options), example()
    target[1, 2] = NAN
    loss.epoch = 3
    right = torch.where(target == 1, 1e4, -1e4).to(dtype)
    found = []
    for logits in (right, -right, torch.full_like(right, 1e4), torch.full_like(right, -1e4), torch.zeros_like(right)):
        value, gradient = value_and_gradient(loss, logits, target)
        assert bool(value.isfinite())
        assert bool(gradient.isfinite().all())
        found.append(float(value))
    if not options.get("label_smoothing"):
        assert found[0] < 1e-6  # all right


@each
def test_half_precision_is_computed_in_float32(name: str, options: dict) -> None:
    loss, (logits, target) = build(name, **options), example()
    halved = logits.bfloat16()
    assert torch.equal(loss(halved, target), loss(halved.float(), target))


@each
@pytest.mark.parametrize(("images", "labels"), [(1, 1), (1, 5), (6, 1)])
def test_one_label_and_one_image_are_taken(name: str, options: dict, images: int, labels: int) -> None:
    loss, (logits, target) = build(name, labels, **options), example(images, labels)
    value, gradient = value_and_gradient(loss, logits, target)
    assert bool(value.isfinite())
    assert bool(gradient.isfinite().all())


@each
def test_targets_between_0_and_1_lie_between_those_of_the_ends(name: str, options: dict) -> None:
    loss = build(name, **options)
    if not loss.soft_targets:
        assert name == "two_way"
        return
    logits, target = example(images=1)
    values = []
    for part in torch.linspace(0, 1, 11):
        mixed = target.clone()
        mixed[0, 1] = part
        value, gradient = value_and_gradient(loss, logits, mixed)
        assert bool(gradient.isfinite().all())
        values.append(float(value))
    steps = torch.tensor(values).diff()
    assert float(steps.abs().max()) < 0.8 * abs(values[-1] - values[0]) + 1e-6  # no jump


@each
def test_a_loss_that_does_not_compare_images_is_the_mean_over_shares_of_a_batch(name: str, options: dict) -> None:
    loss, (logits, target) = build(name, **options), example()
    target[1, :3] = target[2] = NAN
    halves = (loss(logits[:3], target[:3]) + loss(logits[3:], target[3:])) / 2
    assert torch.allclose(halves, loss(logits, target)) != loss.compares_images


@each
def test_no_size_depends_on_numbers_so_that_the_cost_of_a_step_is_known_beforehand(name: str, options: dict) -> None:
    with FakeTensorMode():
        loss = build(name, **options)
        loss(torch.empty(3, LABELS, requires_grad=True), torch.empty(3, LABELS)).backward()


@each
def test_order_of_images_and_labels_does_not_matter(name: str, options: dict) -> None:
    logits, target = example()
    target[1, 2] = NAN
    images, labels = torch.randperm(IMAGES), torch.randperm(LABELS)
    chosen = registry.options_class("loss", name).model_validate({"name": name, **options})
    known = counts()
    moved = LabelCounts(known.positives[labels], known.negatives[labels])
    other = registry.load("loss", name)(chosen, counts=moved)
    expected = build(name, **options)(logits, target)
    torch.testing.assert_close(other(logits[images][:, labels], target[images][:, labels]), expected)


@each
def test_logits_under_a_loss_reach_their_targets(name: str, options: dict) -> None:
    """Free logits, as of a network that can learn anything: each loss ranks every positive above every negative."""
    loss, (logits, target) = build(name, **options), example()
    target[1, 2] = NAN
    logits = (-logits / 10).requires_grad_()  # undecided, and in the wrong order
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for step in range(150):
        loss.epoch = 0 if step < 100 else 1
        optimizer.zero_grad()
        loss(logits, target).backward()
        optimizer.step()
    reached = logits.detach()
    assert reached[target == 1].min() > reached[target == 0].max()


@pytest.mark.parametrize("name", registry.names("loss"))
def test_a_loss_chosen_by_name_is_the_one_that_training_minimises(tiny: Any, tmp_path: Path, name: str) -> None:
    settings = tiny(tmp_path / "run", loss={"name": name}, optim={"epochs": 1})
    train(settings)
    assert read_metadata(tmp_path / "run").settings["loss"]["name"] == name
