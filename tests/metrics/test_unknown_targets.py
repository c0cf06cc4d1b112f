"""Measures where entries are unknown: against loops over the known entries, and scikit-learn on each known subset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as oracle

from msrn import metrics

NAMES = [f"label {at}" for at in range(9)]


def masked(seed: int, share: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Seeded scores with ties and a target with unknown entries; nothing is known of images 0 and 1."""
    rng = np.random.default_rng(seed)
    target = (rng.random((80, len(NAMES))) < 0.3).astype(np.float32)
    scores = np.round(0.7 * rng.random(target.shape) + 0.3 * target, 1 + seed % 2)
    target[rng.random(target.shape) < share] = np.nan
    target[:2] = np.nan
    return scores, target


def known_of(row: np.ndarray) -> list[int]:
    return [at for at, value in enumerate(row) if value == value]  # nan differs from itself


def rows_of(scores: np.ndarray, target: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores and truth of each image on its known labels, ``(1, known)``; images without a known label are left out."""
    places = [known_of(row) for row in target]
    return [(scores[[at]][:, here], target[[at]][:, here]) for at, here in enumerate(places) if here]


@pytest.mark.parametrize("seed", range(4))
def test_every_label_is_measured_on_the_images_where_it_is_known(seed: int) -> None:
    scores, target = masked(seed)
    result = metrics.multilabel_metrics(scores, target, labels=NAMES).to_json()
    columns = {name: known_of(target[:, at]) for at, name in enumerate(NAMES)}
    for at, (name, row) in enumerate(zip(NAMES, result["per_label"], strict=True)):
        truth, score = target[columns[name], at], scores[columns[name], at]
        alone = metrics.multilabel_metrics(score[:, None], truth[:, None], labels=[name]).to_json()["per_label"][0]
        assert row == pytest.approx(alone | {"unknown": 80 - len(truth)})
        assert row["AP"] == pytest.approx(oracle.average_precision_score(truth, score))
        assert row["AUROC"] == pytest.approx(oracle.roc_auc_score(truth, score))
        expected = oracle.precision_recall_fscore_support(truth, score > 0.5, average="binary", zero_division=0)
        assert [row["precision"], row["recall"], row["F1"]] == pytest.approx(list(expected[:3]))
        assert (row["positives"], row["negatives"]) == ((truth == 1).sum(), (truth == 0).sum())
    assert result["mAP"] == pytest.approx(np.mean([row["AP"] for row in result["per_label"]]))
    assert result["AUROC"] == pytest.approx(np.mean([row["AUROC"] for row in result["per_label"]]))


@pytest.mark.parametrize("seed", range(4))
def test_every_image_is_measured_on_its_known_labels_and_left_out_and_counted_without_any(seed: int) -> None:
    scores, target = masked(seed, share=0.6)
    result = metrics.multilabel_metrics(scores, target, labels=NAMES).to_json()
    rows = rows_of(scores, target)
    assert result["left_out"]["images"] == 80 - len(rows) >= 2
    assert result["left_out"]["entries"] == 80 * 9 - sum(truth.size for _, truth in rows)
    assert result["images"] == 80
    ranks, covers, losses = [], [], []
    for score, truth in rows:
        positives, negatives = score[truth == 1].tolist(), score[truth == 0].tolist()
        everything = positives + negatives
        at_least = [sum(other >= one for other in everything) for one in positives]
        right = [sum(other >= one for other in positives) for one in positives]
        ranks.append(np.mean([a / b for a, b in zip(right, at_least, strict=True)]) if positives else 1.0)
        covers.append(max(at_least, default=0))
        wrong = [negative >= one for one in positives for negative in negatives]
        losses.append(np.mean(wrong) if wrong else 0.0)
        if positives and negatives:  # scikit-learn takes no rows of one kind in all three
            assert ranks[-1] == pytest.approx(oracle.label_ranking_average_precision_score(truth, score))
            assert covers[-1] == oracle.coverage_error(truth, score)
            assert losses[-1] == pytest.approx(oracle.label_ranking_loss(truth, score))
    assert result["label_ranking_AP"] == pytest.approx(np.mean(ranks))
    assert result["coverage_error"] == pytest.approx(np.mean(covers))
    assert result["ranking_loss"] == pytest.approx(np.mean(losses))
    exact = [((score > 0.5) == (truth == 1)).all() for score, truth in rows]
    assert result["subset_accuracy"] == pytest.approx(np.mean(exact))


@pytest.mark.parametrize("seed", range(4))
def test_measures_over_all_entries_count_known_entries_alone(seed: int) -> None:
    scores, target = masked(seed)
    result = metrics.multilabel_metrics(scores, target, labels=NAMES).to_json()
    pairs = [
        (score, truth) for row in rows_of(scores, target) for score, truth in zip(row[0][0], row[1][0], strict=True)
    ]
    score, truth = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    assert result["micro_AP"] == pytest.approx(oracle.average_precision_score(truth, score))
    assert result["hamming_loss"] == pytest.approx(oracle.zero_one_loss(truth, score > 0.5))
    expected = oracle.precision_recall_fscore_support(truth, score > 0.5, average="binary")
    assert [result["all"][name] for name in ("OP", "OR", "OF1")] == pytest.approx(list(expected[:3]))
    table = result["per_label"]
    cp, cr = (float(np.mean([row[name] for row in table])) for name in ("precision", "recall"))
    assert [result["all"][name] for name in ("CP", "CR", "CF1")] == pytest.approx([cp, cr, 2 * cp * cr / (cp + cr)])


@pytest.mark.parametrize("seed", range(4))
def test_the_best_three_are_picked_out_of_all_labels_and_counted_where_known(seed: int) -> None:
    scores, target = masked(seed)
    result = metrics.multilabel_metrics(scores, target, labels=NAMES).to_json()
    for key, lowest in (("top_k", 0.5), ("top_k_always", -1.0)):
        right = claimed = actual = 0
        for score, truth in zip(scores.tolist(), target.tolist(), strict=True):
            best = sorted(range(9), key=lambda at: (-score[at], at))[:3]
            known = [at for at in best if score[at] > lowest and truth[at] in (0.0, 1.0)]
            right += sum(truth[at] == 1.0 for at in known)
            claimed += len(known)
            actual += truth.count(1.0)
        assert [result[key]["OP"], result[key]["OR"]] == pytest.approx([right / claimed, right / actual])


def test_hiding_entries_at_random_leaves_precision_and_recall_where_they_were_on_average() -> None:
    rng = np.random.default_rng(0)
    target = (rng.random((4000, 9)) < 0.3).astype(np.float32)
    scores = np.clip(0.5 * rng.random(target.shape) + 0.5 * target * rng.random(target.shape), 0, 1)
    whole = metrics.multilabel_metrics(scores, target, labels=NAMES).to_json()
    hidden = target.copy()
    hidden[rng.random(target.shape) < 0.5] = np.nan
    part = metrics.multilabel_metrics(scores, hidden, labels=NAMES).to_json()
    for key in ("all", "top_k", "top_k_always"):  # 5,400 known positives: a share's standard error is below 0.007
        assert [part[key][name] for name in ("OP", "OR")] == pytest.approx(
            [whole[key][name] for name in ("OP", "OR")], abs=0.03
        ), key
    assert part["mAP"] == pytest.approx(whole["mAP"], abs=0.03)
    assert part["coverage_error"] < whole["coverage_error"] - 1  # fewer labels to go through: not to be compared
    assert part["subset_accuracy"] > whole["subset_accuracy"] + 0.1


def test_what_unknown_entries_are_scored_changes_nothing_but_the_best_three() -> None:
    scores, target = masked(1)
    other = np.where(np.isnan(target), np.random.default_rng(7).random(target.shape), scores)
    one, two = (metrics.multilabel_metrics(each, target, labels=NAMES).to_json() for each in (scores, other))
    assert {key for key in one if one[key] != two[key]} <= {"top_k", "top_k_always"}
    assert metrics.best_thresholds(scores, target).tolist() == metrics.best_thresholds(other, target).tolist()
    assert metrics.best_global_threshold(scores, target) == metrics.best_global_threshold(other, target)


def test_thresholds_are_those_of_each_label_on_its_known_images() -> None:
    scores, target = masked(2)
    alone: list[Any] = []
    for at in range(9):
        here = known_of(target[:, at])
        alone += metrics.best_thresholds(scores[here, at : at + 1], target[here, at : at + 1]).tolist()
    assert metrics.best_thresholds(scores, target).tolist() == alone


def test_a_label_without_a_known_negative_keeps_the_default_threshold() -> None:
    scores = np.array([[0.9, 0.9], [0.3, 0.3], [0.2, 0.2]])
    target = np.array([[1, 1], [1, 1], [np.nan, 0]])
    assert metrics.best_thresholds(scores, target, default=0.4).tolist() == pytest.approx([0.4, 0.25])
    assert metrics.best_global_threshold(scores[:, :1], target[:, :1], default=0.4) == 0.4


def test_labels_of_one_known_kind_or_none_are_seen_in_their_rows() -> None:
    nan = np.nan
    target = np.array([[1, 0, nan, 1], [1, 0, nan, 0], [nan, nan, nan, 0]])
    result = metrics.multilabel_metrics(np.full((3, 4), 0.7), target, labels=NAMES[:4]).to_json()
    rows = [(row["positives"], row["negatives"], row["unknown"], row["AP"]) for row in result["per_label"]]
    assert rows == [(2, 0, 1, 1.0), (0, 2, 1, None), (0, 0, 3, None), (1, 2, 0, pytest.approx(1 / 3))]
    assert [row["AUROC"] for row in result["per_label"]] == [None, None, None, 0.5]
    assert result["left_out"] == {"mAP": 2, "AUROC": 3, "class_averages": 2, "images": 0, "entries": 5}


def test_nothing_known_at_all_gives_no_figure() -> None:
    result = metrics.multilabel_metrics(np.full((2, 2), 0.5), np.full((2, 2), np.nan), labels=NAMES[:2]).to_json()
    figures = [result[key] for key in ("mAP", "micro_AP", "AUROC", "coverage_error", "subset_accuracy", "hamming_loss")]
    assert figures == [None] * 6
    assert (result["left_out"]["images"], result["left_out"]["entries"]) == (2, 4)
