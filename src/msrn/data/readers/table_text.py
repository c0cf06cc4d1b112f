"""Parse the content of a table file: CSV, TSV, JSON lines, a JSON array, lists parted by blanks, or a workbook.

Separators, lists without a header and rows of different lengths are recognised here; ``data.columns``
decides what the columns hold.
"""

from __future__ import annotations

import csv
import importlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msrn.data.columns import IMAGE_COLUMNS, RARER_IMAGE_COLUMNS, SPLIT_WORDS
from msrn.data.image_files import is_image_name
from msrn.data.image_paths import missing_images
from msrn.data.readers.encoding import EXPECTED, decoded
from msrn.data.readers.exports import Export, rows_of_export, rows_of_xml
from msrn.data.readers.exports_via import CSV_COLUMNS, rows_of_via_csv
from msrn.data.states import is_state
from msrn.data.table import Row
from msrn.errors import DataError, DependencyError, Problem
from msrn.files import parse_json

__all__ = ["EXPECTED", "JSON_SUFFIXES", "TableText", "parse_table"]

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json", ".manifest")
MAX_TITLE = 10
"""Lines above a header that are looked for."""

MAX_LOOK, MAX_LINES = 100_000, 50
"""Characters and lines at the start of a text that decide its separator."""

VERTEX_WORDS = {*SPLIT_WORDS, "unassigned"}


@dataclass(frozen=True, slots=True)
class TableText:
    """Column names, rows, and notes on how the file was read."""

    columns: list[str]
    rows: list[Row]
    notes: tuple[str, ...] = ()


def parse_table(content: bytes, path: Path, folder: Path, encoding: str = "", *, numbered: bool = False) -> TableText:
    """The rows of a table file.

    Args:
        content: the bytes of the file.
        path: its name, whose suffix tells JSON lines and TSV.
        folder: of the images; a first line that names an image there is a row, not a header.
        encoding: of the text; empty: UTF-8, or UTF-16 with a byte order mark.
        numbered: numbers without a header are class numbers.

    Raises:
        DataError: the file cannot be decoded, has broken lines, or is empty. DependencyError: a workbook, without
            openpyxl.
    """
    if content.startswith(b"PK\x03\x04") or path.suffix.lower() == ".xlsx":
        return _workbook(content, path, folder)
    text, note = decoded(content, path, encoding)
    notes = (note,) if note else ()
    if path.suffix.lower() in JSON_SUFFIXES:
        found = _json(path, text)
    elif path.suffix.lower() == ".xml":
        found = _of_export(rows_of_xml(text, path))
    else:
        found = _delimited(path, text, folder, numbered)
    return TableText(found.columns, found.rows, notes + found.notes)


def _of_export(found: Export) -> TableText:
    return TableText(list(found.columns), found.rows, found.notes)


def _json(path: Path, text: str) -> TableText:
    """JSON lines, a JSON array of objects, or an export of an annotation program."""
    whole = text.lstrip()[:1] == "[" or path.suffix.lower() == ".json"
    if whole:
        try:
            tree = parse_json(text)
        except ValueError as error:
            if text.lstrip()[:1] == "[":
                raise DataError(f"expected a JSON array of objects: {error}", str(path)) from error
        else:
            if found := rows_of_export(tree, path):
                return _of_export(found)
            if isinstance(tree, dict) and len(tree) > 1 and all(isinstance(each, dict) for each in tree.values()):
                hint = "write a list of objects, one per image: in pandas, to_json(orient='records')"
                raise DataError("expected one object per image, got an object of objects", str(path), hint)
            if isinstance(tree, list):
                lines = [(f"{path}, entry {number}", entry) for number, entry in enumerate(tree, start=1)]
                return _objects(path, lines, [], ("a JSON array",))
    lines, problems = [], []
    # Not splitlines(): it also breaks at characters that a name may hold (U+0085, U+2028).
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            lines.append((where, parse_json(line)))
        except ValueError as error:
            problems.append(Problem(f"expected one JSON object a line: {error}", where))
    if not problems and (found := rows_of_export([entry for _, entry in lines], path)):
        return _of_export(found)
    return _objects(path, lines, problems, ())


def _objects(path: Path, lines: list[tuple[str, Any]], problems: list[Problem], notes: tuple[str, ...]) -> TableText:
    rows, columns = [], dict[str, None]()
    for where, cells in lines:
        if not isinstance(cells, dict):
            hint = 'write objects such as {"image": "a.jpg", "labels": ["sea"]}'
            problems.append(Problem(f"expected a JSON object, got {type(cells).__name__}", where, hint))
            continue
        columns |= dict.fromkeys(cells)
        rows.append(Row(where, cells))
    if problems:
        raise DataError.of(problems, f"the table {path.name} is broken")
    if not rows or not columns:
        raise DataError("the table holds no images", str(path))
    return TableText(list(columns), rows, notes)


def _delimited(path: Path, text: str, folder: Path, numbered: bool) -> TableText:
    notes: list[str] = []
    separator, start = "", 0
    if declared := re.match(r"\s*\"?sep=(.)\"?[^\S\n]*\n", text):  # the first line that Excel reads
        separator, start = declared[1], text[: declared.end()].count("\n")
        text = text[declared.end() :]
    first = text.lstrip().split("\n", 1)[0]
    if not separator and not set(first) & set(",\t;|") and (found := _blank_separated(path, text, numbered)):
        return found
    if not separator:
        separator = "\t" if path.suffix.lower() == ".tsv" else _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        lines = [(start + reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        hint = "is a quotation mark left open?"
        raise DataError(f"expected CSV: {error}", f"{path}, line {start + reader.line_num}", hint) from error
    if separator != ",":
        notes.append(f"cells separated by {'tabs' if separator == chr(9) else repr(separator)}")
    return _table(path, [(number, list(map(str.strip, cells))) for number, cells in lines], folder, notes)


def _separator(text: str) -> str:
    """The separator that gives the first lines equally many cells; else the first that the first line holds.

    A comma wins, because cells may hold the others; ``|`` only separates cells where none of the others does.
    """
    lines = [line for line in text[:MAX_LOOK].split("\n")[:MAX_LINES] if line.strip()]
    held = [mark for mark in ",\t;|" if lines and mark in lines[0]]
    for mark in held:
        try:
            widths = {len(cells) for cells in csv.reader(lines, delimiter=mark, skipinitialspace=True)}
        except csv.Error:
            continue
        if len(widths) == 1 and len(lines) > 1:
            return mark
    return next(iter(held), ",")


def _table(path: Path, lines: list[tuple[int, list[str]]], folder: Path, notes: list[str]) -> TableText:
    """Lines of cells as a header and rows."""
    if not lines:
        raise DataError("the table holds no images", str(path), "expected an image column and labels")
    header, first = lines[0][1], lines[0][0]
    _refuse_title(path, lines)
    if _names_image(header) or not missing_images(folder, [(header[0], "")]):
        if (ragged := _ragged(path, lines)) is not None:
            return ragged
        if len(header) != 2:
            hint = "add a header that names the columns"
            raise DataError(f"a table of {len(header)} columns needs a header", f"{path}, line {first}", hint)
        header = ["image", "labels"]
        notes.append("no header")
    else:
        lines = lines[1:]
    # Commas at the end of each line make columns without a name and without cells.
    width, lines_header = len(header), list(header)
    while width > 1 and not header[width - 1] and not any(any(cells[width - 1 : width]) for _, cells in lines):
        width -= 1
    header = header[:width]
    if len(set(header)) != len(header):
        twice = sorted({name or "(no name)" for name in header if header.count(name) > 1})
        raise DataError(
            f"column names must be unique, got {', '.join(twice)} more than once",
            f"{path}, line {first}",
            "rename the columns, or remove all but one",
        )
    rows, problems = [], []
    for number, cells in lines:
        where = f"{path}, line {number}"
        if cells == lines_header:
            problems.append(
                Problem("the header occurs again", where, "remove the line; were several files put together?")
            )
            continue
        kept = cells[:width] if not any(cells[width:]) else cells
        if len(kept) != width:
            hint = "quote cells that hold the separator"
            problems.append(Problem(f"expected {width} cells, got {len(cells)}", where, hint))
            continue
        rows.append(Row(where, dict(zip(header, kept, strict=True))))
    if problems:
        raise DataError.of(problems, f"the table {path.name} is broken")
    if set(header) >= CSV_COLUMNS:
        columns, rows, more = rows_of_via_csv(rows)
        return TableText(list(columns), rows, (*notes, *more))
    return TableText(header, rows, tuple(notes))


def _refuse_title(path: Path, lines: list[tuple[int, list[str]]]) -> None:
    """Refuse lines above the header, such as a title or a comment: they would pass for column names."""
    usual = {*IMAGE_COLUMNS, *RARER_IMAGE_COLUMNS}
    names = [{cell.lower() for cell in cells} & usual for _, cells in lines[:MAX_TITLE]]
    if len(lines) > 1 and not names[0] and not _names_image(lines[0][1]):
        width = len(lines[1][1])
        place = next((place for place, found in enumerate(names) if found and len(lines[place][1]) > 1), 0)
        if len(lines[0][1]) == 1 < width or (place and (len(lines[0][1]) == 1 or "" in lines[0][1])):
            header = lines[place or 1][0]
            hint = f"remove the lines above line {header}, if that is the header"
            raise DataError(f"expected column names, got {lines[0][1][0][:60]!r}", f"{path}, line {lines[0][0]}", hint)


def _names_image(cells: Sequence[str]) -> bool:
    return any(is_image_name(cell) for cell in cells)


def _ragged(path: Path, lines: list[tuple[int, list[str]]]) -> TableText | None:
    """Rows without a header of an image and any number of labels, maybe after the name of a split (Vertex AI).

    None: the rows are not of this form, or all cells after the image are states.
    """
    split = all(cells[0].lower() in VERTEX_WORDS and len(cells) > 1 for _, cells in lines)
    place = int(split)
    if not split and (len(lines[0][1]) == 2 and all(len(cells) <= 2 for _, cells in lines)):
        return None
    if not all(len(cells) > place and is_image_name(cells[place]) for _, cells in lines):
        return None
    rest = [cell for _, cells in lines for cell in cells[place + 1 :]]
    if not split and all(is_state(cell) for cell in rest):
        return None
    rows = []
    for number, cells in lines:
        labels = list(dict.fromkeys(cell for cell in cells[place + 1 :] if cell))
        rows.append(Row(f"{path}, line {number}", {"image": cells[place], "labels": labels}))
        if split:
            rows[-1].cells["split"] = cells[0]
    note = "no header; each row an image and its labels" + (", after the name of a split" if split else "")
    return TableText(["image", "labels", *(["split"] if split else [])], rows, (note,))


def _blank_separated(path: Path, text: str, numbered: bool) -> TableText | None:
    """A list parted by blanks: a header of labels and rows of states (CelebA), or an image and labels a line."""
    lines = [(n, line.split()) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if len(lines) > 2 and len(lines[0][1]) == 1 and lines[0][1][0].isdecimal():
        lines = lines[1:]  # the number of rows
    if len(lines) < 2:
        return None
    header, rows = lines[0][1], lines[1:]
    if all(len(cells) == len(header) + 1 and all(map(is_state, cells[1:])) for _, cells in rows):
        columns = ["image", *header]
        cells_of = [Row(f"{path}, line {n}", dict(zip(columns, cells, strict=True))) for n, cells in rows]
        return TableText(columns, cells_of, ("cells separated by blanks",))
    if not all(is_image_name(cells[0].replace("\\", "/")) for _, cells in lines):
        return None
    if not numbered and all(cell.isdecimal() for _, cells in lines for cell in cells[1:]):
        hint = "it looks like a list of images and class numbers: pass --data.reader.class_numbers from_0 "
        hint += "--data.labels NAMES.txt, one name a line from class 0 on; --data.reader nuswide reads it, too"
        raise DataError("expected names of labels, got numbers", f"{path}, line {lines[0][0]}", hint)
    found = [
        Row(f"{path}, line {n}", {"image": cells[0], "labels": list(dict.fromkeys(cells[1:]))}) for n, cells in lines
    ]
    return TableText(["image", "labels"], found, ("no header; each row an image and its labels, separated by blanks",))


def _workbook(content: bytes, path: Path, folder: Path) -> TableText:
    """The first sheet of an Excel workbook."""
    try:
        openpyxl = importlib.import_module("openpyxl")
    except ImportError as error:
        hint = "save it as CSV UTF-8 in Excel, or pip install 'msrn[xlsx]'"
        raise DependencyError("reading a workbook (.xlsx) needs the package openpyxl", str(path), hint) from error
    load: Callable[..., Any] = openpyxl.load_workbook
    try:
        sheet, *others = load(io.BytesIO(content), read_only=True, data_only=True).worksheets
        lines = [(number, [_text(cell) for cell in cells]) for number, cells in enumerate(sheet.values, start=1)]
    except Exception as error:  # openpyxl raises nearly anything on damaged files
        hint = "save it as CSV UTF-8 in Excel"
        raise DataError(f"the workbook cannot be read: {error}", str(path), hint) from error
    filled = [(number, cells) for number, cells in lines if any(cells)]
    more = f" ({len(others)} more not read)" if others else ""
    return _table(path, filled, folder, [f"first sheet {sheet.title!r} of a workbook{more}"])


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
