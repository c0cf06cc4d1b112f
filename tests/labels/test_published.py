"""Label orders of the released checkpoints, against the published ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msrn.labels.published import PUBLISHED_ORDERS, published_label_order
from msrn.labels.space import LabelSpace


def test_the_orders_are_the_published_ones(shared: Path) -> None:
    published = json.loads((shared / "published" / "label_orders.json").read_text())
    assert {name: list(order) for name, order in PUBLISHED_ORDERS.items()} == {
        name: published[name] for name in ("voc", "coco", "nuswide", "apparel")
    }


@pytest.mark.parametrize("vocabulary", PUBLISHED_ORDERS)
def test_a_vocabulary_is_recognised_by_its_set_of_names(vocabulary: str) -> None:
    order = PUBLISHED_ORDERS[vocabulary]
    assert len(set(order)) == len(order)
    assert published_label_order(LabelSpace(sorted(order))) == order
    assert published_label_order(reversed(order)) == order
    assert published_label_order(order[1:]) is None
    assert published_label_order([*order[1:], "no such name"]) is None
    assert published_label_order([*order, "no such name"]) is None
    assert published_label_order([*order[1:], order[1]]) is None
