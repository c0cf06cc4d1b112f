"""The summary as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from msrn.config import Settings
from msrn.errors import DataError
from msrn.profiling.summary import Summary, short_count, summarize, summary_json, summary_text


def test_the_text_has_a_row_for_each_part_and_their_sum(settings: Callable[..., Settings]) -> None:
    head = {"output_layer": "flatten", "width": 512}
    found = summarize(settings(model={"head": head}), num_labels=20, embedding_width=50)
    text = summary_text(found)
    rows = {cells[1]: cells[2:-1] for line in text.splitlines() if len(cells := cells_of(line)) > 3}
    for part in found.parts:
        assert rows[part.name][:2] == [short_count(part.parameters), short_count(part.trainable)]
    assert rows["all"][0] == short_count(sum(part.parameters for part in found.parts))
    assert rows["output layer"][0] == "75.5 M"
    assert rows["output layer"][2] == "288 MiB"  # 4 bytes each
    assert rows["semantics"][3].endswith(" once")
    assert rows["peak"] == ["predict, 1 image", "predict, 8 images", "train, 8 images"]
    assert rows["reached in"][2] == found.uses[-1].peak_in
    assert "head msrn on test_resnet: 20 labels, images of 64 px" in text
    assert "\x1b" not in text
    assert "a multiply-add counts as two" in text
    assert max(map(len, text.splitlines())) <= 130


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")]


def test_the_json_has_the_same_in_bytes(settings: Callable[..., Settings]) -> None:
    found = summarize(settings(), num_labels=3, embedding_width=50)
    content = json.loads(summary_json(found))
    assert content["labels"] == 3
    assert [part["name"] for part in content["parts"]] == [part.name for part in found.parts]
    assert content["uses"][-1]["memory"] == found.uses[-1].memory


@pytest.mark.parametrize("head", ["average_pool", "max_pool", "csra"])
def test_a_head_without_label_embeddings_costs_the_same_for_any_width(
    settings: Callable[..., Settings], head: str
) -> None:
    chosen = settings(model={"head": head})
    found = summarize(chosen, num_labels=3, embedding_width=1)
    assert found.head == head
    assert found == summarize(chosen, num_labels=3, embedding_width=300)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "-"), (7, "7"), (999, "999"), (1000, "1.00 k"), (245_840, "246 k"), (999_499, "999 k"), (999_500, "1.00 M")],
)
def test_counts_have_three_digits(number: int, text: str) -> None:
    assert short_count(number) == text


def test_a_summary_comes_back_from_its_json(settings: Callable[..., Settings]) -> None:
    found = summarize(settings(), num_labels=6, embedding_width=10)
    tree = json.loads(summary_json(found))
    assert Summary.from_json(tree) == found
    with pytest.raises(DataError, match="format version 1, got 2"):
        Summary.from_json({**tree, "format_version": 2})
    del tree["parts"][0]["parameters"]
    with pytest.raises(DataError, match=r"parts\.0\.parameters: (?s:.*)m\.json"):
        Summary.from_json(tree, "m.json")
