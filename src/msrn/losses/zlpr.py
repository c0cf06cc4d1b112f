"""Zero-bounded log-sum-exp and pairwise rank-based loss, ZLPR (Su et al., arXiv 2208.02955: the loss, and its soft
version for targets between 0 and 1).

Every positive is to stand above 0 and every negative below, and by that above every negative; a label is predicted when
its logit is above 0.

Where we differ: in nothing but the mask. The loss is a sum over labels inside two logarithms; it is not divided by L.
"""

from __future__ import annotations

import torch
from torch import Tensor

from msrn import registry
from msrn.losses.base import LabelCounts, Loss, known_entries

__all__ = ["ZLPR", "Options"]


class Options(registry.Options):
    """ZLPR has no options."""

    name: str = "zlpr"


class ZLPR(Loss):
    """``log(1 + sum t exp(-x)) + log(1 + sum (1 - t) exp(x))`` over the known labels of an image, mean over images."""

    def __init__(self, options: Options, *, counts: LabelCounts) -> None:
        super().__init__()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits and target ``(B, L)`` to a scalar."""
        logits, target, known = known_entries(logits, target)
        return (_log_one_plus(-logits, target, known) + _log_one_plus(logits, 1 - target, known)).mean()


def _log_one_plus(logits: Tensor, weight: Tensor, known: Tensor) -> Tensor:
    """``log(1 + sum weight exp(logits))`` over the known entries of each row, ``(B,)``."""
    terms = (logits + weight.log()).where(known & (weight > 0), -torch.inf)
    one = terms.new_zeros(len(terms), 1)
    return torch.logsumexp(torch.cat((one, terms), dim=1), dim=1)
