"""Soft margin: the published loss, with unknown targets left out."""

from __future__ import annotations

import pytest
import torch

from msrn.config import load_settings
from msrn.errors import ConfigError
from msrn.losses.soft_margin import soft_margin


def example() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 4, generator=generator), (torch.rand(6, 4, generator=generator) > 0.5).float()


def test_without_unknown_targets_it_is_torchs_multi_label_soft_margin() -> None:
    logits, target = example()
    expected = torch.nn.functional.multilabel_soft_margin_loss(logits, target)
    torch.testing.assert_close(soft_margin(logits, target), expected)


def test_unknown_targets_have_no_part_in_value_or_gradient() -> None:
    logits, target = example()
    target[0, 1] = target[2] = float("nan")
    logits.requires_grad_()
    loss = soft_margin(logits, target)
    loss.backward()
    assert logits.grad[0, 1] == 0
    assert not logits.grad[2].any()
    by_image = []
    for row, wanted in zip(logits.detach(), target, strict=True):
        known = [j for j in range(4) if not wanted[j].isnan()]
        terms = [-(torch.nn.functional.logsigmoid(row[j] if wanted[j] == 1 else -row[j])) for j in known]
        by_image.append(sum(terms) / len(terms) if terms else torch.tensor(0.0))
    assert float(loss.detach()) == pytest.approx(float(sum(by_image)) / 6, rel=1e-6)


def test_the_mean_over_shares_of_a_batch_is_that_of_the_batch() -> None:
    logits, target = example()
    target[1, :3] = float("nan")
    halves = (soft_margin(logits[:3], target[:3]) + soft_margin(logits[3:], target[3:])) / 2
    torch.testing.assert_close(halves, soft_margin(logits, target))


def test_images_weigh_the_same_however_many_of_their_labels_are_known() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [2.0, 0.3, -4.0]])
    target = torch.tensor([[1.0, 1.0, 0.0], [1.0, torch.nan, torch.nan]])
    first = torch.nn.functional.multilabel_soft_margin_loss(logits[:1], target[:1])
    second = torch.nn.functional.multilabel_soft_margin_loss(logits[1:, :1], target[1:, :1])
    torch.testing.assert_close(soft_margin(logits, target), (first + second) / 2)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1e30])
def test_no_logit_of_an_unknown_entry_can_spoil_the_loss(value: float) -> None:
    logits, target = example()
    target[0, 1] = float("nan")
    expected = soft_margin(logits, target)
    logits[0, 1] = value
    logits.requires_grad_()
    loss = soft_margin(logits, target)
    loss.backward()
    torch.testing.assert_close(loss.detach(), expected)
    assert logits.grad is not None
    kept = torch.ones(6, 4, dtype=torch.bool)
    kept[0, 1] = False
    assert logits.grad[kept].isfinite().all()


def test_nothing_known_gives_a_loss_of_zero_and_no_gradient() -> None:
    logits, target = example()
    logits.requires_grad_()
    loss = soft_margin(logits, torch.full_like(target, float("nan")))
    loss.backward()
    assert (float(loss.detach()), bool(logits.grad.any())) == (0.0, False)  # type: ignore[union-attr]


def test_options_that_the_chosen_weights_do_not_read_are_refused() -> None:
    for options in ({"max_weight": 5}, {"beta": 0.9}, {"weights": "ratio", "beta": 0.9}):
        with pytest.raises(ConfigError, match=r"goes with weights"):
            load_settings({"loss": options})
