"""How are tables read? CSV, TSV or JSON lines: an image column, and labels in one of three forms.

Which form it is, and what cells mean, is told in ``data.rows``.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from msrn.data.archives.containers import IMAGE_SUFFIXES
from msrn.data.manifest import Manifest, missing_images
from msrn.data.rows import Row, manifest_of_rows, pick_column
from msrn.errors import DataError, Problem, reason
from msrn.labels.space import LabelSpace

__all__ = ["IMAGE_COLUMNS", "read_rows", "read_table"]

IMAGE_COLUMNS = ("image", "filename", "file_name", "file", "filepath", "path", "image_path", "img")


def read_table(
    path: str | Path,
    labels: LabelSpace | None = None,
    *,
    root: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    delimiter: str | None = None,
) -> Manifest:
    """Read a CSV, TSV or JSON lines file of labelled pictures.

    Args:
        path: the table. Without a header, the first column holds pictures and the second labels.
        labels: bind to these; None: the names found, in alphabetical order (columns: in the table's order).
        root: what picture paths start from; None: the table's folder. Paths may not leave it.
        image_column: None: a usual name such as ``image`` or ``path``, or the first column.
        label_column: None: a usual name such as ``labels`` or ``tags``, or all other columns.
        delimiter: between the labels of one cell; None: the first of ``|``, ``;`` and ``,`` that occurs.

    Raises:
        DataError: everything that is wrong, by file and line: missing pictures, unknown labels, pictures named twice,
            values that are none of those above, an empty table.
    """
    path = Path(path)
    folder = Path(root) if root else path.parent
    columns, rows = read_rows(path, folder)
    image_column = pick_column(image_column, IMAGE_COLUMNS, columns, f"{path}, line 1", "image_column") or columns[0]
    return manifest_of_rows(
        rows,
        labels,
        image_column=image_column,
        label_column=label_column,
        columns=[column for column in columns if column != image_column],
        delimiter=delimiter,
        root=folder,
        split=path.stem,
        source=path.name,
        where=str(path),
        header=f"{path}, line 1",
    )


def read_rows(path: Path, folder: Path) -> tuple[list[str], list[Row]]:
    """Column names and rows of a CSV, TSV or JSON lines file; a first line that names a picture in ``folder`` is none.

    Raises:
        DataError: the file cannot be read, or lines of it are broken, or there are none.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        hint = "expected a CSV, TSV or JSONL file in UTF-8"
        raise DataError(f"cannot read the table: {reason(error)}", str(path), hint) from error
    if path.suffix.lower() in {".jsonl", ".ndjson", ".json"}:
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
        raise DataError("the table holds no pictures", str(path))
    return list(columns), rows


def _delimited_rows(path: Path, text: str, folder: Path) -> tuple[list[str], list[Row]]:
    first = text.lstrip().split("\n", 1)[0]
    # The separator is one that the first line holds; a comma wins, for cells may hold the others.
    separator = "\t" if path.suffix.lower() == ".tsv" else next((mark for mark in ",\t;" if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        hint = "is a quotation mark left open?"
        raise DataError(f"expected CSV: {error}", f"{path}, line {reader.line_num}", hint) from error
    if not lines:
        raise DataError("the table holds no pictures", str(path), "expected an image column and labels")
    header = [cell.strip() for cell in lines[0][1]]
    if any(cell.lower().endswith(IMAGE_SUFFIXES) for cell in header) or not missing_images(folder, [(header[0], "")]):
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
