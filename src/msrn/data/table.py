"""A table in memory: its rows, what is known of its columns, and the rules for its cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["CellRules", "Row", "State", "Table"]

State = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...] | None]
"""Positive, difficult and unknown labels of an image; None: all are unknown."""


@dataclass(frozen=True, slots=True)
class Row:
    """Cells of the row of one image, by column, and where the row is."""

    where: str
    cells: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CellRules:
    """How columns and cells are read where the columns alone do not decide it.

    Fields: label_columns, columns that are labels (empty: all); ignored_columns, columns that are not read;
    state_column, of a table with a row per label; minus_one and blank, what such a cell of a label's column means;
    threshold, the number from which on such a cell means present; present_words, absent_words and unknown_words, texts
    with these meanings; class_numbers, whether numbers in a column of names count label names, and from where;
    repeated, ``join`` for rows of one image that together name its labels.
    """

    label_columns: tuple[str, ...] = ()
    ignored_columns: tuple[str, ...] = ()
    state_column: str = ""
    minus_one: str = "refuse"
    blank: str = "unknown"
    threshold: float | None = None
    present_words: tuple[str, ...] = ()
    absent_words: tuple[str, ...] = ()
    unknown_words: tuple[str, ...] = ()
    class_numbers: str = ""
    repeated: str = "auto"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one split, and what their columns hold.

    Fields: rows, one per image; image_column, whose cells are paths under ``root`` or names inside archives;
    label_column, None for a usual name such as ``labels`` or ``tags``, or else all of ``columns``; columns, all but the
    image column; delimiter, between the labels of one cell, None for the one that most cells share; root, split and
    source of the manifest; where, the data set as problems name it; header, where its columns are named; rules; notes
    on how the file was read.
    """

    rows: list[Row]
    image_column: str
    label_column: str | None
    columns: list[str]
    delimiter: str | None
    root: Path
    split: str
    source: str
    where: str
    header: str = ""
    rules: CellRules = field(default_factory=CellRules)
    notes: tuple[str, ...] = ()
