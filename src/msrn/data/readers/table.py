"""Read a table: CSV, TSV or JSON lines with an image column, and labels in one of three forms (``data.rows``)."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from msrn import registry
from msrn.data.image_files import is_image_name
from msrn.data.image_paths import missing_images
from msrn.data.manifest import Manifest
from msrn.data.readers.locate import split_file
from msrn.data.rows import Row, Table, drop_empty, manifest_of_rows, pick_column
from msrn.errors import DataError, Problem, reason
from msrn.labels.space import LabelSpace

__all__ = ["IMAGE_COLUMNS", "Options", "read", "read_rows", "read_table", "table_from_bytes"]

IMAGE_COLUMNS = ("image", "filename", "file_name", "file", "filepath", "path", "image_path", "img")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")


class Options(registry.Options):
    """Options of the reader of tables."""

    name: str = "table"
    image_column: str = Field("", description="column of the images; empty: a usual name such as image, or the first")
    label_column: str = Field(
        "", description="column of the labels; empty: a usual name such as labels, or all other columns"
    )
    delimiter: str = Field("", description="between the labels of one cell; empty: the first of | ; , that occurs")
    empty: Literal["keep", "drop"] = Field("keep", description="images that show none of the labels")


def read(options: Options, root: str, split: str, labels: LabelSpace | None) -> Manifest:
    """Read one split.

    Args:
        options: columns and cells.
        root: the folder that image paths start from; empty: that of the table.
        split: the table, also below ``root``; or its name without ``.csv``, ``.tsv`` or ``.jsonl``.
        labels: as in ``read_table``.

    Raises:
        DataError: as ``read_table``, or no image is left.
    """
    path = split_file(root, split, suffixes=(".csv", ".tsv", ".jsonl"))
    manifest = read_table(path, labels, root=root or None, options=options)
    return drop_empty(manifest) if options.empty == "drop" else manifest


def read_table(
    path: str | Path,
    labels: LabelSpace | None = None,
    *,
    root: str | Path | None = None,
    options: Options | None = None,
) -> Manifest:
    """Read a CSV, TSV or JSON lines file of labelled images.

    Args:
        path: the table. Without a header, the first column holds images and the second labels.
        labels: bind to these; None: the names found, in alphabetical order (columns: in the order of the table).
        root: the folder that image paths start from; None: that of the table. Paths may not leave it.
        options: columns and delimiter.

    Raises:
        DataError: everything that is wrong, by file and line: missing images, unknown labels, images named twice, cells
            of no known value, an empty table.
    """
    return table_from_bytes(_bytes(Path(path)), Path(path), labels, root=root, options=options)


def table_from_bytes(
    content: bytes,
    path: Path,
    labels: LabelSpace | None = None,
    *,
    root: str | Path | None = None,
    options: Options | None = None,
) -> Manifest:
    """As ``read_table``, from the bytes that the file ``path`` holds or will hold."""
    options = options or Options()
    folder = Path(root) if root else path.parent
    columns, rows = _rows(content, path, folder)
    where = f"{path}, line 1"
    asked = options.image_column or None
    image_column = pick_column(asked, IMAGE_COLUMNS, columns, where, "image_column") or columns[0]
    table = Table(
        rows,
        image_column=image_column,
        label_column=options.label_column or None,
        columns=[column for column in columns if column != image_column],
        delimiter=options.delimiter or None,
        root=folder,
        split=path.stem,
        source=path.name,
        where=str(path),
        header=where,
    )
    return manifest_of_rows(table, labels)


EXPECTED = "expected a CSV, TSV or JSONL file in UTF-8"


def read_rows(path: Path, folder: Path) -> tuple[list[str], list[Row]]:
    """Column names and rows of a CSV, TSV or JSON lines file.

    A first line that names an image in ``folder`` is a row, not a header.

    Raises:
        DataError: the file cannot be read, has broken lines, or is empty.
    """
    return _rows(_bytes(path), path, folder)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the table: {reason(error)}", str(path), EXPECTED) from error


def _rows(content: bytes, path: Path, folder: Path) -> tuple[list[str], list[Row]]:
    try:
        text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()  # all line ends become \n
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read the table: {reason(error)}", str(path), EXPECTED) from error
    if path.suffix.lower() in JSON_SUFFIXES:
        return _json_rows(path, text)
    return _delimited_rows(path, text, folder)


def _json_rows(path: Path, text: str) -> tuple[list[str], list[Row]]:
    rows, columns, problems = [], dict[str, None](), []
    # Not splitlines(): it also breaks at characters that a name may hold (U+0085, U+2028).
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            cells = json.loads(line)
        except ValueError as error:
            problems.append(Problem(f"expected one JSON object a line: {error}", where))
            continue
        if not isinstance(cells, dict):
            problems.append(Problem(f"expected a JSON object, got {type(cells).__name__}", where))
            continue
        columns |= dict.fromkeys(cells)
        rows.append(Row(where, cells))
    if problems:
        raise DataError.of(problems, f"the table {path.name} is broken")
    if not rows:
        raise DataError("the table holds no images", str(path))
    return list(columns), rows


def _delimited_rows(path: Path, text: str, folder: Path) -> tuple[list[str], list[Row]]:
    first = text.lstrip().split("\n", 1)[0]
    # The separator is one that the first line holds. A comma wins, because cells may hold the others.
    separator = "\t" if path.suffix.lower() == ".tsv" else next((mark for mark in ",\t;" if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        hint = "is a quotation mark left open?"
        raise DataError(f"expected CSV: {error}", f"{path}, line {reader.line_num}", hint) from error
    if not lines:
        raise DataError("the table holds no images", str(path), "expected an image column and labels")
    header = [cell.strip() for cell in lines[0][1]]
    if any(is_image_name(cell) for cell in header) or not missing_images(folder, [(header[0], "")]):
        if len(header) != 2:
            hint = "add a header that names the columns"
            raise DataError(f"a table of {len(header)} columns needs a header", f"{path}, line 1", hint)
        header = ["image", "labels"]
    else:
        lines = lines[1:]
    if len(set(header)) != len(header):
        raise DataError(f"column names must be unique, got {', '.join(header)}", f"{path}, line 1")
    rows, problems = [], []
    for number, cells in lines:
        where = f"{path}, line {number}"
        if len(cells) != len(header):
            hint = "quote cells that hold the separator"
            problems.append(Problem(f"expected {len(header)} cells, got {len(cells)}", where, hint))
            continue
        rows.append(Row(where, dict(zip(header, (cell.strip() for cell in cells), strict=True))))
    if problems:
        raise DataError.of(problems, f"the table {path.name} is broken")
    return header, rows
