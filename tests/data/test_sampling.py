"""Repeat-factor sampling: the factors of the paper's formula, drawn as often on average, and epochs of one length."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msrn.data.sampling import epoch_order, images_per_epoch, repeat_factors

NAN = float("nan")


def factor(row: list[float], rows: list[list[float]], threshold: float) -> float:
    """By the definition, label by label."""
    found = 1.0
    for label, entry in enumerate(row):
        if entry == 1:
            share = sum(other[label] == 1 for other in rows) / len(rows)
            found = max(found, math.sqrt(threshold / share))
    return found


targets = st.integers(1, 4).flatmap(
    lambda labels: st.lists(
        st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=labels, max_size=labels), min_size=1, max_size=12
    )
)


@given(rows=targets, threshold=st.floats(0.001, 1))
def test_factors_are_those_of_the_rarest_label_of_an_image(rows: list[list[float]], threshold: float) -> None:
    found = repeat_factors(np.array(rows), threshold)
    assert found.tolist() == pytest.approx([factor(row, rows, threshold) for row in rows], abs=2**-20)


@given(
    factors=st.lists(st.floats(1, 9), min_size=1, max_size=20), seed=st.integers(0, 2**31), epoch=st.integers(0, 500)
)
def test_every_epoch_draws_the_same_number_and_each_image_within_one_of_its_factor(
    factors: list[float], seed: int, epoch: int
) -> None:
    rounded = np.round(np.array(factors) * 2**20) / 2**20
    order = epoch_order(len(factors), rounded, seed=seed, epoch=epoch)
    assert len(order) == images_per_epoch(len(factors), rounded) == math.floor(sum(rounded))
    counts = Counter(image for image, _ in order)
    drawn = [counts[image] for image in range(len(factors))]
    assert all(times <= math.ceil(factor) for times, factor in zip(drawn, rounded, strict=True))
    # The last place may be cut off: one image, once.
    assert sum(max(0, math.floor(factor) - times) for times, factor in zip(drawn, rounded, strict=True)) <= 1
    assert len(set(order)) == len(order)  # a repeated image is augmented anew


def test_an_image_is_drawn_as_often_as_its_factor_over_many_epochs() -> None:
    factors = np.array([1.0, 1.25, 2.5, 3.75, 1.5, 1.0])  # 11 images an epoch
    epochs = 2000
    counts = Counter(image for epoch in range(epochs) for image, _ in epoch_order(6, factors, seed=3, epoch=epoch))
    found = [counts[image] / epochs for image in range(6)]
    # A count of one epoch varies by 1 at most, so a mean of 2,000 by less than 4 * 0.5 / sqrt(2000).
    assert found == pytest.approx(factors.tolist(), abs=0.045)


def test_an_order_is_a_function_of_seed_and_epoch_and_is_shuffled() -> None:
    factors = np.array([3.0] * 20)
    one = epoch_order(20, factors, seed=1, epoch=2)
    assert one == epoch_order(20, factors, seed=1, epoch=2)
    assert one != epoch_order(20, factors, seed=2, epoch=2)
    assert one != epoch_order(20, factors, seed=1, epoch=3)
    images = [image for image, _ in one]
    assert sum(first == second for first, second in itertools.pairwise(images)) < 15  # of 40 if together


def test_without_factors_each_image_is_drawn_once() -> None:
    order = epoch_order(7, None, seed=0, epoch=0)
    assert sorted(image for image, _ in order) == list(range(7))
    assert images_per_epoch(7, None) == 7
