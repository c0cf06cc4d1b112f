"""Names of labels spread over several columns, such as ``label1`` and ``label2``: recognise and join them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msrn.data.cells import NO_LABEL, is_blank, parted
from msrn.data.states import distinct_cells, is_state, number_in
from msrn.data.table import Row

__all__ = ["JOINED", "join_names", "share_names", "spread_columns"]

JOINED = "\0labels"
"""Key of the joined names among the cells of a row; no column has this name."""

_NUMBERED = re.compile(r"(labels?|tags?|class(?:es)?|categor(?:y|ies)|keywords?)[ _.-]*\d+", re.IGNORECASE)
_MAX_NAME = 60
_SOME = 1000
"""Rows that decide whether such columns hold names."""


def spread_columns(columns: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Two or more columns ``label1``, ``tag_2``, ``Class 3``, whose cells name labels; none if they hold states."""
    stems: dict[str, list[str]] = {}
    for column in columns:
        if found := _NUMBERED.fullmatch(column.strip()):
            stems.setdefault(found[1].casefold(), []).append(column)
    for found_columns in stems.values():
        if len(found_columns) > 1 and not all(
            is_state(cell) for column in found_columns for cell in distinct_cells(rows[:_SOME], column)
        ):
            return found_columns
    return []


def share_names(cells: Mapping[str, Sequence[Any]]) -> list[str]:
    """Those columns that share names: at least two different texts that are no numbers occur in two of them."""
    texts = {
        column: {str(value).strip() for value in values if isinstance(value, str) and len(value) <= _MAX_NAME}
        for column, values in cells.items()
    }
    names = {column: {text for text in found if number_in(text) is None} for column, found in texts.items()}
    every = {text for found in names.values() for text in found}
    if len(every) < 2:
        return []
    return [
        column
        for column, found in names.items()
        if any(found & other for name, other in names.items() if name != column) and len(every) > 2
    ]


def join_names(rows: Sequence[Row], columns: Sequence[str], delimiter: str) -> list[Row]:
    """The rows with the names of several columns, parted at a delimiter, as one list; None where all are blank."""
    joined = []
    for row in rows:
        cells = [row.cells.get(column) for column in columns]
        stated = [cell for cell in cells if not is_blank(cell)]
        listed = [cell if isinstance(cell, list) else parted(str(cell), delimiter) for cell in stated]
        names = [str(name).strip() for each in listed for name in each if str(name).strip()]
        shown = list(dict.fromkeys(name for name in names if name != NO_LABEL))
        joined.append(Row(row.where, {**row.cells, JOINED: shown if stated else None}))
    return joined
