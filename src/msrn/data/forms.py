"""Recognise the form of a table, and read the states of its labels from its cells."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from operator import itemgetter
from typing import Any

from msrn.data.cells import NO_LABEL, delimiter_of, is_blank, items_of, parted
from msrn.data.class_numbers import ClassNumbers, are_numbers
from msrn.data.column_problems import state_problems
from msrn.data.columns import is_index, names_column, pick_column, state_column
from msrn.data.long_form import join_labels, join_states, joined_columns, several_rows
from msrn.data.spread import JOINED, join_names, spread_columns
from msrn.data.states import MINUS_ONE, States, distinct_cells, is_state, number_in
from msrn.data.table import CellRules, Row, State, Table
from msrn.errors import DataError, Problem
from msrn.labels.space import LabelSpace, same_names

__all__ = ["Form", "form_of", "named_labels", "shown"]

BESIDE = "unknown"
NOT_LABELLED = "leave the cell blank if nothing is known of the image; write - if it shows none of the labels"


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
    if rules.label_columns:
        return _label_columns(table, list(rules.label_columns), labels, header, problems)
    if spread := _spread(table, columns, header):
        mark, evidence = _delimiter(table, spread)
        rows = join_names(rows, spread, mark)
        table = replace(table, rows=rows, label_column=JOINED)
        columns = [*(column for column in columns if column not in spread), JOINED]
        form = _name_column(table, columns, JOINED, labels, header, problems)
        return replace(form, notes=[f"labels in the columns {some_of(spread)}{evidence}", *form.notes[1:]])
    one = names_column(table.label_column, columns, rows, header)
    if one is None:
        left = [column for column in columns if column and not column.startswith("Unnamed: ")]
        if len(left) == 1 and not all(map(is_state, distinct_cells(rows, left[0]))) and not _numbers(rows, left[0]):
            one = left[0]
    if one is None:
        return _label_columns(table, columns, labels, header, problems)
    if one == "positives" and any(isinstance(row.cells.get(one), list) for row in rows):
        return Form(rows, [_from_lists(row, problems) for row in rows], one, [], ["labels in lists, as in a manifest"])
    return _name_column(table, columns, one, labels, header, problems)


def _spread(table: Table, columns: list[str], header: str) -> list[str]:
    """The columns that hold a name each: several that are asked for, or numbered ones such as ``label1``."""
    asked = table.label_column
    if asked is None:
        return [] if names_column(None, columns, table.rows, header) else spread_columns(columns, table.rows)
    if asked in columns or "," not in asked:
        return []
    names = [name.strip() for name in asked.split(",") if name.strip()]
    for name in names:
        pick_column(name, (), columns, header, "label_column")
    return names


def _delimiter(table: Table, columns: Sequence[str]) -> tuple[str, str]:
    """The delimiter of the cells of some columns, and the evidence for it as a note."""
    if table.delimiter:
        return table.delimiter, f", separated by {table.delimiter!r}"
    mark, evidence = delimiter_of(row.cells.get(column) for column in columns for row in table.rows)
    return mark, f", {evidence}" if evidence else ""


def _numbers(rows: Sequence[Row], column: str) -> bool:
    """Whether a column holds shares or counts, such as 0.8, and not names or class numbers."""
    cells = [cell for cell in distinct_cells(rows, column) if not is_blank(cell)]
    numbers = [number_in(cell) for cell in cells]
    return all(n is not None for n in numbers) and any(n is not None and not n.is_integer() for n in numbers)


def _label_columns(
    table: Table, columns: list[str], labels: LabelSpace | None, header: str, problems: list[Problem]
) -> Form:
    """The form of one column per label."""
    rows, rules = table.rows, table.rules
    left_out = [] if rules.label_columns else [column for column in columns if is_index(column, rows)]
    columns = [column for column in columns if column not in left_out]
    # Labels that are passed select columns; a label without a column is a misspelt one, so nothing is selected then.
    same = same_names(columns, labels) if labels is not None else {}
    if labels is not None and set(labels) <= {same.get(column, column) for column in columns}:
        left_out += [column for column in columns if same.get(column, column) not in labels]
        columns = [column for column in columns if column not in left_out]
    if not columns:
        raise DataError("no column is left that could be a label", header, f"left out: {', '.join(left_out)}")
    left_out += [column for column in rules.ignored_columns if column not in left_out]
    notes = [f"{len(columns):,} column{'s are labels' if len(columns) > 1 else ' is a label'}: {some_of(columns)}"]
    notes += [f"columns left out: {some_of([shown(column) for column in left_out])}"] if left_out else []
    states = States(rules)
    if found := state_problems(columns, rows, states):
        problems += found
        return Form(rows, [((), (), ())] * len(rows), None, columns, notes)
    read = _from_columns(rows, columns, [same.get(column, column) for column in columns], states)
    unknown = Counter(name for _, _, names in read for name in names or ())
    if empty := [name for name, count in unknown.items() if count == len(rows)]:
        notes.append(f"unknown in every row: {some_of(empty)}")
    if rules.repeated == "join":
        rows, read, note = joined_columns(rows, read, table.image_column)
        notes.append(note)
    return Form(rows, read, None, [same.get(column, column) for column in columns], notes)


def _name_column(
    table: Table, columns: list[str], one: str, labels: LabelSpace | None, header: str, problems: list[Problem]
) -> Form:
    """The forms of one column of names: a row per image, or a row per label."""
    rows, rules = table.rows, table.rules
    others = [column for column in columns if column != one]
    mark, evidence = _delimiter(table, [one])
    notes = [f"labels in {shown(one)}{evidence}"]
    numbers = ClassNumbers(rules, labels, header) if rules.class_numbers else None
    if numbers is not None:
        notes.append(numbers.note)
    read = NameCells(mark, rules, numbers)
    join = rules.repeated == "join" or (
        rules.repeated == "auto" and table.label_column != BESIDE and several_rows(rows, table.image_column, one, mark)
    )
    state = state_column(others, rows, rules.state_column or None, header)
    if not (join or rules.state_column) and not (state and rules.repeated == "auto" and _repeats(rows, table)):
        state = None
    if join or state:
        count = len(rows)
        if state:
            names = labels.names if labels else None
            if numbers is not None:
                rows = [_named(row, one, numbers, problems) for row in rows]
            rows = join_states(rows, table.image_column, one, state, names, States(rules), problems)
            states = [_from_lists(row, problems) for row in rows]
            how = f"a row per label, with 1 or 0 in {shown(state)}; labels without a row are unknown"
            one = "positives"
        else:
            rows = join_labels(rows, table.image_column, one, mark)
            states = _from_names(rows, one, None, read, read, problems)
            how = "a row per label, joined by image"
        others = [column for column in others if column != state]
        notes.append(f"{how} ({count:,} rows, {len(rows):,} images)")
    else:
        cells = dict.fromkeys(column for row in rows for column in row.cells)  # more than the columns: a field of json
        beside = next((column for column in cells if column.lower() == BESIDE and column != one), None)
        other = table.delimiter or delimiter_of(row.cells.get(beside) for row in rows)[0] if beside else mark
        states = _from_names(rows, one, beside, read, NameCells(other, rules, numbers), problems)
        others = [column for column in others if column != beside]
    if others:
        notes.append(f"columns not read: {some_of([shown(column) for column in others])}")
        like = [c for c in others if not is_index(c, table.rows) and _holds_states(table.rows, c)]
        if like:
            notes.append(f"1 and 0 in {some_of(like)}: --data.reader.label_columns reads them as labels")
    if numbers is None and are_numbers(name for state in states for name in named_labels(state)):
        notes.append("labels are class numbers: --data.labels NAMES.txt --data.reader.class_numbers from_0 names them")
    return Form(rows, states, one, [], notes)


def _holds_states(rows: Sequence[Row], column: str) -> bool:
    cells = [cell for cell in distinct_cells(rows, column) if not is_blank(cell)]
    return len(cells) > 1 and all(is_state(cell) for cell in cells)


def _named(row: Row, column: str, numbers: ClassNumbers, problems: list[Problem]) -> Row:
    names = numbers.names_of([row.cells.get(column)], row.where, problems)
    return Row(row.where, {**row.cells, column: names[0] if names else None})


def _repeats(rows: Sequence[Row], table: Table) -> bool:
    return len({str(row.cells.get(table.image_column)) for row in rows}) < len(rows)


@dataclass(frozen=True, slots=True)
class NameCells:
    """How the cells of a column of names are read."""

    delimiter: str
    rules: CellRules
    numbers: ClassNumbers | None = None

    def names(self, row: Row, column: str, problems: list[Problem]) -> tuple[str, ...] | None:
        """The label names of a cell; None if it is blank."""
        cell = row.cells.get(column)
        if is_blank(cell) or _is_word(cell, self.rules.unknown_words):
            return None
        try:
            items = items_of(cell)
        except ValueError as error:
            problems.append(Problem(f"column {shown(column)}: {error}", row.where, "quote names as in ['sea', 'boat']"))
            return ()
        if items is None and isinstance(cell, dict):
            message = f"column {shown(column)}: expected a list of names, got {cell!r}"
            hint = "write a list of the names that are present, or a field of 1 and 0 for each label"
            problems.append(Problem(message[:300], row.where, hint))
            return ()
        if items is None and number_in(cell) == MINUS_ONE:
            problems.append(
                Problem(f"column {shown(column)}: expected names of labels, got -1", row.where, NOT_LABELLED)
            )
            return ()
        if items is None:  # a cell may hold a name on each of its lines
            items = [part for line in re.split(r"[\r\n]+", str(cell)) for part in parted(line, self.delimiter)]
        if self.numbers is not None:
            items = self.numbers.names_of(items, row.where, problems)
        if not all(isinstance(name, str) for name in items):
            numbers = all(isinstance(item, int) for item in items)
            hint = "class numbers say nothing without their names: write names, or pass --data.labels NAMES.txt "
            hint += "--data.reader.class_numbers from_0"
            message = f"column {shown(column)}: expected a list of names, got {cell!r}"
            problems.append(Problem(message[:300], row.where, hint if numbers else ""))
            return ()
        if "?" in items and not isinstance(cell, list):
            message = f"column {shown(column)}: expected names of labels, got '?' among them"
            problems.append(Problem(message, row.where, "list the unknown labels in a column 'unknown'"))
        none = (NO_LABEL, *self.rules.absent_words)
        names = [name for item in items if (name := item.strip()) and not _is_word(name, none)]
        if len(set(names)) != len(names):
            problems.append(Problem(f"column {shown(column)} names a label twice: {cell!r}", row.where, "name it once"))
        return tuple(dict.fromkeys(names))


def _is_word(cell: Any, words: Sequence[str]) -> bool:
    return bool(words) and str(cell).strip().casefold() in {word.casefold() for word in words}


def _from_names(
    rows: Sequence[Row], column: str, beside: str | None, read: NameCells, other: NameCells, problems: list[Problem]
) -> list[State]:
    """The form of one label column; the column ``beside`` lists unknown labels."""
    states = []
    for row in rows:
        positives = read.names(row, column, problems)
        unknown = other.names(row, beside, problems) if beside else None
        if codes := [name for name in unknown or () if is_state(name)]:
            problems.append(Problem(f"column {beside!r}: expected names of labels, got {codes[0]!r}", row.where))
            unknown = None
        states.append(_state(row, column, (positives, (), unknown), problems))
    return states


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


def _from_columns(rows: Sequence[Row], columns: Sequence[str], names: Sequence[str], states: States) -> list[State]:
    """The states of columns of which every cell is one."""
    # Looked up and selected without a step of Python per cell: a table may have a million rows.
    present = {cell: state == "present" for cell, state in states.items()}
    unknown = {cell: state == "unknown" for cell, state in states.items()}
    found: list[State] = []
    values_of = itemgetter(*columns) if len(columns) > 1 else None
    for row in rows:
        try:
            values = values_of(row.cells) if values_of else (row.cells[columns[0]],)
        except KeyError:  # a line of JSON without some of the keys
            values = tuple(row.cells.get(column) for column in columns)
        positives = tuple(compress(names, map(present.__getitem__, values)))
        found.append((positives, (), tuple(compress(names, map(unknown.__getitem__, values)))))
    return found


def named_labels(state: State) -> tuple[str, ...]:
    """All labels that a state names."""
    positives, difficult, unknown = state
    return positives + difficult + (unknown or ())


def shown(column: str) -> str:
    """A column as messages name it."""
    if column == JOINED:
        return "the columns of labels"
    return "the archive" if column.startswith("\0") else repr(column) if column else "a column without a name"


def some_of(names: Sequence[str], most: int = 6) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
