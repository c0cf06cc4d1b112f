"""Recognise the form of a table, and read the states of its labels from its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msrn.data.cells import ABSENT, MINUS_ONE, NO_LABEL, PRESENT, delimiter_of, is_blank, is_state, items_of, parted
from msrn.data.columns import is_index, label_columns_of, names_column, pick_column, state_column
from msrn.data.long_form import join_labels, join_states, several_rows
from msrn.data.table import CellRules, Row, Table
from msrn.errors import DataError, Problem
from msrn.labels.space import LabelSpace

__all__ = ["Form", "State", "form_of", "named_labels", "shown"]

BESIDE = "unknown"
MINUS_ONE_HINT = (
    "-1 means absent in some data sets and unknown in others: pass --data.reader.minus_one absent or unknown, "
    "or write 0, or leave the cell blank"
)
NOT_LABELLED = "leave the cell blank if nothing is known of the image; write - if it shows none of the labels"

State = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...] | None]
"""Positive, difficult and unknown labels; None: all are unknown."""


@dataclass(frozen=True, slots=True)
class Form:
    """Rows by image, their states, the column of names (None: ``columns`` are labels), and notes on the reading."""

    rows: list[Row]
    states: list[State]
    column: str | None
    columns: list[str]
    notes: list[str]


def form_of(table: Table, labels: LabelSpace | None, header: str, problems: list[Problem]) -> Form:
    """Recognise the form of a table and read the states of its labels."""
    rules, rows = table.rules, table.rows
    for column in (*rules.ignored_columns, *rules.label_columns):
        pick_column(column, (), [*table.columns, table.image_column], header, "a column of the options")
    columns = [column for column in table.columns if column not in rules.ignored_columns]
    one = None if rules.label_columns else names_column(table.label_column, columns, rows, header)
    if one is None and rules.label_columns:
        return _label_columns(table, list(rules.label_columns), labels, header, problems)
    if one is None:
        left = [column for column in columns if column and not column.startswith("Unnamed: ")]
        if len(left) == 1 and not all(is_state(row.cells.get(left[0])) for row in rows):
            one = left[0]
    if one is None:
        return _label_columns(table, columns, labels, header, problems)
    if one == "positives" and any(isinstance(row.cells.get(one), list) for row in rows):
        return Form(rows, [_from_lists(row, problems) for row in rows], one, [], ["labels in lists, as in a manifest"])
    return _name_column(table, columns, one, labels, header, problems)


def _label_columns(
    table: Table, columns: list[str], labels: LabelSpace | None, header: str, problems: list[Problem]
) -> Form:
    """The form of one column per label."""
    rows, rules = table.rows, table.rules
    left_out = [] if rules.label_columns else [column for column in columns if is_index(column, rows)]
    columns = [column for column in columns if column not in left_out]
    # Labels that are passed select columns; a label without a column is a misspelt one, so nothing is selected then.
    if labels is not None and set(labels) <= set(columns):
        left_out += [column for column in columns if column not in labels]
        columns = [column for column in columns if column in labels]
    if not columns:
        raise DataError("no column is left that could be a label", header, f"left out: {', '.join(left_out)}")
    problems += label_columns_of(columns, rows)
    left_out += [column for column in table.rules.ignored_columns if column not in left_out]
    notes = [f"{len(columns):,} column{'s are labels' if len(columns) > 1 else ' is a label'}: {some_of(columns)}"]
    notes += [f"columns left out: {some_of([shown(column) for column in left_out])}"] if left_out else []
    states = [_from_columns(row, columns, rules, problems) for row in rows]
    codes = [problem for problem in problems if problem.hint == MINUS_ONE_HINT]
    if len(codes) > 1:  # one problem per column would still repeat one cause
        problems[:] = [problem for problem in problems if problem.hint != MINUS_ONE_HINT]
        named = list(dict.fromkeys(problem.message.split(": ")[0] for problem in codes))
        message = f"expected 1, 0 or nothing (unknown), got -1 in {len(codes):,} cells ({some_of(named)})"
        problems.append(Problem(message, codes[0].where, MINUS_ONE_HINT))
    return Form(rows, states, None, columns, notes)


def _name_column(
    table: Table, columns: list[str], one: str, labels: LabelSpace | None, header: str, problems: list[Problem]
) -> Form:
    """The forms of one column of names: a row per image, or a row per label."""
    rows, rules = table.rows, table.rules
    others = [column for column in columns if column != one]
    mark, evidence = (table.delimiter, f"separated by {table.delimiter!r}") if table.delimiter else ("", "")
    if not mark:
        mark, evidence = delimiter_of(row.cells.get(one) for row in rows)
    notes = [f"labels in {shown(one)}" + (f", {evidence}" if evidence else "")]
    join = rules.repeated == "join" or (
        rules.repeated == "auto" and several_rows(rows, table.image_column, one, mark) and table.label_column != BESIDE
    )
    state = state_column(others, rows, rules.state_column or None, header) if join or rules.state_column else None
    if join or state:
        count = len(rows)
        if state:
            names = labels.names if labels else None
            rows = join_states(rows, table.image_column, one, state, names, problems)
            states = [_from_lists(row, problems) for row in rows]
            how = f"a row per label, with 1 or 0 in {shown(state)}; labels without a row are unknown"
            one = "positives"
        else:
            rows = join_labels(rows, table.image_column, one, mark)
            states = _from_names(rows, one, None, mark, mark, problems)
            how = "a row per label, joined by image"
        others = [column for column in others if column != state]
        notes.append(f"{how} ({count:,} rows, {len(rows):,} images)")
    else:
        cells = dict.fromkeys(column for row in rows for column in row.cells)  # more than the columns: a field of json
        beside = next((column for column in cells if column.lower() == BESIDE and column != one), None)
        other = table.delimiter or delimiter_of(row.cells.get(beside) for row in rows)[0] if beside else mark
        states = _from_names(rows, one, beside, mark, other, problems)
        others = [column for column in others if column != beside]
    if others:
        notes.append(f"columns not read: {some_of([shown(column) for column in others])}")
        like = [c for c in others if not is_index(c, table.rows) and _holds_states(table.rows, c)]
        if like:
            notes.append(f"1 and 0 in {some_of(like)}: --data.reader.label_columns reads them as labels")
    return Form(rows, states, one, [], notes)


def _holds_states(rows: Sequence[Row], column: str) -> bool:
    cells = [row.cells.get(column) for row in rows if not is_blank(row.cells.get(column))]
    return all(is_state(cell) for cell in cells) and len({str(cell) for cell in cells}) > 1


def _from_names(
    rows: Sequence[Row], column: str, beside: str | None, mark: str, other: str, problems: list[Problem]
) -> list[State]:
    """The form of one label column; the column ``beside`` lists unknown labels."""
    states = []
    for row in rows:
        positives = _names(row, column, mark, problems)
        unknown = _names(row, beside, other, problems) if beside else None
        if codes := [name for name in unknown or () if name.lower() in PRESENT | ABSENT]:
            problems.append(Problem(f"column {beside!r}: expected names of labels, got {codes[0]!r}", row.where))
            unknown = None
        states.append(_state(row, column, (positives, (), unknown), problems))
    problems[:] = _by_column(problems)
    return states


def _by_column(problems: Sequence[Problem]) -> list[Problem]:
    """Problems with equal advice about lists that hold no names as one, with their number."""
    lists = [problem for problem in problems if "expected a list of names" in problem.message]
    if len(lists) < 3:
        return list(problems)
    others = [problem for problem in problems if problem not in lists]
    first = lists[0]
    return [Problem(f"{first.message} (and {len(lists) - 1:,} more such rows)", first.where, first.hint), *others]


def _names(row: Row, column: str, delimiter: str, problems: list[Problem]) -> tuple[str, ...] | None:
    """The label names of a cell; None if it is blank."""
    cell = row.cells.get(column)
    if is_blank(cell):
        return None
    try:
        items = items_of(cell)
    except ValueError as error:
        problems.append(Problem(f"column {column!r}: {error}", row.where, "quote names as in ['sea', 'boat']"))
        return ()
    if items is not None or isinstance(cell, dict):
        if items is None or not all(isinstance(name, str) for name in items):
            numbers = items is not None and all(isinstance(item, int) for item in items)
            hint = "class numbers say nothing without their names: write names" if numbers else ""
            problems.append(Problem(f"column {column!r}: expected a list of names, got {cell!r}", row.where, hint))
            return ()
        names = [name.strip() for name in items]
    elif str(cell).strip() in MINUS_ONE:
        problems.append(Problem(f"column {column!r}: expected names of labels, got -1", row.where, NOT_LABELLED))
        return ()
    else:
        names = parted(str(cell), delimiter)
        if "?" in names:
            message = f"column {column!r}: expected names of labels, got '?' among them"
            problems.append(Problem(message, row.where, "list the unknown labels in a column 'unknown'"))
    names = [name for name in names if name and name != NO_LABEL]
    if len(set(names)) != len(names):
        problems.append(Problem(f"column {column!r} names a label twice: {cell!r}", row.where, "name it once"))
    return tuple(dict.fromkeys(names))


def _from_lists(row: Row, problems: list[Problem]) -> State:
    """The form of a manifest."""
    lists = [row.cells.get(column) for column in ("positives", "difficult", "unknown")]
    if not all(_is_list_of_names(names) for names in lists if names is not None):
        message = "expected positives, difficult and unknown to be lists of label names"
        problems.append(Problem(message, row.where))
        return (), (), ()
    positives, difficult, unknown = (None if names is None else tuple(names) for names in lists)
    return _state(row, "positives", (positives, difficult, unknown), problems)


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _state(row: Row, column: str, names: tuple[tuple[str, ...] | None, ...], problems: list[Problem]) -> State:
    """Positive, difficult and unknown labels, checked; where the positives are None, all labels are unknown."""
    positives, difficult, unknown = names
    if positives is None:
        if difficult or unknown:
            message = f"labels are listed as {'difficult' if difficult else 'unknown'}, but {column!r} is blank"
            problems.append(Problem(message, row.where, "write - or an empty list there if none is present"))
        return (), (), None
    named = (*positives, *(difficult or ()), *(unknown or ()))
    if len(set(named)) != len(named):
        problems.append(Problem("a label is named twice", row.where, "name it once"))
    return positives, difficult or (), unknown or ()


def _from_columns(row: Row, columns: Sequence[str], rules: CellRules, problems: list[Problem]) -> State:
    positives, unknown = [], []
    for column in columns:
        cell = row.cells.get(column)
        text = str(cell).strip().lower()
        meaning = rules.blank if is_blank(cell) else rules.minus_one if text in MINUS_ONE else ""
        if text in PRESENT or meaning == "present":
            positives.append(column)
        elif meaning == "unknown":
            unknown.append(column)
        elif meaning == "refuse":
            message = f"column {column!r}: expected 1, 0 or nothing (unknown), got {cell!r}"
            problems.append(Problem(message, row.where, MINUS_ONE_HINT))
    return tuple(positives), (), tuple(unknown)


def named_labels(state: State) -> tuple[str, ...]:
    """All labels that a state names."""
    positives, difficult, unknown = state
    return positives + difficult + (unknown or ())


def shown(column: str) -> str:
    """A column as messages name it."""
    return "the archive" if column.startswith("\0") else repr(column) if column else "a column without a name"


def some_of(names: Sequence[str], most: int = 6) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
