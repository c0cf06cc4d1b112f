"""Measures against scikit-learn, loop-level transcriptions, and the properties they must have."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from msrn.errors import ConfigError, DataError, ShapeError
from msrn.metrics import multilabel as metrics

KINDS = list(metrics.AP_KINDS)
Pair = tuple[np.ndarray, np.ndarray]


def draw(seed: int, n: int = 60, num_labels: int = 7, *, decimals: int = 1, unknown: float = 0.0) -> Pair:
    """Seeded scores, rounded so that many tie, and a target with each kind of row; every label has both kinds."""
    rng = np.random.default_rng(seed)
    target = (rng.random((n, num_labels)) < 0.3).astype(np.float32)
    scores = np.round(np.clip(rng.random((n, num_labels)) * 0.8 + 0.2 * target, 0, 1), decimals)
    target[0], target[1] = 1, 0
    target[2:][rng.random((n - 2, num_labels)) < unknown] = np.nan
    return scores, target


def loop_average_precision(scores: np.ndarray, target: np.ndarray, kind: str) -> float:
    """One label, the devkits' way: the curve point by point, one point per distinct score."""
    scores, target = scores[~np.isnan(target)], target[~np.isnan(target)]
    recalls, precisions = [0.0], [0.0]
    for threshold in sorted(set(scores.tolist()), reverse=True):
        kept = scores >= threshold
        hits = float((target[kept] == 1).sum())
        recalls.append(hits / float((target == 1).sum()))
        precisions.append(hits / float(kept.sum()))
    if kind == "eleven_point":
        best = [max(p for r, p in zip(recalls, precisions, strict=True) if r >= t / 10 - 1e-12) for t in range(11)]
        return sum(best) / 11
    area = 0.0
    for at in range(1, len(recalls)):
        area += (recalls[at] - recalls[at - 1]) * max(precisions[at:])
    return area


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [1, 2, 8])
def test_measures_equal_scikit_learn_with_many_and_few_ties(seed: int, decimals: int) -> None:
    scores, target = draw(seed, decimals=decimals)
    chosen = metrics.predict(scores, 0.5)
    close = pytest.approx
    assert metrics.average_precision(scores, target) == close(
        oracle.average_precision_score(target, scores, average=None)
    )
    assert metrics.auroc(scores, target) == close(oracle.roc_auc_score(target, scores, average=None))
    pairs = [
        (metrics.micro_average_precision, oracle.average_precision_score(target, scores, average="micro")),
        (metrics.label_ranking_average_precision, oracle.label_ranking_average_precision_score(target, scores)),
        (metrics.coverage_error, oracle.coverage_error(target, scores)),
        (metrics.ranking_loss, oracle.label_ranking_loss(target, scores)),
    ]
    for measure, expected in pairs:
        assert measure(scores, target) == close(expected), measure.__name__
    assert metrics.subset_accuracy(chosen, target) == close(oracle.accuracy_score(target, chosen))
    assert metrics.hamming_loss(chosen, target) == close(oracle.hamming_loss(target, chosen))
    found = metrics.precision_recall(chosen, target)
    macro = oracle.precision_recall_fscore_support(target, chosen, average="macro", zero_division=0)
    micro = oracle.precision_recall_fscore_support(target, chosen, average="micro", zero_division=0)
    names = ("CP", "CR", "macro_F1", "OP", "OR", "OF1")
    assert [found.averages[name] for name in names] == close([*macro[:3], *micro[:3]])
    assert found.f1 == close(oracle.f1_score(target, chosen, average=None, zero_division=0))


def test_measures_of_unknown_entries_equal_scikit_learn_on_the_known_ones() -> None:
    scores, target = draw(3, unknown=0.3)
    known = ~np.isnan(target)
    columns = [(target[known[:, at], at], scores[known[:, at], at]) for at in range(target.shape[1])]
    rows = [(target[at : at + 1, known[at]], scores[at : at + 1, known[at]]) for at in range(len(target))]
    expected = [oracle.average_precision_score(*column) for column in columns]
    assert metrics.average_precision(scores, target) == pytest.approx(expected)
    assert metrics.auroc(scores, target) == pytest.approx([oracle.roc_auc_score(*column) for column in columns])
    assert metrics.coverage_error(scores, target) == pytest.approx(
        np.mean([(row[1] >= row[1][row[0] == 1].min()).sum() if row[0].any() else 0 for row in rows])
    )
    chosen = metrics.predict(scores)
    found = metrics.precision_recall(chosen, target)
    for at, (truth, score) in enumerate(columns):
        assert found.precision[at] == pytest.approx(oracle.precision_score(truth, score > 0.5, zero_division=0))
        assert found.recall[at] == pytest.approx(oracle.recall_score(truth, score > 0.5))
    assert metrics.hamming_loss(chosen, target) == pytest.approx((chosen != (target == 1))[known].mean())
    everything_known_right = [(score[0] > 0.5).tolist() == (truth[0] == 1).tolist() for truth, score in rows]
    assert metrics.subset_accuracy(chosen, target) == pytest.approx(np.mean(everything_known_right))


def test_hidden_entries_keep_the_recall_of_the_three_best_which_the_best_known_ones_would_lift() -> None:
    rng = np.random.default_rng(0)
    target = (rng.random((2000, 20)) < np.linspace(0.05, 0.3, 20)).astype(float)
    scores = 1 / (1 + np.exp(1.5 - 3 * target - rng.normal(size=target.shape)))
    part = np.where(rng.random(target.shape) < 0.3, np.nan, target)
    of_known = metrics.predict_top_k(np.where(np.isnan(part), -1, scores))
    whole, ours, theirs = (
        metrics.precision_recall(chosen, truth).averages["OR"]
        for chosen, truth in (
            (metrics.predict_top_k(scores), target),
            (metrics.predict_top_k(scores), part),
            (of_known, part),
        )
    )
    assert [whole, ours, theirs] == pytest.approx([0.70, 0.70, 0.82], abs=0.01)  # as docs/concepts/metrics.md says


@pytest.mark.parametrize("kind", ["all_point", "eleven_point"])
@pytest.mark.parametrize("seed", range(5))
def test_interpolated_ap_equals_the_loop_over_the_curve(kind: Any, seed: int) -> None:
    scores, target = draw(seed, decimals=1 + seed % 3, unknown=0.1 * (seed % 2))
    expected = [loop_average_precision(scores[:, at], target[:, at], kind) for at in range(target.shape[1])]
    assert metrics.average_precision(scores, target, kind=kind) == pytest.approx(expected)


def test_the_three_kinds_of_ap_by_hand() -> None:
    scores, target = [[0.9], [0.8], [0.7], [0.6]], [[0], [1], [1], [0]]  # precision 0, 1/2, 2/3, 2/4
    found = [metrics.average_precision(scores, target, kind=kind)[0] for kind in metrics.AP_KINDS]  # type: ignore[arg-type]
    assert found == pytest.approx([(1 / 2 + 2 / 3) / 2, 2 / 3, 2 / 3])


def test_ap_of_label_without_positives_is_undefined_left_out_and_counted() -> None:
    scores, target = draw(0)
    target[:, 2] = 0
    target[:, 4] = np.nan
    ap = metrics.average_precision(scores, target)
    assert np.isnan(ap).tolist() == [False, False, True, False, True, False, False]
    assert metrics.mean_average_precision(scores, target) == (pytest.approx(np.nanmean(ap)), 2)
    assert np.isnan(metrics.mean_average_precision(scores, np.zeros_like(target))[0])


def test_labels_without_positives_leave_class_averages_but_their_false_alarms_stay_in_the_overall_ones() -> None:
    target = np.array([[1, 0, 0], [1, 0, 0]])
    chosen = np.array([[True, True, False], [True, False, False]])
    found = metrics.precision_recall(chosen, target)
    assert (found.left_out, found.averages["CP"], found.averages["CR"]) == (2, 1.0, 1.0)
    assert found.averages["OP"] == pytest.approx(2 / 3)
    assert found.precision.tolist() == [1, 0, 0]
    assert np.isnan(found.recall).tolist() == np.isnan(found.f1).tolist() == [False, True, True]


def test_class_never_predicted_has_precision_zero_and_cf1_is_no_mean_of_f1() -> None:
    target = np.array([[1, 1], [1, 0], [0, 1], [1, 0]])
    chosen = np.array([[True, False], [True, False], [True, False], [False, False]])
    averages = metrics.precision_recall(chosen, target).averages
    assert averages["CP"] == pytest.approx((2 / 3 + 0) / 2)
    assert averages["CR"] == pytest.approx((2 / 3 + 0) / 2)
    assert averages["CF1"] == pytest.approx(1 / 3)
    assert averages["macro_F1"] == pytest.approx((2 / 3 + 0) / 2)
    assert averages["OR"] == pytest.approx(2 / 5)
    skewed = np.array([[True, True], [True, True], [True, True], [False, True]])
    averages = metrics.precision_recall(skewed, target).averages
    assert averages["CF1"] != pytest.approx(averages["macro_F1"])


def test_nothing_predicted_gives_zeros_not_warnings() -> None:
    averages = metrics.precision_recall(np.zeros((2, 2), dtype=bool), np.ones((2, 2))).averages
    assert set(averages.values()) == {0.0}


def test_top_k_modern_needs_the_threshold_and_always_does_not() -> None:
    scores = np.array([[0.9, 0.6, 0.8, 0.7], [0.1, 0.6, 0.2, 0.1], [0.7, 0.7, 0.7, 0.7]])
    modern = metrics.predict_top_k(scores, 3, threshold=0.5).astype(int).tolist()
    always = metrics.predict_top_k(scores, 3).astype(int).tolist()
    assert modern == [[1, 0, 1, 1], [0, 1, 0, 0], [1, 1, 1, 0]]
    assert always == [[1, 0, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0]]  # the earlier column wins a tie
    assert metrics.predict_top_k(scores, 9).all()


def test_predicted_means_above_the_threshold_and_thresholds_may_differ_by_label() -> None:
    scores = np.array([[0.5, 0.3], [0.51, 0.2]], dtype=np.float32)
    assert metrics.predict(scores, 0.5).tolist() == [[False, False], [True, False]]
    assert metrics.predict(scores, [0.4, 0.25]).tolist() == [[True, True], [True, False]]
    assert metrics.predict(scores, float(scores[0, 1])).tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_best_thresholds_reach_the_best_f1_of_any_threshold(seed: int, dtype: type) -> None:
    scores, target = draw(seed, n=30, decimals=1 + seed % 3, unknown=0.2)
    scores = scores.astype(dtype)
    cuts = metrics.best_thresholds(scores, target)
    found = metrics.precision_recall(metrics.predict(scores, cuts), target).f1
    overall = metrics.best_global_threshold(scores, target)
    found_overall = metrics.precision_recall(metrics.predict(scores, overall), target).averages["OF1"]
    tried = [metrics.precision_recall(metrics.predict(scores, cut), target) for cut in np.unique([0, *scores.ravel()])]
    assert found == pytest.approx(np.max([each.f1 for each in tried], axis=0))
    assert found_overall == pytest.approx(max(each.averages["OF1"] for each in tried))
    assert ((cuts >= 0) & (cuts <= 1)).all()


def test_best_threshold_lies_midway_and_falls_back_without_positives() -> None:
    scores = np.array([[0.9, 0.9], [0.7, 0.2], [0.3, 0.1]])
    cuts = metrics.best_thresholds(scores, np.array([[1, 0], [1, 0], [0, 0]]))
    assert cuts == pytest.approx([0.5, 0.5])
    assert metrics.best_thresholds(scores, np.array([[1, 0], [1, 0], [0, 1]]), default=0.3)[1] == pytest.approx(0.05)
    assert metrics.best_thresholds(np.zeros((2, 1)), np.ones((2, 1)), default=0.3)[0] == 0.3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("steps", [1, 2])
def test_best_threshold_parts_neighbouring_floats(dtype: type, steps: int) -> None:
    low = np.array([0.5], dtype=dtype)
    for _ in range(steps - 1):
        low = np.nextafter(low, dtype(1))
    scores = np.stack([np.nextafter(low, dtype(1)), low])
    cut = metrics.best_thresholds(scores, np.array([[1], [0]]))
    assert metrics.predict(scores, cut).tolist() == [[True], [False]]


def test_evaluate_is_plain_json_and_agrees_with_the_single_functions() -> None:
    scores, target = draw(5, unknown=0.1)
    target[:, 6] = 0
    names = [f"label {at}" for at in range(7)]
    result = metrics.evaluate(scores, target, labels=names, top_k=2, ap_kind="all_point")
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    ap = metrics.average_precision(scores, target, kind="all_point")
    chosen, best = metrics.predict(scores), metrics.predict_top_k(scores, 2)
    assert result["mAP"] == pytest.approx(np.nanmean(ap))
    assert result["left_out"] == {
        "mAP": 1, "AUROC": 1, "class_averages": 1, "images": 0, "entries": int(np.isnan(target).sum())
    }  # fmt: skip
    assert result["micro_AP"] == metrics.micro_average_precision(scores, target, kind="all_point")
    assert result["ranking_loss"] == metrics.ranking_loss(scores, target)
    for key, decision in (("all", chosen), ("top_k", chosen & best), ("top_k_always", best)):
        assert result[key] == metrics.precision_recall(decision, target).averages
    assert result["protocol"]["AP"] == "all_point"
    assert (result["protocol"]["k"], result["images"], result["labels"]) == (2, 60, 7)
    rows = result["per_label"]
    assert [row["label"] for row in rows] == names
    assert (rows[6]["AP"], rows[6]["recall"], rows[6]["F1"], rows[6]["positives"]) == (None, None, None, 0)
    assert all(row["positives"] + row["negatives"] + row["unknown"] == 60 for row in rows)
    assert rows[0]["AP"] == ap[0]


def test_difficult_objects_can_be_ignored_in_ap_and_negative_in_the_counts() -> None:
    scores, target = draw(6, unknown=0.2)
    negative = np.nan_to_num(target)
    result = metrics.evaluate(scores, target, labels=list("abcdefg"), target_counts=negative)
    assert result["mAP"] == pytest.approx(metrics.mean_average_precision(scores, target)[0])
    assert result["all"] == metrics.precision_recall(metrics.predict(scores), negative).averages
    assert result["hamming_loss"] == metrics.hamming_loss(metrics.predict(scores), negative)
    assert result["subset_accuracy"] == metrics.subset_accuracy(metrics.predict(scores), negative)
    same = metrics.evaluate(scores, target, labels="abcdefg")
    assert result["protocol"]["counts_target"] != same["protocol"]["counts_target"]
    assert result["all"] != same["all"]


def test_thresholds_of_evaluate_stand_in_the_table() -> None:
    scores, target = draw(7)
    cuts = metrics.best_thresholds(scores, target)
    result = metrics.evaluate(scores, target, labels="abcdefg", thresholds=cuts)
    assert [row["threshold"] for row in result["per_label"]] == cuts.tolist()
    assert result["all"]["macro_F1"] >= metrics.evaluate(scores, target, labels="abcdefg")["all"]["macro_F1"]


def test_images_without_a_known_entry_change_nothing() -> None:
    scores, target = draw(8)
    more_scores = np.vstack([scores, np.full((3, 7), 0.9)])
    more_target = np.vstack([target, np.full((3, 7), np.nan)])
    before = metrics.evaluate(scores, target, labels="abcdefg")
    after = metrics.evaluate(more_scores, more_target, labels="abcdefg")
    for key in ("mAP", "micro_AP", "AUROC", "label_ranking_AP", "coverage_error", "ranking_loss", "subset_accuracy"):
        assert after[key] == pytest.approx(before[key]), key
    assert after["all"] == before["all"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_any_number_type_will_do(dtype: type) -> None:
    scores, target = draw(9)
    assert metrics.average_precision((scores * 8).astype(dtype), target.astype(bool)) == pytest.approx(
        metrics.average_precision((scores * 8).astype(dtype).astype(np.float64), target)
    )


grids = st.integers(0, 2**32 - 1)


def grid(seed: int) -> Pair:
    """Scores on a coarse grid, so that ties, empty rows, empty columns and unknown entries are common."""
    rng = np.random.default_rng(seed)
    shape = int(rng.integers(1, 9)), int(rng.integers(1, 6))
    return rng.integers(0, 6, shape) / 5, rng.choice([0.0, 1.0, np.nan], shape, p=[0.5, 0.35, 0.15])


@given(seed=grids)
@settings(max_examples=100, deadline=None)
def test_order_of_images_changes_nothing_and_order_of_labels_only_the_order(seed: int) -> None:
    scores, target = grid(seed)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(scores.shape[0]), rng.permutation(scores.shape[1])
    first = metrics.evaluate(scores, target, labels=[str(at) for at in range(scores.shape[1])])
    moved = metrics.evaluate(scores[rows][:, columns], target[rows][:, columns], labels=[str(at) for at in columns])
    for key in first.keys() - {"protocol", "per_label", "top_k", "top_k_always"}:  # top k breaks ties by column
        assert moved[key] == pytest.approx(first[key]), key
    for at, row in zip(columns, moved["per_label"], strict=True):
        assert row == pytest.approx(first["per_label"][at])


@given(seed=grids, kind=st.sampled_from(KINDS))
@settings(max_examples=100, deadline=None)
def test_a_rising_change_of_scores_leaves_every_ranking_measure(seed: int, kind: Any) -> None:
    scores, target = grid(seed)
    bent = np.tanh(3 * scores) - 7
    same = {"nan_ok": True}
    assert metrics.average_precision(bent, target, kind=kind) == pytest.approx(
        metrics.average_precision(scores, target, kind=kind), **same
    )
    for measure in (metrics.auroc, metrics.coverage_error, metrics.ranking_loss, metrics.micro_average_precision):
        assert measure(bent, target) == pytest.approx(measure(scores, target), **same)


@given(seed=grids)
@settings(max_examples=50, deadline=None)
def test_every_number_lies_in_its_range(seed: int) -> None:
    scores, target = grid(seed)
    result = metrics.evaluate(scores, target, labels=[str(at) for at in range(scores.shape[1])])
    shares = [result[key] for key in ("mAP", "micro_AP", "AUROC", "label_ranking_AP", "ranking_loss", "hamming_loss")]
    shares += [*result["all"].values(), *result["top_k"].values(), *result["top_k_always"].values()]
    assert all(share is None or 0 <= share <= 1 for share in shares)


def spoiled(what: str) -> Pair:
    scores, target = draw(0)
    (scores if what == "score" else target)[3, 5] = np.inf if what == "score" else 99
    return scores, target


def test_wrong_input_is_refused_with_its_place() -> None:
    scores, target = draw(0)
    with pytest.raises(DataError, match="finite") as caught:
        metrics.average_precision(*spoiled("score"))
    assert caught.value.where == "row 3, column 5"
    with pytest.raises(DataError, match=re.escape("targets of 1, 0 or NaN")) as caught:
        metrics.coverage_error(*spoiled("target"))
    assert caught.value.where == "row 3, column 5"
    for logits in (scores * 3, scores - 0.5):
        with pytest.raises(DataError, match="probabilities"):
            metrics.evaluate(logits, target, labels="abcdefg")
    with pytest.raises(DataError, match="bool"):
        metrics.precision_recall(scores, target)
    with pytest.raises(ShapeError, match=re.escape("(60, 7)")):
        metrics.auroc(scores, target[:-1])
    with pytest.raises(ShapeError, match="at least one"):
        metrics.average_precision(np.zeros((0, 4)), np.zeros((0, 4)))
    with pytest.raises(ShapeError, match="7 label names"):
        metrics.evaluate(scores, target, labels="abc")
    with pytest.raises(ShapeError, match="one threshold or 7"):
        metrics.evaluate(scores, target, labels="abcdefg", thresholds=[0.5] * 6)
    with pytest.raises(ConfigError, match="thresholds from 0 to 1"):
        metrics.evaluate(scores, target, labels="abcdefg", thresholds=1.5)
    with pytest.raises(ConfigError, match="at least 1"):
        metrics.evaluate(scores, target, labels="abcdefg", top_k=0)
    with pytest.raises(ConfigError, match="eleven_point"):
        metrics.average_precision(scores, target, kind="11")  # type: ignore[arg-type]


def test_coco_val_size_takes_under_two_seconds() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((40_137, 80), dtype=np.float32)
    target = (rng.random((40_137, 80), dtype=np.float32) < 0.036).astype(np.float32)
    names = [str(at) for at in range(80)]
    spent = []
    for _ in range(2):
        start = time.process_time()  # of this process alone: other work on the machine must not fail the test
        metrics.evaluate(scores, target, labels=names)
        spent.append(time.process_time() - start)
    assert min(spent) < 2.0
