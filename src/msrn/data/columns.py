"""Decide what the columns of a table hold: images, names of labels, states of one label, or nothing that is read."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from msrn.data.cells import is_blank
from msrn.data.image_files import is_image_name
from msrn.data.states import MINUS_ONE, States, distinct_cells, is_state, number_in
from msrn.data.table import CellRules, Row
from msrn.errors import DataError, did_you_mean

__all__ = [
    "IMAGE_COLUMNS",
    "LABEL_COLUMNS",
    "image_column",
    "is_index",
    "names_column",
    "pick_column",
    "select_part",
    "split_word",
    "state_column",
]

IMAGE_COLUMNS = ("image", "filename", "file_name", "file", "filepath", "path", "image_path", "img")
LABEL_COLUMNS = ("positives", "labels", "label", "tags", "tag", "classes", "class")
RARER_IMAGE_COLUMNS = ("image_name", "image_id", "imageid", "image index", "fname", "img_path", "uri", "url")
RARER_LABEL_COLUMNS = (
    *("labelname", "label_name", "label_names", "class_name", "class_names", "choice", "choices"),
    *("category", "categories", "target", "targets"),
)
PLAIN_SPLITS = {"split", "split_name", "subset", "partition", "ml_use"}
INDEX_COLUMNS = {"", "index", "idx", "id", "row", "no", "nr", "#", "level_0"}
SPLIT_COLUMNS = {"split", "split_name", "set", "subset", "part", "partition", "phase", "usage", "ml_use", "dataset"}
STATE_COLUMNS = ("confidence", "value", "present", "state", "positive", "verified", "answer")
SPLIT_FLAGS = {"is_valid": ("val", "train"), "is_val": ("val", "train"), "is_test": ("test", "train")}
SPLIT_FLAGS |= {"is_train": ("train", "val"), "valid": ("val", "train")}
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}

_STATES = States(CellRules())
_SOME = 200  # cells that decide whether a column holds image names


def pick_column(asked: str | None, usual: Iterable[str], columns: Sequence[str], where: str, option: str) -> str | None:
    """The column that is asked for, or else the first usual one that exists.

    Raises:
        DataError: the column that is asked for does not exist.
    """
    if asked is not None and asked not in columns:
        hint = did_you_mean(asked, columns) or f"columns: {', '.join(columns)}"
        raise DataError(f"there is no column {asked!r} ({option})", where, hint)
    by_lower = {column.lower(): column for column in reversed(columns)}
    return asked or next((by_lower[name] for name in usual if name in by_lower), None)


def image_column(asked: str | None, columns: Sequence[str], rows: Sequence[Row], where: str) -> str:
    """The column of image names: asked for, of a usual name, holding names with a suffix, or the first that counts not.

    Raises:
        DataError: the column that is asked for does not exist.
    """
    if found := pick_column(asked, IMAGE_COLUMNS, columns, where, "image_column"):
        return found
    some = rows[:_SOME]
    for column in columns:
        if 2 * sum(is_image_name(str(row.cells.get(column) or "")) for row in some) > len(some):
            return column
    if found := pick_column(None, RARER_IMAGE_COLUMNS, columns, where, "image_column"):
        return found
    # An id is a name where the other columns hold labels: 17 is 17.png.
    labels = set(LABEL_COLUMNS + RARER_LABEL_COLUMNS)
    left = [c for c in columns if c.lower() not in labels and not all(is_state(row.cells.get(c)) for row in some)]
    named = [c for c in left if not is_index(c, rows)] + [c for c in left if c and not c.startswith("Unnamed: ")]
    return next(iter(named), columns[0])


def is_index(column: str, rows: Sequence[Row]) -> bool:
    """Whether a column only numbers the rows, as pandas writes it: without a name, or named index or id."""
    unnamed = not column or re.fullmatch(r"Unnamed: \d+", column) is not None
    if not unnamed and column.lower() not in INDEX_COLUMNS:
        return False
    cells = [str(row.cells.get(column)).strip() for row in rows if not is_blank(row.cells.get(column))]
    if not all(re.fullmatch(r"\d+(\.0)?", cell) for cell in cells):
        return False
    different = len(set(cells)) == len(cells)
    return different and (unnamed or cells == [str(n) for n in range(len(cells))] or not set(cells) <= {"0", "1"})


def names_column(asked: str | None, columns: Sequence[str], rows: Sequence[Row], where: str) -> str | None:
    """The column whose cells name labels: asked for, or of a usual name and not holding only states; else None.

    Raises:
        DataError: the column that is asked for does not exist.
    """
    if asked is not None:
        return pick_column(asked, (), columns, where, "label_column")
    for usual in LABEL_COLUMNS + RARER_LABEL_COLUMNS:
        column = pick_column(None, (usual,), columns, where, "label_column")
        if column is None or (
            usual == "positives" and not any(isinstance(row.cells.get(column), list) for row in rows)
        ):
            continue
        cells = [cell for cell in distinct_cells(rows, column) if not is_blank(cell)]
        if not cells or not all(is_state(cell) for cell in cells):
            return column
        # A lone code -1 among blanks is a mistake in a column of names.
        if len(columns) == 1 and all(number_in(cell) == MINUS_ONE for cell in cells):
            return column
    return None


def state_column(columns: Sequence[str], rows: Sequence[Row], asked: str | None, where: str) -> str | None:
    """The column of a long table that holds 1 where the label of the row is present, and 0 where it is absent."""
    if asked is not None:
        return pick_column(asked, (), columns, where, "state_column")
    found = pick_column(None, STATE_COLUMNS, columns, where, "state_column")
    if found is None or all(is_blank(row.cells.get(found)) for row in rows):
        return None
    return found


def split_word(column: str, cell: Any) -> str | None:
    """The split that a cell of a split-like column names; None where it names none."""
    if column.lower() in SPLIT_FLAGS:
        yes, no = SPLIT_FLAGS[column.lower()]
        return {"present": yes, "absent": no}.get(_STATES.of(cell))
    return SPLIT_WORDS.get(str(cell).strip().lower())


def select_part(
    columns: Sequence[str], rows: Sequence[Row], part: str, path: str, where: str, rules: CellRules
) -> tuple[list[str], list[Row], str]:
    """Rows of one part of a table with a column such as ``split`` or ``is_valid``, and the other columns.

    Args:
        columns, rows: the table.
        part: the part, as ``train.csv::val`` names it; empty: all rows, refused if they belong to several parts.
        path: the table, for messages.
        where: the place of the column names, for messages.
        rules: columns that are labels, and columns that are left out.

    Returns:
        columns without the split-like one, rows, and a note on it.

    Raises:
        DataError: the table has no such column or part, or has several parts and none is asked for.
    """
    for column in columns:
        if column.lower() not in SPLIT_COLUMNS | SPLIT_FLAGS.keys() or column in rules.ignored_columns:
            continue
        words = [split_word(column, row.cells.get(column)) for row in rows]
        cells = {str(row.cells.get(column)).strip() for row in rows}
        found = Counter(word for word in words if word)
        # A label may be called set or valid: a column of 1 and 0 counts only under a name that no label has.
        if not found or (column.lower() == "valid" and cells <= {"0", "1"}):
            if (
                column.lower() in PLAIN_SPLITS
                and len(columns) > 1
                and cells <= {"0", "1"}
                and column not in rules.label_columns
            ):
                hint = f"pass --data.reader.ignored_columns {shlex.quote(column)}, or --data.reader.label_columns"
                raise DataError(f"column {column!r} of 1 and 0 may be a split or a label", where, hint)
            continue
        if blanks := words.count(None):
            found["no split"] = blanks
        others = [name for name in columns if name != column]
        wanted = SPLIT_WORDS.get(part.lower(), part)
        counts = ", ".join(f"{name} {count:,}" for name, count in found.items())
        if part:
            chosen = [row for row, word in zip(rows, words, strict=True) if word == wanted]
            if not chosen:
                raise DataError(f"column {column!r} has no part {part!r}", where, f"parts found: {counts}")
            return others, chosen, f"rows of {wanted!r} by column {column!r}"
        if len(found) > 1:
            hint = f"name the rows to read, as in {path}::{next(iter(found))}; or pass "
            hint += f"--data.reader.ignored_columns {shlex.quote(column)} to read all rows as one split"
            raise DataError(f"column {column!r} parts the rows into splits: {counts}", where, hint)
        return others, list(rows), f"column {column!r} names one split and is left out"
    if part:
        raise DataError(f"the table has no column that names a split {part!r}", where, "split, or is_valid")
    return list(columns), list(rows), ""
