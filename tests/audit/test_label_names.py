"""Label names that resemble one another."""

from __future__ import annotations

import pytest

from msrn.audit.label_names import equivalent_names, similar_names


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (["Dog", "cat", "dog"], [("Dog", "dog")]),
        (["tv monitor", "tvmonitor", "TV-Monitors"], [("tv monitor", "tvmonitor", "TV-Monitors")]),
        (
            ["horse", "horses", "bus", "buses", "berry", "berries"],
            [("horse", "horses"), ("bus", "buses"), ("berry", "berries")],
        ),
        (["café", "cafe"], [("café", "cafe")]),
        (["dress", "glass", "bus", "gas", "his", "hi", "class 1", "class 11"], []),
        (["+", "-", "!"], []),
        ([], []),
    ],
)
def test_names_that_differ_only_in_spelling_are_found(names: list[str], alike: list[tuple[str, ...]]) -> None:
    assert equivalent_names(names) == alike


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["motorbike", "motorbkie"], 1),  # swapped
        (["aeroplane", "airplane"], 1),  # two edits
        (["umbrella", "umbrela", "dog"], 1),
        (["cat", "car", "boat", "goat"], 0),  # too short
        (["class 1", "class 2", "class 11"], 0),  # digits are meant
        (["bicycle", "bicycles"], 0),  # alike already
        (["horse", "house"], 1),
        (["trousers", "trumpets"], 0),
    ],
)
def test_names_a_letter_or_two_apart_are_found(names: list[str], pairs: int) -> None:
    assert len(similar_names(names)) == pairs


def test_a_column_that_pandas_has_numbered_is_like_the_one_it_copies() -> None:
    assert equivalent_names(["sea", "boat", "sea.1", "v2.1"]) == [("sea", "sea.1")]
