"""Results as values: what they write as JSON is read back, and what does not fit is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msrn.errors import DataError
from msrn.metrics import MultilabelMetrics, multilabel_metrics
from msrn.metrics.results import FORMAT

Draw = Callable[..., tuple[np.ndarray, np.ndarray]]


def some(draw: Draw) -> MultilabelMetrics:
    """Metrics with a label that has no positive."""
    scores, target = draw(1)
    target[:, 2] = 0
    return multilabel_metrics(scores, target, labels="abcdefg")


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_what_is_written_as_json_is_read_back(grid: Draw, seed: int) -> None:
    scores, target = grid(seed)
    labels = [f"label {at}" for at in range(scores.shape[1])]
    found = multilabel_metrics(scores, target, labels=labels, thresholds=0.5 if seed % 2 else [0.5] * len(labels))
    tree = json.loads(json.dumps(found.to_json(), allow_nan=False))
    back = MultilabelMetrics.from_json(tree)
    assert back.to_json() == tree == found.to_json()
    assert repr(back) == repr(found)  # NaN equals nothing, not even in a field


def test_undefined_numbers_are_nan_in_the_value_and_null_in_the_file(draw: Draw) -> None:
    found = some(draw)
    assert np.isnan(found.per_label[2].ap)
    tree = found.to_json()
    assert tree["per_label"][2]["AP"] is None
    assert np.isnan(MultilabelMetrics.from_json(tree).per_label[2].ap)


def test_the_keys_of_the_file_are_the_names_that_papers_print(draw: Draw) -> None:
    tree = some(draw).to_json()
    averages = ["CP", "CR", "CF1", "OP", "OR", "OF1", "macro_F1"]
    figures = ["mAP", "micro_AP", "AUROC", "label_ranking_AP", "coverage_error", "ranking_loss"]
    figures += ["subset_accuracy", "hamming_loss", "all", "top_k", "top_k_always"]
    assert list(tree) == ["format_version", "protocol", "images", "labels", "left_out", *figures, "per_label"]
    assert list(tree["all"]) == list(tree["top_k"]) == list(tree["top_k_always"]) == averages
    assert list(tree["left_out"]) == ["mAP", "AUROC", "class_averages", "images", "entries"]
    counts = ["threshold", "positives", "negatives", "unknown"]
    assert list(tree["per_label"][0]) == ["label", "AP", "AUROC", "precision", "recall", "F1", *counts]
    assert list(tree["protocol"])[:3] == ["AP", "entries", "thresholds"]


@pytest.mark.parametrize("version", [FORMAT.version + 1, 0, "1", None])
def test_another_format_version_is_refused(draw: Draw, version: Any) -> None:
    tree = some(draw).to_json() | {"format_version": version}
    got = "none" if version is None else version
    with pytest.raises(DataError, match=rf"format version {FORMAT.version}, got {got}(?s:.*)old\.json"):
        MultilabelMetrics.from_json(tree, "old.json")


def test_what_is_no_result_at_all_is_refused() -> None:
    for tree in ({}, [], "mAP", None):
        with pytest.raises(DataError, match="format version"):
            MultilabelMetrics.from_json(tree)


def test_all_values_that_are_missing_or_of_the_wrong_type_are_reported(draw: Draw) -> None:
    tree = some(draw).to_json()
    del tree["left_out"]["mAP"]
    tree["mAP"], tree["per_label"][1]["F1"] = "high", []
    with pytest.raises(DataError) as caught:
        MultilabelMetrics.from_json(tree, "m.json")
    assert [problem.message.split(":")[0] for problem in caught.value.problems] == [
        "left_out.mAP", "mAP", "per_label.1.F1"
    ]  # fmt: skip
    assert {problem.where for problem in caught.value.problems} == {"m.json"}
