"""FLOPs of the heads that attend or convolve over a graph, against closed forms; a multiply-add counts as two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from msrn.profiling.model_cost import Part, Use

Cost = Callable[..., tuple[dict[str, Part], dict[tuple[str, int], Use]]]

L, E, C, N = 6, 10, 96, 9  # of the fixtures, of test_resnet's deepest map, and its positions at 96 px


def costs(cost: Cost, **head: Any) -> tuple[dict[str, tuple[int, int]], int]:
    """FLOPs per image and per step of each part, and those of the head in a prediction for one image."""
    parts, uses = cost(model={"head": head}, data={"image_size": 96})
    backbone = parts["backbone"].flops_per_image
    found = {name: (part.flops_per_image, part.flops_once) for name, part in parts.items() if name != "backbone"}
    return found, uses["predict", 1].flops - backbone


def attention(queries: int, places: int, width: int) -> int:
    """Scores and the mean that they weigh: two products."""
    return 2 * 2 * queries * places * width


def test_ml_gcn_computes_its_classifiers_once_per_step_and_never_in_prediction(cost: Cost) -> None:
    parts, predicting = costs(cost, name="ml_gcn", width=7)
    assert parts["classifiers"] == (0, 2 * (L * L * E + L * E * 7 + L * L * 7 + L * 7 * C))
    assert parts["between the parts"] == (2 * L * C, 0)
    assert predicting == 2 * L * C


def test_add_gcn_computes_everything_for_each_image(cost: Cost) -> None:
    parts, predicting = costs(cost, name="add_gcn", width=8)
    expected = {
        "activations": 2 * N * C * L,
        "projection": 2 * N * C * 8,
        "static graph": 2 * (L * L * 8 + L * 8 * 8),
        "dynamic graph": 2 * (8 * 8 + 8 * L + L * 8 * L + L * L * 8 + L * 8 * 8),
        "output": 2 * L * 8,
        "between the parts": 2 * L * N * 8,  # label vectors from activation maps
    }
    assert parts == {name: (flops, 0) for name, flops in expected.items()}
    assert predicting == sum(expected.values())


@pytest.mark.parametrize("self_attention", [True, False])
def test_query2label_costs_its_attention_and_its_layers(cost: Cost, self_attention: bool) -> None:
    parts, predicting = costs(cost, name="query2label", width=16, self_attention=self_attention)
    square, feed_forward = 2 * 16 * 16, 2 * 2 * 16 * 64
    between = self_attention * (4 * L * square + attention(L, L, 16))
    expected = {
        "projection": (2 * N * C * 16, 0),
        "encoder": (4 * N * square + attention(N, N, 16) + N * feed_forward, 0),
        "queries": (0, between),
        # The first layer projects its queries once for all images.
        "decoder": (2 * (L + 2 * N) * square + L * square + 2 * attention(L, N, 16) + 2 * L * feed_forward, L * square),
        "between layers": (between, 0),
        "output": (2 * L * 16, 0),
    }
    assert {name: flops for name, flops in parts.items() if any(flops)} == {
        name: flops for name, flops in expected.items() if any(flops)
    }
    assert predicting == sum(per_image for per_image, _ in expected.values())


@pytest.mark.parametrize(("queries", "once"), [("fixed", 0), ("words", 2 * L * E * 16)])
def test_ml_decoder_costs_its_attention_and_its_layers(cost: Cost, queries: str, once: int) -> None:
    parts, predicting = costs(cost, name="ml_decoder", width=16, hidden=24, queries=queries)
    square = 2 * 16 * 16
    expected = {
        "projection": (2 * N * C * 16, 0),
        "queries": (0, once),
        "decoder": ((L + 2 * N) * square + attention(L, N, 16) + L * 2 * 2 * 16 * 24, L * square),
        "output": (2 * L * 16, 0),
    }
    assert {name: flops for name, flops in parts.items() if any(flops)} == {
        name: flops for name, flops in expected.items() if any(flops)
    }
    assert predicting == sum(per_image for per_image, _ in expected.values())


def test_fewer_groups_cost_fewer_queries(cost: Cost) -> None:
    of_labels, of_groups = (costs(cost, name="ml_decoder", width=16, hidden=24, groups=groups)[0] for groups in (0, 2))
    assert of_groups["output"] == of_labels["output"]
    assert of_groups["decoder"][0] < of_labels["decoder"][0]
    assert of_groups["decoder"][1] == 2 * 2 * 16 * 16
