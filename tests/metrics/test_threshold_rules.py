"""Rules for thresholds: each reaches what it promises, by a search over all thresholds and over many samples."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import beta, binomtest
from sklearn.metrics import fbeta_score, precision_score, recall_score

from msrn.config import ThresholdSettings
from msrn.metrics import TunedThreshold, misses_allowed, tune_thresholds

Draw = Callable[..., tuple[np.ndarray, np.ndarray]]


def known_columns(scores: np.ndarray, target: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    kept = ~np.isnan(target)
    return [(scores[kept[:, at], at], target[kept[:, at], at]) for at in range(target.shape[1])]


def every_threshold(values: np.ndarray, truth: np.ndarray) -> list[tuple[float, float, int]]:
    """Precision, recall and number predicted of every decision that a threshold can make, with something predicted."""
    found = []
    for low in np.unique([0.0, *values]):
        decided = values > low
        if decided.any():
            found.append((truth[decided].mean(), decided[truth == 1].mean(), int(decided.sum())))
    return found


def tuned(scores: np.ndarray, truth: np.ndarray, **rule: Any) -> list[TunedThreshold]:
    return tune_thresholds(scores, truth, ThresholdSettings.model_validate(rule))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [1, 3])
def test_each_rule_finds_what_a_search_over_all_thresholds_finds(draw: Draw, seed: int, decimals: int) -> None:
    scores, target = draw(seed, decimals=decimals, unknown=0.1)
    found = {
        "f_beta": tuned(scores, target, rule="f_beta", beta=2.0),
        "precision": tuned(scores, target, rule="precision", target=0.5),
        "recall": tuned(scores, target, rule="recall", target=0.8),
        "break_even": tuned(scores, target, rule="break_even"),
    }
    for label, (values, truth) in enumerate(known_columns(scores, target)):
        every, positives = every_threshold(values, truth), int(truth.sum())
        decided = {rule: values > each[label].value for rule, each in found.items()}
        for rule, each in found.items():
            if each[label].tuned:
                assert each[label].precision == pytest.approx(precision_score(truth, decided[rule]))
                assert each[label].recall == pytest.approx(recall_score(truth, decided[rule]))
            else:
                assert each[label].value == 0.5
                assert each[label].reason
        best = max(5 * p * r / (4 * p + r) for p, r, _ in every if p)
        if found["f_beta"][label].tuned:
            assert fbeta_score(truth, decided["f_beta"], beta=2) == pytest.approx(best)
        reached = [recall for precision, recall, _ in every if precision >= 0.5]
        assert found["precision"][label].tuned == bool(reached)
        if reached:
            assert found["precision"][label].recall == pytest.approx(max(reached))
        reached = [precision for precision, recall, _ in every if recall >= 0.8]
        assert found["recall"][label].precision == pytest.approx(max(reached))
        nearest = min(abs(number - positives) for _, _, number in every)
        assert abs(int(decided["break_even"].sum()) - positives) == nearest


def test_at_break_even_precision_is_recall() -> None:
    generator = np.random.default_rng(0)
    target = (generator.random((400, 3)) < 0.2).astype(float)
    scores = 1 / (1 + np.exp(-2 * target - generator.standard_normal(target.shape)))
    for each in tuned(scores, target, rule="break_even"):
        assert each.precision == each.recall == each.f1


@pytest.mark.parametrize("recall", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_the_misses_allowed_are_those_of_the_clopper_pearson_limit(recall: float, confidence: float) -> None:
    for positives in (1, 5, 20, 58, 59, 200, 1500):
        allowed = misses_allowed(positives, recall, confidence)
        limits = [beta.ppf(1 - confidence, positives - misses, misses + 1) for misses in range(positives)]
        enough = [misses for misses, limit in enumerate(limits) if limit >= recall]
        assert allowed == (max(enough) if enough else None)
        if allowed is not None:
            found = binomtest(positives - allowed, positives, alternative="greater")
            assert found.proportion_ci(confidence, "exact").low >= recall


def test_the_promise_of_recall_holds_over_many_samples() -> None:
    """200 splits of 5 labels: the share of broken promises is at most 1 - confidence, within its own interval.

    The scores of the labels have other shapes, and those of the last are rounded, so that many tie.
    """
    generator = np.random.default_rng(3)

    def sample(images: int) -> tuple[np.ndarray, np.ndarray]:
        target = (generator.random((images, 5)) < 0.3).astype(np.float32)
        raw = generator.standard_normal(target.shape) * [0.5, 1, 2, 1, 1] + target * [3, 2, 1, 0, 2]
        raw[:, 3] = generator.gamma(1 + 2 * target[:, 3]) - 2
        scores = 1 / (1 + np.exp(-raw))
        scores[:, 4] = scores[:, 4].round(1).clip(0.1, 1)
        return scores, target

    whole, truth = sample(100_000)
    broken = promised = 0
    slack = []
    for _ in range(200):
        scores, target = sample(300)
        for label, each in enumerate(tuned(scores, target, rule="recall_bound", target=0.9, confidence=0.9)):
            assert each.tuned
            recall = float((whole[truth[:, label] == 1, label] > each.value).mean())
            promised += 1
            broken += recall < 0.9
            if label < 4:
                slack.append(recall < 0.9)
    assert promised == 1000
    assert binomtest(broken, promised).proportion_ci(0.99).low <= 0.1
    assert np.mean(slack) > 0.04  # the bound is exact, not merely safe: with 90 positives, about 0.07


def test_too_few_positives_promise_nothing_and_say_how_many_it_takes() -> None:
    target = np.zeros((200, 2))
    target[:20, 0] = target[:40, 1] = 1
    scores = np.linspace(0.99, 0.01, 200)[:, None].repeat(2, axis=1)
    few, enough = tuned(scores, target, rule="recall_bound", target=0.9)
    assert (few.value, few.tuned) == (0.5, False)
    assert few.reason == "20 positives, too few to promise a recall of 0.9: it takes 29"
    assert enough.tuned
    assert enough.recall == 1  # 40 positives allow no miss


def test_what_cannot_be_reached_is_said() -> None:
    target = np.array([[1.0]] * 6 + [[0.0]] * 6)
    assert "best is 0.500" in tuned(np.full((12, 1), 0.7), target, rule="precision", target=0.9)[0].reason
    zero = np.where(target == 1, [[0.0], [0.9]] * 6, 0.3)
    assert "positives with a score of 0" in tuned(zero, target, rule="recall", target=0.9)[0].reason
    assert "no known negative" in tuned(zero, np.ones((12, 1)), rule="break_even")[0].reason
    assert "every score is 0" in tuned(np.zeros((12, 1)), target, rule="break_even")[0].reason


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"rule": "recall"}, "rule recall needs target"),
        ({"rule": "f1", "target": 0.9}, "rule f1 does not read target"),
        ({"rule": "f_beta"}, "rule f_beta needs beta"),
        ({"rule": "precision", "target": 0.9, "confidence": 0.9}, "does not read confidence"),
    ],
)
def test_a_rule_takes_the_settings_that_it_reads_and_no_others(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ThresholdSettings.model_validate(rule)


def test_the_table_of_the_guide_is_right() -> None:
    page = (Path(__file__).parents[2] / "docs/guides/thresholds.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\d,]+) \| (.+) \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) == 6
    for positives, *stated in rows:
        for recall, text in zip((0.9, 0.95), stated, strict=True):
            allowed = misses_allowed(int(positives.replace(",", "")), recall)
            assert text == ("nothing can be promised" if allowed is None else str(allowed))
