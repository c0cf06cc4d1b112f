"""Report columns that should each hold the states of a label and do not, with the option that reads the table."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from msrn.data.cells import delimiter_of, is_blank, items_of, quoted
from msrn.data.image_files import is_image_name
from msrn.data.spread import share_names
from msrn.data.states import States, distinct_cells, number_in
from msrn.data.table import Row
from msrn.errors import Problem

__all__ = ["MINUS_ONE_HINT", "state_problems"]

MINUS_ONE_HINT = (
    "-1 means absent in some data sets and unknown in others: pass --data.reader.minus_one absent or unknown, "
    "or write 0, or leave the cell blank"
)
EXPECTED = "expected 1, 0 or nothing (unknown)"
MANY_WORDS = 6


def state_problems(columns: Sequence[str], rows: Sequence[Row], states: States) -> list[Problem]:
    """Problems of columns whose cells are no states of a label: one cause first, then one per further column.

    All codes -1 are one problem.
    """
    wrong: dict[str, list[Row]] = {}
    minus: dict[str, list[Row]] = {}
    for column in columns:
        kinds = {states.of(cell) for cell in distinct_cells(rows, column)}
        for kind, found in (("other", wrong), ("minus_one", minus)):
            if kind in kinds:
                found[column] = [row for row in rows if states.of(row.cells.get(column)) == kind]
    problems = _wrong_problems(wrong, columns, rows)
    if minus:
        first = next(iter(minus.values()))[0]
        count = sum(map(len, minus.values()))
        named = ", ".join(f"column {column!r}" for column in list(minus)[:6])
        named += f" and {len(minus) - 6:,} more" if len(minus) > 6 else ""
        message = f"{EXPECTED}, got -1 in {count:,} cell{'s' * (count > 1)} ({named})"
        problems.append(Problem(message, first.where, MINUS_ONE_HINT))
    return problems


def _wrong_problems(wrong: dict[str, list[Row]], columns: Sequence[str], rows: Sequence[Row]) -> list[Problem]:
    if not wrong:
        return []
    hint, decisive = _way_out(wrong, columns, rows)
    problems: list[Problem] = []
    # Where a column of names is there, the others are not worth a line each.
    for column, found in ({decisive: wrong[decisive]} if decisive is not None else wrong).items():
        what = f"column {column!r}" if column else "a column without a name"
        message = f"{what}: {EXPECTED}, got {quoted(row.cells[column] for row in found)}"
        if len(found) > 1:
            message += f" in {len(found):,} of {len(rows):,} rows"
        if decisive is not None and len(wrong) > 1:
            message += f"; {len(wrong) - 1:,} more columns hold no states"
        problems.append(Problem(message, found[0].where, "" if problems else hint))
    return problems


def _way_out(bad: dict[str, list[Row]], columns: Sequence[str], rows: Sequence[Row]) -> tuple[str, str | None]:
    """The option that reads the table, and the column that decides it (None: none does alone)."""
    cells = {column: [row.cells[column] for row in found] for column, found in bad.items()}
    for column, values in cells.items():
        if 2 * sum(is_image_name(str(value)) for value in values) > len(values):
            return f"{column!r} holds images, too: write a row for each image", column
        if isinstance(values[0], dict) and not any(_holds_list(value) for value in values):
            return f"{column!r} holds objects, not names: write a list of names in a column labels", column
        if any(_holds_list(value) for value in values) or _parted_names(values):
            hint = f"{column!r} holds several names in a cell: pass --data.reader.label_column {_flag(column)}"
            lists = [other for other in cells if any(_holds_list(value) for value in cells[other])]
            return hint + (f", or {_flag(','.join(lists))} for all" if len(lists) > 1 else ""), column
    numbers = [number_in(value) for values in cells.values() for value in values]
    known = [number for number in numbers if number is not None]
    # An age has no zeros, a count has.
    counts = all(any(number_in(row.cells.get(column)) == 0 for row in rows) for column in bad)
    if len(known) == len(numbers) and (max(known) <= 1 or len(bad) == len(columns) or counts) and min(known) >= 0:
        least = "0.5" if max(known) <= 1 else "1"
        return f"to read numbers from {least} on as present, pass --data.reader.threshold {least}", None
    words = list(dict.fromkeys(str(value).strip() for values in cells.values() for value in values))
    hints = []
    if len(bad) == len(columns) and len(columns) > 1 and len(words) <= MANY_WORDS and not known:
        hints.append(_words_hint(words, blanks=any(is_blank(row.cells.get(c)) for c in bad for row in rows)))
    if len(spread := share_names(cells)) > 1:
        hints.append(f"if they hold names of labels, pass --data.reader.label_column {_flag(','.join(spread))}")
    if hints:
        return "; ".join(hints), None
    if len(bad) < len(columns):
        hint = "leave out columns that are no labels: pass --data.reader.ignored_columns"
        return f"{hint} {_flag(','.join(bad))}", None
    few = [column for column in bad if len({str(row.cells.get(column)) for row in rows}) < max(2, len(rows))]
    return (
        f"name the column of labels: pass --data.reader.label_column {_flag(few[0] if few else next(iter(bad)))}",
        None,
    )


def _words_hint(words: list[str], *, blanks: bool) -> str:
    listed = ", ".join(map(repr, words))
    if len(words) == 1:
        hint = f"if {listed} means present, pass --data.reader.present_words {_flag(words[0])}"
        return f"{hint} --data.reader.blank absent" if blanks else hint
    example = f"--data.reader.present_words {_flag(words[0])} --data.reader.absent_words {_flag(','.join(words[1:]))}"
    return f"say which of {listed} mean present, absent and unknown, as in {example}"


def _flag(text: str) -> str:
    return shlex.quote(text)


def _parted_names(values: list[Any]) -> bool:
    """Whether cells are names between delimiters. Numbers are not: a comma may be that of a decimal."""
    parts = [part for value in values for part in re.split(r"[|;,]", str(value))]
    return bool(delimiter_of(values)[1]) and not all(number_in(part) is not None for part in parts if part.strip())


def _holds_list(cell: Any) -> bool:
    try:
        return items_of(cell) is not None
    except ValueError:
        return True
