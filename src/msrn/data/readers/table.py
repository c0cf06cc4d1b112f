"""Read a table: CSV, TSV or JSON lines with an image column, and labels in one of three forms (``data.rows``)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from msrn import registry
from msrn.data.columns import IMAGE_COLUMNS, image_column, select_part
from msrn.data.looks import look_of
from msrn.data.manifest import Manifest
from msrn.data.readers.locate import split_file
from msrn.data.readers.table_text import EXPECTED, JSON_SUFFIXES, parse_table
from msrn.data.rows import CellRules, Row, Table, drop_empty, manifest_of_rows
from msrn.errors import DataError, reason
from msrn.labels.space import LabelSpace

__all__ = ["IMAGE_COLUMNS", "JSON_SUFFIXES", "Options", "read", "read_rows", "read_table", "table_from_bytes"]

_log = logging.getLogger(__name__)


def _columns(value: object) -> object:
    """Column names given as one text, between commas."""
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


Columns = Annotated[tuple[str, ...], BeforeValidator(_columns)]


class Options(registry.Options):
    """Options of the reader of tables."""

    name: str = "table"
    image_column: str = Field("", description="column of the images; empty: a usual name such as image, or the first")
    label_column: str = Field(
        "",
        description="column of the names of labels, or several between commas; empty: a usual name such as labels, "
        "or all other columns",
    )
    label_columns: Columns = Field((), description="columns that each are a label, between commas; empty: recognised")
    ignored_columns: Columns = Field((), description="columns that are not read, between commas")
    state_column: str = Field(
        "", description="column of 1 and 0 beside a label per row; empty: a usual name such as confidence"
    )
    delimiter: str = Field("", description="between the labels of one cell; empty: the one that most cells share")
    minus_one: Literal["refuse", "absent", "unknown", "present"] = Field(
        "refuse", description="what -1 means in a column of a label"
    )
    blank: Literal["unknown", "absent"] = Field("unknown", description="what a blank cell means in a column of a label")
    threshold: float | None = Field(
        None,
        description="number from which on a cell means present, for shares and counts; none: 1 and 0 only",
    )
    present_words: Columns = Field((), description="further texts that mean present, between commas, such as x,pos")
    absent_words: Columns = Field(
        (), description="further texts that mean absent or, in a column of names, none of the labels, such as none"
    )
    unknown_words: Columns = Field((), description="further texts that mean unknown, between commas, such as uncertain")
    class_numbers: Literal["", "from_0", "from_1"] = Field(
        "", description="numbers in a column of names count the names of data.labels, from 0 or from 1"
    )
    repeated: Literal["auto", "join", "refuse"] = Field(
        "auto", description="rows of one image: join their labels; auto: if the table has a row per label"
    )
    encoding: str = Field("", description="of the text, such as cp1252; empty: UTF-8, or UTF-16 with its mark")
    empty: Literal["keep", "drop"] = Field("keep", description="images that show none of the labels")


def read(options: Options, root: str, split: str, labels: LabelSpace | None) -> Manifest:
    """Read one split.

    Args:
        options: columns and cells.
        root: the folder that image paths start from; empty: that of the table.
        split: the table, also below ``root``; or its name without ``.csv``, ``.tsv`` or ``.jsonl``. ``all.csv::val``
            names the rows of a table whose column such as ``split`` holds ``val``.
        labels: as in ``read_table``.

    Raises:
        DataError: as ``read_table``, or no image is left.
    """
    file, _, part = split.partition("::")
    path = split_file(root, file, suffixes=(".csv", ".tsv", ".jsonl"))
    manifest = read_table(path, labels, root=root or None, options=options, part=part)
    _log.info("%s: %s", split, manifest.reading)
    return drop_empty(manifest) if options.empty == "drop" else manifest


def read_table(
    path: str | Path,
    labels: LabelSpace | None = None,
    *,
    root: str | Path | None = None,
    options: Options | None = None,
    part: str = "",
) -> Manifest:
    """Read a CSV, TSV or JSON lines file of labelled images.

    Args:
        path: the table. Without a header, the first column holds images and the second labels.
        labels: bind to these; None: the names found, in alphabetical order (columns: in the order of the table).
        root: the folder that image paths start from; None: that of the table. Paths may not leave it.
        options: columns and delimiter.
        part: the rows of one split, where a column names it; empty: all rows.

    Returns:
        A manifest whose ``reading`` describes how columns and cells were understood.

    Raises:
        DataError: everything that is wrong, by file and line: missing images, unknown labels, images named twice, cells
            of no known value, an empty table; or rows of several splits, and none is named.
    """
    path = Path(path)
    content = _bytes(path)
    try:
        return table_from_bytes(content, path, labels, root=root, options=options, part=part)
    except DataError as error:
        # The one cause comes before the many problems that follow from it.
        look = look_of(content, path) if content else None
        if look is None or look.reader == "table" or content.startswith(b"PK"):
            raise
        raise DataError(f"expected a table, got what looks like {look.what}", str(path), look.hint) from error


def table_from_bytes(
    content: bytes,
    path: Path,
    labels: LabelSpace | None = None,
    *,
    root: str | Path | None = None,
    options: Options | None = None,
    part: str = "",
) -> Manifest:
    """As ``read_table``, from the bytes that the file ``path`` holds or will hold."""
    options = options or Options()
    folder = Path(root) if root else path.parent
    text = parse_table(content, path, folder, options.encoding, numbered=bool(options.class_numbers))
    where = f"{path}, line 1"
    image = image_column(options.image_column or None, text.columns, text.rows, where)
    others = [column for column in text.columns if column != image]
    rules = CellRules(**options.model_dump(include=set(CellRules.__dataclass_fields__)))
    others, rows, note = select_part(others, text.rows, part, str(path), where, rules)
    table = Table(
        rows,
        image_column=image,
        label_column=options.label_column or None,
        columns=others,
        delimiter=options.delimiter or None,
        root=folder,
        split=part or path.stem,
        source=f"{path.name}::{part}" if part else path.name,
        where=str(path),
        header=where,
        rules=rules,
        notes=(*text.notes, note),
    )
    return manifest_of_rows(table, labels)


def read_rows(path: Path, folder: Path) -> tuple[list[str], list[Row]]:
    """Column names and rows of a CSV, TSV or JSON lines file.

    A first line that names an image in ``folder`` is a row, not a header.

    Raises:
        DataError: the file cannot be read, has broken lines, or is empty.
    """
    text = parse_table(_bytes(path), path, folder)
    return text.columns, text.rows


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the table: {reason(error)}", str(path), EXPECTED) from error
