"""Is the loss the published one, and are unknown targets left out?"""

from __future__ import annotations

import pytest
import torch

from msrn.losses import soft_margin


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
    by_picture = []
    for row, wanted in zip(logits.detach(), target, strict=True):
        known = [j for j in range(4) if not wanted[j].isnan()]
        terms = [-(torch.nn.functional.logsigmoid(row[j] if wanted[j] == 1 else -row[j])) for j in known]
        by_picture.append(sum(terms) / len(terms) if terms else torch.tensor(0.0))
    assert float(loss.detach()) == pytest.approx(float(sum(by_picture)) / 6, rel=1e-6)


def test_the_mean_over_shares_of_a_batch_is_that_of_the_batch() -> None:
    logits, target = example()
    target[1, :3] = float("nan")
    halves = (soft_margin(logits[:3], target[:3]) + soft_margin(logits[3:], target[3:])) / 2
    torch.testing.assert_close(halves, soft_margin(logits, target))
