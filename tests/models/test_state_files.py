"""Networks that are built to be loaded."""

from __future__ import annotations

import torch
from torch import nn

from msrn.models.state_files import NoRandomInit


def test_without_random_weights_even_draws_that_are_repeated_until_they_fit_come_to_an_end() -> None:
    before = torch.get_rng_state()
    weight = torch.full((4,), 9.0)  # as memory may hold it; outside the bounds below
    with NoRandomInit():
        assert torch.equal(weight.normal_(0.5, 1.0), torch.full((4,), 0.5))
        nn.init.trunc_normal_(weight, std=0.02)  # hiera's: draws until all values are within -2 and 2
        nn.init.kaiming_normal_(torch.empty(3, 3))
    assert weight.abs().max() < 2
    assert torch.equal(torch.get_rng_state(), before)
