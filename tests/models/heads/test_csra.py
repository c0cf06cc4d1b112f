"""CSRA against the paper's formula, written as loops over labels and positions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from msrn.config import load_settings
from msrn.errors import ConfigError
from msrn.models.heads.base import LabelInputs
from msrn.models.heads.csra import CSRA, Options

LABELS = LabelInputs(("cat", "dog", "sofa"))


def head(**options: object) -> CSRA:
    torch.manual_seed(0)
    return CSRA(Options(**options), channels=(4, 5), labels=LABELS)


def maps(seed: int = 0, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.zeros(2, 4, 6, 8), scale * torch.randn(2, 5, 3, 4, generator=generator)]


def by_loops(csra: CSRA, features: Tensor, temperatures: list[float | str], residual: float) -> np.ndarray:
    """Equations 2 to 5 of the paper: per class and position a score, a softmax over positions, and their mean."""
    x = features.flatten(2).double().numpy()  # (B, C, N)
    logits = np.zeros((len(x), len(LABELS)))
    for weights, temperature in zip(csra.scores, temperatures, strict=True):
        m = weights.weight.detach().double().numpy()[:, :, 0, 0]  # (L, C)
        for b in range(len(x)):
            for i in range(len(LABELS)):
                scores = [float(sum(m[i, c] * x[b, c, n] for c in range(x.shape[1]))) for n in range(x.shape[2])]
                mean = sum(scores) / len(scores)
                if temperature == "max":
                    attended = max(scores)
                else:
                    top = max(scores)
                    exponents = [math.exp(temperature * (s - top)) for s in scores]
                    attended = sum(e * s for e, s in zip(exponents, scores, strict=True)) / sum(exponents)
                logits[b, i] += mean + residual * attended
    return logits


@pytest.mark.parametrize("temperatures", [[1.0], [0.3], ["max"], [1.0, 2.0, "max"]])
def test_the_logits_are_those_of_the_formula(temperatures: list[float | str]) -> None:
    csra = head(temperatures=temperatures, residual=0.3)
    expected = by_loops(csra, maps()[-1], temperatures, 0.3)
    np.testing.assert_allclose(csra(maps()).logits.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperatures", [[0.3], ["max"], [1.0, 2.0, "max"]])
def test_attention_is_the_mean_of_the_softmaxes_of_the_attention_heads(temperatures: list[float | str]) -> None:
    csra, x = head(temperatures=temperatures), maps()[-1].flatten(2).double().numpy()
    expected = np.zeros((len(x), len(LABELS), x.shape[2]))
    for weights, temperature in zip(csra.scores, temperatures, strict=True):
        m = weights.weight.detach().double().numpy()[:, :, 0, 0]
        for b, i in np.ndindex(*expected.shape[:2]):
            scores = (m[i] @ x[b]).tolist()
            for n, score in enumerate(scores):
                share = float(score == max(scores))
                if temperature != "max":
                    share = math.exp(temperature * score) / sum(math.exp(temperature * each) for each in scores)
                expected[b, i, n] += share / len(temperatures)
    (attention,) = csra.attention(maps())
    np.testing.assert_allclose(attention.detach().flatten(2).numpy(), expected, rtol=1e-4, atol=1e-6)


@given(seed=st.integers(0, 50), scale=st.floats(0.1, 30))
@settings(max_examples=20, deadline=None)
def test_a_large_temperature_is_the_maximum(seed: int, scale: float) -> None:
    hot, limit = head(temperatures=[1e6]), head(temperatures=["max"])
    torch.testing.assert_close(hot(maps(seed, scale)).logits, limit(maps(seed, scale)).logits, rtol=1e-3, atol=1e-3)


def test_without_attention_it_is_average_pooling() -> None:
    csra = head(residual=0.0)
    scores = torch.einsum("bchw,lc->blhw", maps()[-1], csra.scores[0].weight[:, :, 0, 0])
    torch.testing.assert_close(csra(maps()).logits, scores.mean(dim=(2, 3)))


def test_every_head_has_one_weight_per_channel_and_label() -> None:
    csra = head(temperatures=[1.0, 2.0, "max"])
    assert sum(weight.numel() for weight in csra.parameters()) == 3 * 5 * 3


@pytest.mark.parametrize("temperatures", [[], [0.0], [-1.0], ["min"]])
def test_impossible_temperatures_are_refused(temperatures: list[object]) -> None:
    with pytest.raises(ConfigError, match=r"model\.head\.temperatures"):
        load_settings({"model": {"head": {"name": "csra", "temperatures": temperatures}}})
