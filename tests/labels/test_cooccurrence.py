"""Co-occurrence counts and probabilities against a hand-worked example and the published counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from label_counts import COUNTS, TARGET, TOTALS, published

from msrn.errors import LabelError, ShapeError
from msrn.labels.cooccurrence import conditional, cooccurrence, shrunk
from msrn.labels.space import LabelSpace


def test_counts_of_the_hand_worked_example() -> None:
    found = cooccurrence(TARGET)
    assert found.counts.tolist() == COUNTS
    assert found.totals.tolist() == TOTALS
    assert found.counts.dtype == found.totals.dtype == np.int64


def test_unknown_targets_never_count() -> None:
    unknown = TARGET.copy()
    unknown[0] = [1, np.nan, np.nan, np.nan]
    found = cooccurrence(unknown)
    assert found.counts.tolist() == [[0, 3, 0, 0], [3, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]]
    assert found.totals.tolist() == [4, 5, 4, 2]
    assert found.known.tolist() == [[4, 3, 3, 3], [5, 5, 5, 5], [4, 4, 4, 4], [2, 2, 2, 2]]
    assert found.images.tolist() == [10, 9, 9, 9]


def test_smoothing_draws_rare_labels_to_the_base_rate_and_keeps_frequent_ones() -> None:
    counts, totals, rates = [[0, 2, 0], [2, 0, 800], [0, 800, 0]], [2, 1000, 1000], [0.001, 0.5, 0.5]
    p = shrunk(counts, totals, rates, 10)
    assert p[0, 1] == pytest.approx((2 + 10 * 0.5) / (2 + 10))  # 2 of 2 is weak evidence: 1.0 becomes 0.58
    assert p[1, 2] == pytest.approx(0.8, abs=0.005)
    assert np.array_equal(shrunk(counts, totals, rates, 0), conditional(counts, totals))
    assert shrunk([[0, 0], [0, 0]], [0, 4], [0.0, 0.5], 7)[0].tolist() == [0, 0]


def test_smoothing_with_equal_rates_is_additive() -> None:
    p = shrunk(COUNTS, TOTALS, np.full(4, 0.5), 2)  # one more image with j, one without
    expected = [[(COUNTS[i][j] + 1) / (TOTALS[i] + 2) for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(p, expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("rates", "strength"), [([0.1, 0.1, 0.1, 1.1], 1.0), ([0.1, 0.1, 0.1, np.nan], 1.0), (np.full(4, 0.1), -1.0)]
)
def test_smoothing_out_of_bounds_is_refused(rates: list[float], strength: float) -> None:
    with pytest.raises(LabelError):
        shrunk(COUNTS, TOTALS, rates, strength)


def test_counts_do_not_depend_on_the_kind_of_numbers_or_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msrn.labels.cooccurrence._ROWS_AT_A_TIME", 3)
    for kind in (bool, np.int8, np.float64):
        assert cooccurrence(TARGET.astype(kind)).counts.tolist() == COUNTS


def test_other_codes_than_one_zero_and_nan_are_refused() -> None:
    with pytest.raises(LabelError, match="got -1") as caught:
        cooccurrence([[0, 1], [1, -1]])
    assert "row 1, column 1" in str(caught.value)
    with pytest.raises(LabelError, match="must be numbers"):
        cooccurrence([["yes", "no"]])
    with pytest.raises(ShapeError):
        cooccurrence([1, 0])


def test_counts_of_the_voc_trainval_lists_equal_the_published_ones(shared: Path) -> None:
    labels, counts, totals = published(shared, "voc")
    lists = shared / "data" / "voc2007" / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main"
    columns = [
        [int(line.split()[1]) for line in (lists / f"{name}_trainval.txt").read_text().splitlines()] for name in labels
    ]
    target = np.array(columns).T == 1  # 0, "difficult", is left out here; -1 is absent
    found = cooccurrence(target)
    assert target.shape == (5011, 20)
    assert np.array_equal(found.counts, counts)
    assert np.array_equal(found.totals, totals)


def test_counts_of_the_coco_list_equal_the_published_ones(shared: Path) -> None:
    labels, counts, totals = published(shared, "coco")
    listed = LabelSpace(json.loads((shared / "published" / "label_orders.json").read_text())["coco_list_order"])
    lines = (shared / "data" / "label_lists" / "coco2014_train_82081.txt").read_text().splitlines()
    target = np.zeros((len(lines), len(listed)), dtype=bool)
    for row, line in enumerate(lines):
        target[row, [int(column) for column in line.rsplit(",", 1)[1].split()]] = True
    found = cooccurrence(target[:, LabelSpace(labels).align(listed)])
    assert len(lines) == 82_081
    assert np.array_equal(found.counts, counts)
    assert np.array_equal(found.totals, totals)


def test_smoothing_needs_as_many_rates_as_labels() -> None:
    with pytest.raises(ShapeError, match="rates"):
        shrunk(COUNTS, TOTALS, [0.1], 1.0)
