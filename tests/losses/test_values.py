"""Each loss gives the values of its paper, written out for one image and one label at a time in plain Python."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from msrn import registry
from msrn.losses.base import LabelCounts, Loss

NAN = float("nan")
POSITIVES, NEGATIVES = [3.0, 40.0, 11.0, 0.0], [97.0, 50.0, 80.0, 90.0]
LOGITS = [[0.3, -1.2, 2.5, 0.9], [-0.4, 1.7, 0.2, -2.2], [1.1, 0.6, -3.0, 0.1], [-0.7, 0.5, 1.4, 2.0]]
TARGETS = [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, NAN, 0.0], [0.0, 0.0, 0.0, 1.0], [NAN, 0.0, 1.0, 0.0]]
SOFT = [[0.7, 0.0, 1.0, 0.25], [0.0, 1.0, NAN, 0.4], [0.0, 0.3, 0.0, 1.0], [NAN, 0.0, 0.9, 0.0]]

Entry = Callable[[float, float, int, list[float]], float]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def build(name: str, **options: Any) -> Loss:
    chosen = registry.options_class("loss", name).model_validate({"name": name, **options})
    loss: Loss = registry.load("loss", name)(
        chosen, counts=LabelCounts(torch.tensor(POSITIVES), torch.tensor(NEGATIVES))
    )
    return loss


def mean_of(entry: Entry, targets: list[list[float]]) -> float:
    """Mean of ``entry(logit, target, label, targets of the image)`` over the known labels, then over images."""
    images = []
    for logits, target in zip(LOGITS, targets, strict=True):
        terms = [entry(x, t, label, target) for label, (x, t) in enumerate(zip(logits, target, strict=True)) if t == t]
        images.append(sum(terms) / len(terms))
    return sum(images) / len(images)


def value(loss: Loss, targets: list[list[float]]) -> float:
    return float(loss(torch.tensor(LOGITS, dtype=torch.float64), torch.tensor(targets, dtype=torch.float64)))


soft_and_hard = pytest.mark.parametrize("targets", [TARGETS, SOFT], ids=["hard", "soft"])


@soft_and_hard
def test_soft_margin_with_weights_and_smoothing(targets: list[list[float]]) -> None:
    def plain(x: float, t: float, label: int, _: list[float]) -> float:
        return -t * math.log(sigmoid(x)) - (1 - t) * math.log(1 - sigmoid(x))

    def ratio(x: float, t: float, label: int, _: list[float]) -> float:
        weight = min(NEGATIVES[label] / max(POSITIVES[label], 1), 20)
        return -weight * t * math.log(sigmoid(x)) - (1 - t) * math.log(1 - sigmoid(x))

    effective = [(1 - 0.99) / (1 - 0.99 ** max(count, 1)) for count in POSITIVES]
    effective = [min(each, 20 * min(effective)) for each in effective]
    scale = len(effective) / sum(effective)
    smoothed = [[t * 0.8 + 0.1 for t in row] for row in targets]
    assert value(build("soft_margin"), targets) == pytest.approx(mean_of(plain, targets))
    assert value(build("soft_margin", weights="ratio", max_weight=20), targets) == pytest.approx(
        mean_of(ratio, targets)
    )
    assert value(build("soft_margin", weights="effective", beta=0.99), targets) == pytest.approx(
        mean_of(lambda x, t, label, row: scale * effective[label] * plain(x, t, label, row), targets)
    )
    assert value(build("soft_margin", label_smoothing=0.2), targets) == pytest.approx(mean_of(plain, smoothed))


@soft_and_hard
def test_focal(targets: list[list[float]]) -> None:
    def entry(x: float, t: float, *_: Any) -> float:
        p = sigmoid(x)
        return -t * 0.25 * (1 - p) ** 2 * math.log(p) - (1 - t) * 0.75 * p**2 * math.log(1 - p)

    assert value(build("focal"), targets) == pytest.approx(mean_of(entry, targets))


@soft_and_hard
def test_without_focusing_and_balance_focal_and_asl_are_soft_margin(targets: list[list[float]]) -> None:
    expected = value(build("soft_margin"), targets)
    assert value(build("focal", gamma=0, alpha=None), targets) == pytest.approx(expected)
    assert value(build("asl", gamma_negative=0, clip=0), targets) == pytest.approx(expected)


@soft_and_hard
@pytest.mark.parametrize(("plus", "minus", "clip"), [(0.0, 4.0, 0.05), (1.0, 4.0, 0.05), (1.0, 2.0, 0.0)])
def test_asl(targets: list[list[float]], plus: float, minus: float, clip: float) -> None:
    def entry(x: float, t: float, *_: Any) -> float:
        p = sigmoid(x)
        shifted = max(p - clip, 0)
        negative = shifted**minus * math.log(1 - shifted) if shifted else 0.0
        return -t * (1 - p) ** plus * math.log(p) - (1 - t) * negative

    loss = build("asl", gamma_positive=plus, gamma_negative=minus, clip=clip)
    assert value(loss, targets) == pytest.approx(mean_of(entry, targets))


def test_the_focusing_weights_of_asl_carry_gradients_or_not() -> None:
    """Without, the gradient is that of the logarithms alone, times weights that are numbers."""
    logits = torch.tensor([[0.3, -0.8]], dtype=torch.float64, requires_grad=True)
    loss = build("asl", gamma_positive=1, clip=0, focusing_gradient=False)
    loss(logits, torch.tensor([[1.0, 0.0]])).backward()
    p, q = sigmoid(0.3), sigmoid(-0.8)
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([-(1 - p) * (1 - p) / 2, q**4 * q / 2])
    logits.grad = None
    build("asl", gamma_positive=1, clip=0)(logits, torch.tensor([[1.0, 0.0]])).backward()
    with_weights = [-((1 - p) ** 2) + p * (1 - p) * math.log(p), q**5 - 4 * q**4 * (1 - q) * math.log(1 - q)]
    assert logits.grad[0].tolist() == pytest.approx([each / 2 for each in with_weights])


def test_negatives_below_the_clip_of_asl_have_no_gradient() -> None:
    logits = torch.tensor([[-3.0, -2.9]], requires_grad=True)  # p = 0.047 and 0.052
    build("asl")(logits, torch.zeros(1, 2)).backward()
    assert logits.grad is not None
    assert float(logits.grad[0, 0]) == 0
    assert float(logits.grad[0, 1]) > 0


@soft_and_hard
def test_hill(targets: list[list[float]]) -> None:
    def entry(x: float, t: float, *_: Any) -> float:
        p, q = sigmoid(x), sigmoid(x - 1)
        return -t * (1 - q) ** 2 * math.log(q) + (1 - t) * (1.5 - p) * p**2

    assert value(build("hill"), targets) == pytest.approx(mean_of(entry, targets))


def test_the_hill_falls_where_the_model_is_sure_of_a_negative() -> None:
    """The slope of (lambda - p) p^2 in the logit is 0 at p = 1, and highest where the hill is steepest."""
    logits = torch.tensor([[0.0, 2.0, 6.0]], requires_grad=True)
    build("hill")(logits, torch.zeros(1, 3)).backward()
    assert logits.grad is not None
    middle, _, sure = logits.grad[0].tolist()
    assert sure < 0.02 * middle


@soft_and_hard
@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_splc_corrects_confident_negatives_once_its_epoch_is_reached(targets: list[list[float]], epoch: int) -> None:
    def entry(x: float, t: float, *_: Any) -> float:
        p, q = sigmoid(x), sigmoid(x - 1)
        positive, negative = -((1 - q) ** 2) * math.log(q), -(p**2) * math.log(1 - p)
        if epoch >= 1 and p > 0.6:
            negative = -((1 - p) ** 2) * math.log(p)
        return t * positive + (1 - t) * negative

    loss = build("splc")
    loss.epoch = epoch
    assert value(loss, targets) == pytest.approx(mean_of(entry, targets))


def test_two_way() -> None:
    def one(pairs: list[tuple[float, float]]) -> float | None:
        positives, negatives = ([x for x, t in pairs if t == wanted] for wanted in (1.0, 0.0))
        if not positives:
            return None
        if not negatives:
            return 0.0
        lowest = 4 * math.log(sum(math.exp(-x / 4) for x in positives))
        return math.log1p(math.exp(lowest + math.log(sum(math.exp(x) for x in negatives))))

    rows = [list(zip(x, t, strict=True)) for x, t in zip(LOGITS, TARGETS, strict=True)]
    total = 0.0
    for pairs in (rows, list(zip(*rows, strict=True))):
        found = [each for each in map(one, map(list, pairs)) if each is not None]
        total += sum(found) / len(found)
    assert value(build("two_way"), TARGETS) == pytest.approx(total)


def test_two_way_is_the_softmax_loss_where_an_image_has_one_positive() -> None:
    """Section 3: with one positive and temperatures of 1, softplus(log sum exp(n) - p) is softmax cross-entropy."""
    loss = build("two_way", temperature_positive=1)
    logits, target = torch.tensor([[0.3, -1.2, 2.5, 0.9]]), torch.tensor([[0.0, 1.0, 0.0, 0.0]])
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([1]))
    torch.testing.assert_close(loss(logits, target), expected)  # over labels: no image to compare with


@soft_and_hard
def test_zlpr(targets: list[list[float]]) -> None:
    total = 0.0
    for logits, target in zip(LOGITS, targets, strict=True):
        known = [(x, t) for x, t in zip(logits, target, strict=True) if t == t]
        total += math.log(1 + sum(t * math.exp(-x) for x, t in known))
        total += math.log(1 + sum((1 - t) * math.exp(x) for x, t in known))
    assert value(build("zlpr"), targets) == pytest.approx(total / 4)


@soft_and_hard
@pytest.mark.parametrize("gamma", [2.0, 0.0])
def test_distribution_balanced(targets: list[list[float]], gamma: float) -> None:
    positives = [max(count, 0.5) for count in POSITIVES]

    def entry(x: float, t: float, label: int, row: list[float]) -> float:
        drawn = sum(each / count for each, count in zip(row, positives, strict=True) if each == each)
        rate = 1 / positives[label] / drawn if drawn else math.inf
        weight = 0.1 + (sigmoid(10 * (rate - 0.2)) if rate < math.inf else 1.0)
        share = positives[label] / (positives[label] + NEGATIVES[label])
        z = x - 0.05 / 2 * math.log(1 / share - 1)
        p, q = sigmoid(z), sigmoid(2 * z)
        positive, negative = -((1 - p) ** gamma) * math.log(p), -(q**gamma) * math.log(1 - q)
        return 2 * weight * (t * positive + (1 - t) * negative / 2)

    assert value(build("distribution_balanced", gamma=gamma), targets) == pytest.approx(mean_of(entry, targets))


def test_an_image_without_a_positive_has_the_largest_weight_in_the_distribution_balanced_loss() -> None:
    options = {"gamma": 0, "scale": 1, "bias": 0, "negative_scale": 1}
    weighted = float(build("distribution_balanced", **options)(torch.zeros(1, 4), torch.zeros(1, 4)))
    assert weighted == pytest.approx(1.1 * math.log(2))


def test_counts_are_those_of_known_entries() -> None:
    counts = LabelCounts.of(torch.tensor([[1.0, NAN, 0.0], [1.0, 0.0, NAN], [0.0, NAN, NAN]]))
    assert counts.positives.tolist() == [2, 0, 0]
    assert counts.negatives.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", registry.names("loss"))
def test_the_guide_states_the_scale_of_the_gradient(name: str) -> None:
    """80 labels, 3 of them on each image: norm of the gradient over that of soft margin, at the start and later."""
    page = (Path(__file__).parents[2] / "docs/guides/losses.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{name}` \|.*\| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert row, f"no row of {name}"
    target = torch.stack([torch.eye(80).roll(7 * shift, dims=1) for shift in range(3)]).sum(dim=0)
    counts = LabelCounts.of(target)
    for stated, logits in zip(row.groups(), (torch.zeros(80, 80), 4 * target - 4), strict=True):
        norms = []
        for each in (name, "soft_margin"):
            loss = registry.load("loss", each)(registry.options_class("loss", each)(name=each), counts=counts)
            loss.epoch = 1
            free = logits.clone().requires_grad_()
            loss(free, target).backward()
            assert free.grad is not None
            norms.append(float(free.grad.norm()))
        assert float(stated) == pytest.approx(norms[0] / norms[1], rel=0.05)
