"""Measures against scikit-learn, loop-level transcriptions, and the properties they must have."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from msrn import metrics
from msrn.errors import ConfigError, DataError, ShapeError

Draw = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [1, 2, 8])
def test_measures_equal_scikit_learn_with_many_and_few_ties(draw: Draw, seed: int, decimals: int) -> None:
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
    averages = found.averages.to_json()
    assert [averages[name] for name in names] == close([*macro[:3], *micro[:3]])
    assert found.f1 == close(oracle.f1_score(target, chosen, average=None, zero_division=0))


def test_measures_of_unknown_entries_equal_scikit_learn_on_the_known_ones(draw: Draw) -> None:
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
        metrics.precision_recall(chosen, truth).averages.overall_recall
        for chosen, truth in (
            (metrics.predict_top_k(scores), target),
            (metrics.predict_top_k(scores), part),
            (of_known, part),
        )
    )
    assert [whole, ours, theirs] == pytest.approx([0.70, 0.70, 0.82], abs=0.01)  # as docs/concepts/metrics.md says


def test_ap_of_label_without_positives_is_undefined_left_out_and_counted(draw: Draw) -> None:
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
    assert (found.left_out, found.averages.class_precision, found.averages.class_recall) == (2, 1.0, 1.0)
    assert found.averages.overall_precision == pytest.approx(2 / 3)
    assert found.precision.tolist() == [1, 0, 0]
    assert np.isnan(found.recall).tolist() == np.isnan(found.f1).tolist() == [False, True, True]


def test_class_never_predicted_has_precision_zero_and_cf1_is_no_mean_of_f1() -> None:
    target = np.array([[1, 1], [1, 0], [0, 1], [1, 0]])
    chosen = np.array([[True, False], [True, False], [True, False], [False, False]])
    averages = metrics.precision_recall(chosen, target).averages
    assert averages.class_precision == pytest.approx((2 / 3 + 0) / 2)
    assert averages.class_recall == pytest.approx((2 / 3 + 0) / 2)
    assert averages.class_f1 == pytest.approx(1 / 3)
    assert averages.macro_f1 == pytest.approx((2 / 3 + 0) / 2)
    assert averages.overall_recall == pytest.approx(2 / 5)
    skewed = np.array([[True, True], [True, True], [True, True], [False, True]])
    averages = metrics.precision_recall(skewed, target).averages
    assert averages.class_f1 != pytest.approx(averages.macro_f1)


def test_nothing_predicted_gives_zeros_not_warnings() -> None:
    averages = metrics.precision_recall(np.zeros((2, 2), dtype=bool), np.ones((2, 2))).averages
    assert set(averages.to_json().values()) == {0.0}


def test_all_metrics_at_once_agree_with_the_single_functions(draw: Draw) -> None:
    scores, target = draw(5, unknown=0.1)
    target[:, 6] = 0
    names = [f"label {at}" for at in range(7)]
    result = metrics.multilabel_metrics(scores, target, labels=names, top_k=2, ap_kind="all_point")
    ap = metrics.average_precision(scores, target, kind="all_point")
    chosen, best = metrics.predict(scores), metrics.predict_top_k(scores, 2)
    assert result.mean_ap == pytest.approx(np.nanmean(ap))
    assert result.left_out == metrics.LeftOut(
        mean_ap=1, auroc=1, class_averages=1, images=0, entries=int(np.isnan(target).sum())
    )
    assert result.micro_ap == metrics.micro_average_precision(scores, target, kind="all_point")
    assert result.label_ranking_ap == metrics.label_ranking_average_precision(scores, target)
    assert result.coverage_error == metrics.coverage_error(scores, target)
    assert result.ranking_loss == metrics.ranking_loss(scores, target)
    for found, decision in ((result.all, chosen), (result.top_k, chosen & best), (result.top_k_always, best)):
        assert found == metrics.precision_recall(decision, target).averages
    assert result.protocol.ap == "all_point"
    assert (result.protocol.k, result.images, result.labels) == (2, 60, 7)
    rows = result.per_label
    assert [row.label for row in rows] == names
    assert np.isnan([rows[6].ap, rows[6].auroc, rows[6].recall, rows[6].f1]).all()
    assert rows[6].positives == 0
    assert all(row.positives + row.negatives + row.unknown == 60 for row in rows)
    assert rows[0].ap == ap[0]


def test_difficult_objects_can_be_ignored_in_ap_and_negative_in_the_counts(draw: Draw) -> None:
    scores, target = draw(6, unknown=0.2)
    negative = np.nan_to_num(target)
    result = metrics.multilabel_metrics(scores, target, labels=list("abcdefg"), target_counts=negative)
    assert result.mean_ap == pytest.approx(metrics.mean_average_precision(scores, target)[0])
    assert result.all == metrics.precision_recall(metrics.predict(scores), negative).averages
    assert result.hamming_loss == metrics.hamming_loss(metrics.predict(scores), negative)
    assert result.subset_accuracy == metrics.subset_accuracy(metrics.predict(scores), negative)
    same = metrics.multilabel_metrics(scores, target, labels="abcdefg")
    assert result.protocol.counts_target != same.protocol.counts_target
    assert result.all != same.all


def test_the_rows_of_labels_hold_their_thresholds(draw: Draw) -> None:
    scores, target = draw(7)
    thresholds = metrics.best_thresholds(scores, target)
    result = metrics.multilabel_metrics(scores, target, labels="abcdefg", thresholds=thresholds)
    assert [row.threshold for row in result.per_label] == thresholds.tolist()
    assert result.all.macro_f1 >= metrics.multilabel_metrics(scores, target, labels="abcdefg").all.macro_f1


def test_images_without_a_known_entry_change_nothing(draw: Draw) -> None:
    scores, target = draw(8)
    more_scores = np.vstack([scores, np.full((3, 7), 0.9)])
    more_target = np.vstack([target, np.full((3, 7), np.nan)])
    before = metrics.multilabel_metrics(scores, target, labels="abcdefg")
    after = metrics.multilabel_metrics(more_scores, more_target, labels="abcdefg")
    assert (after.images, after.left_out.images, after.left_out.entries) == (63, 3, 21)
    assert after.all == before.all
    tree, expected = after.to_json(), before.to_json()
    for key in ("mAP", "micro_AP", "AUROC", "label_ranking_AP", "coverage_error", "ranking_loss", "subset_accuracy"):
        assert tree[key] == pytest.approx(expected[key]), key


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_any_number_type_will_do(draw: Draw, dtype: type) -> None:
    scores, target = draw(9)
    assert metrics.average_precision((scores * 8).astype(dtype), target.astype(bool)) == pytest.approx(
        metrics.average_precision((scores * 8).astype(dtype).astype(np.float64), target)
    )


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_order_of_images_changes_nothing_and_order_of_labels_only_the_order(grid: Draw, seed: int) -> None:
    scores, target = grid(seed)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(scores.shape[0]), rng.permutation(scores.shape[1])
    names = [str(at) for at in range(scores.shape[1])]
    first = metrics.multilabel_metrics(scores, target, labels=names).to_json()
    turned = [array[rows][:, columns] for array in (scores, target)]
    moved = metrics.multilabel_metrics(*turned, labels=[names[at] for at in columns]).to_json()
    for key in first.keys() - {"protocol", "per_label", "top_k", "top_k_always"}:  # top k breaks ties by column
        assert moved[key] == pytest.approx(first[key]), key
    for at, row in zip(columns, moved["per_label"], strict=True):
        assert row == pytest.approx(first["per_label"][at])


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_every_number_lies_in_its_range(grid: Draw, seed: int) -> None:
    scores, target = grid(seed)
    result = metrics.multilabel_metrics(scores, target, labels=[str(at) for at in range(scores.shape[1])]).to_json()
    shares = [result[key] for key in ("mAP", "micro_AP", "AUROC", "label_ranking_AP", "ranking_loss", "hamming_loss")]
    shares += [*result["all"].values(), *result["top_k"].values(), *result["top_k_always"].values()]
    assert all(share is None or 0 <= share <= 1 for share in shares)


def test_wrong_input_is_refused_with_its_place(draw: Draw) -> None:
    scores, target = draw(0)
    bad_scores, bad_target = scores.copy(), target.copy()
    bad_scores[3, 5], bad_target[3, 5] = np.inf, 99
    with pytest.raises(DataError, match="finite") as caught:
        metrics.average_precision(bad_scores, target)
    assert caught.value.where == "row 3, column 5"
    with pytest.raises(DataError, match=re.escape("targets of 1, 0 or NaN")) as caught:
        metrics.coverage_error(scores, bad_target)
    assert caught.value.where == "row 3, column 5"
    for logits in (scores * 3, scores - 0.5):
        with pytest.raises(DataError, match="probabilities"):
            metrics.multilabel_metrics(logits, target, labels="abcdefg")
    with pytest.raises(DataError, match="bool"):
        metrics.precision_recall(scores, target)
    with pytest.raises(ShapeError, match=re.escape("(60, 7)")):
        metrics.auroc(scores, target[:-1])
    with pytest.raises(ShapeError, match="at least one"):
        metrics.average_precision(np.zeros((0, 4)), np.zeros((0, 4)))
    with pytest.raises(ShapeError, match="7 label names"):
        metrics.multilabel_metrics(scores, target, labels="abc")
    with pytest.raises(ShapeError, match="one threshold or 7"):
        metrics.multilabel_metrics(scores, target, labels="abcdefg", thresholds=[0.5] * 6)
    with pytest.raises(ConfigError, match="thresholds from 0 to 1"):
        metrics.multilabel_metrics(scores, target, labels="abcdefg", thresholds=1.5)
    with pytest.raises(ConfigError, match="at least 1"):
        metrics.multilabel_metrics(scores, target, labels="abcdefg", top_k=0)
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
        metrics.multilabel_metrics(scores, target, labels=names)
        spent.append(time.process_time() - start)
    assert min(spent) < 2.0
