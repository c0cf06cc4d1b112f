"""The state that a cell gives to one label: present, absent or unknown, under the rules of a table."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Sequence
from typing import Any

from msrn.data.cells import is_blank
from msrn.data.table import CellRules, Row

__all__ = ["MINUS_ONE", "States", "distinct_cells", "is_state", "number_in"]

PRESENT, ABSENT = {"true", "yes", "t", "y"}, {"false", "no", "f", "n"}
MINUS_ONE = -1.0
_NUMBER = re.compile(r"([+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?)(\s*%)?", re.IGNORECASE)


def number_in(cell: Any) -> float | None:
    """The number in a cell, also with a decimal comma or in per cent (``80 %`` is 0.8); None for other cells."""
    found = None if isinstance(cell, bool) else _NUMBER.fullmatch(str(cell).strip())
    if found is None:
        return None
    number = float(found[1].replace(",", ".")) / (100 if found[5] else 1)
    return number if math.isfinite(number) else None


class States(dict[Hashable, str]):
    """Cell to ``present``, ``absent``, ``unknown``, ``minus_one`` (its meaning is not given) or ``other`` (no state).

    Each distinct cell is looked at once.
    """

    def __init__(self, rules: CellRules) -> None:
        super().__init__()
        self.rules = rules
        given = {"present": rules.present_words, "absent": rules.absent_words, "unknown": rules.unknown_words}
        self._words = {word.strip().casefold(): state for state, words in given.items() for word in words}

    def __missing__(self, cell: Hashable) -> str:
        self[cell] = state = self._state(cell)
        return state

    def of(self, cell: Any) -> str:
        """As ``self[cell]``, also of a list or an object, which is no state."""
        return "other" if isinstance(cell, list | dict) else self[cell]

    def _state(self, cell: Any) -> str:
        text = "" if cell is None else str(cell).strip().casefold()
        if text in self._words:
            return self._words[text]
        if is_blank(cell):
            return self.rules.blank
        if text in PRESENT | ABSENT:
            return "present" if text in PRESENT else "absent"
        number = number_in(cell)
        if number == MINUS_ONE:
            return self.rules.minus_one if self.rules.minus_one != "refuse" else "minus_one"
        if number is not None and self.rules.threshold is not None:
            return "present" if number >= self.rules.threshold else "absent"
        return {1.0: "present", 0.0: "absent"}.get(number, "other") if number is not None else "other"


def distinct_cells(rows: Sequence[Row], column: str) -> list[Any]:
    """The different cells of a column, of which a column of states has a handful, whatever the number of rows.

    Lists and objects, as in JSON, are given one by one.
    """
    cells = [row.cells.get(column) for row in rows]
    try:
        return list(dict.fromkeys(cells))
    except TypeError:
        return cells


_PLAIN = States(CellRules())
_MAX_REMEMBERED = 100_000


def is_state(cell: Any) -> bool:
    """Whether a cell is the state of one label where no option says more: 1, 0, -1, blank, or a word such as yes."""
    if len(_PLAIN) > _MAX_REMEMBERED:
        _PLAIN.clear()
    return _PLAIN.of(cell) != "other"
