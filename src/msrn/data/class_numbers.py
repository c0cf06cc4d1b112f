"""Class numbers in a column of names, as the names of a label file that they count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msrn.data.table import CellRules
from msrn.errors import DataError, Problem
from msrn.labels.space import LabelSpace

__all__ = ["ClassNumbers", "are_numbers"]


def are_numbers(names: Iterable[str]) -> bool:
    """Whether all names are whole numbers, and there is one."""
    distinct = set(names)
    return bool(distinct) and all(name.isascii() and name.isdecimal() for name in distinct)


class ClassNumbers:
    """Numbers to the names of ``data.labels``, counted from 0 or from 1 as ``rules.class_numbers`` says.

    Raises:
        DataError: there is no label file.
    """

    def __init__(self, rules: CellRules, labels: LabelSpace | None, where: str) -> None:
        if labels is None:
            hint = "pass --data.labels NAMES.txt, one name a line in the order of the numbers"
            raise DataError("class numbers need the names that they count", where, hint)
        self.first = int(rules.class_numbers == "from_1")
        self._names = labels.names
        self.note = f"class numbers count data.labels: {self.first} is {self._names[0]!r}"

    def names_of(self, items: Sequence[Any], where: str, problems: list[Problem]) -> list[str]:
        """The names of some numbers, given as numbers or as texts."""
        names = []
        for item in items:
            text = str(item).strip().removesuffix(".0")
            if text in {"", "-"}:
                names.append(text)
                continue
            place = int(text) - self.first if text.isascii() and text.isdecimal() else -1
            if 0 <= place < len(self._names):
                names.append(self._names[place])
            else:
                last = self.first + len(self._names) - 1
                message = f"expected class numbers from {self.first} to {last}, got {item!r}"
                problems.append(Problem(message, where, "is it the label file of this data set?"))
        return names
