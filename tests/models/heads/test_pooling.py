"""Average and max pooling against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from msrn.models.heads import average_pool, max_pool
from msrn.models.heads.base import Head, LabelInputs

LABELS = LabelInputs(("cat", "dog", "sofa"))


@pytest.mark.parametrize(
    ("head", "pool"),
    [
        (average_pool.AveragePool(average_pool.Options(), channels=(4, 5), labels=LABELS), np.mean),
        (max_pool.MaxPool(max_pool.Options(), channels=(4, 5), labels=LABELS), np.max),
    ],
)
def test_the_logits_are_linear_in_the_pooled_channels_of_the_last_map(head: Head, pool: object) -> None:
    deepest = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    weight, bias = (each.detach().numpy() for each in head.parameters())
    expected = np.zeros((2, 3))
    for image in range(2):
        for label in range(3):
            pooled = [pool(deepest[image, channel].numpy()) for channel in range(5)]  # type: ignore[operator]
            expected[image, label] = sum(p * w for p, w in zip(pooled, weight[label], strict=True)) + bias[label]
    logits = head([torch.zeros(2, 4, 6, 8), deepest]).logits
    np.testing.assert_allclose(logits.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert sum(each.numel() for each in head.parameters()) == (5 + 1) * 3
