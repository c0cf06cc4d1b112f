"""Read single rows and the columns of parquet and Arrow files.

pyarrow reads both; the package ``datasets`` would only add its download machinery. Arrow files (what ``datasets``
saves) are mapped into memory, so every row is at hand. Parquet files are read by row group: a shuffled epoch unpacks a
group for nearly every image, so tar shards suit it better.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from msrn.errors import DataError, DependencyError, MsrnError, reason
from msrn.files import parse_json

__all__ = ["Columns", "column_values", "columns_of", "image_cells", "read_cell"]

MAX_GROUP_BYTES = 2**30
"""Largest unpacked row group of images that is read: 1 GiB."""

MAX_DIGITS = 18  # of the number of a row

INSTALL = "pip install 'msrn[data]'"


class Columns(NamedTuple):
    """Columns of a file: all names in order, those that hold images, and the class names that numbers stand for."""

    names: tuple[str, ...]
    images: tuple[str, ...]
    classes: dict[str, tuple[str, ...]]
    rows: int


def columns_of(path: str | Path) -> Columns:
    """The columns of a file.

    A column holds images if it is binary, or a structure with a field ``bytes``. Class names are those that
    ``datasets`` leaves in the schema.

    Raises:
        DataError: the file is damaged, or not a parquet or Arrow file. DependencyError: pyarrow is missing.
    """
    with _damage_named("cannot read the columns", str(path)):
        return _columns(path)


def _columns(path: str | Path) -> Columns:
    pyarrow = _pyarrow(path)
    source = _source(path)
    schema = source.schema_arrow if _is_parquet(path) else source.schema
    types = pyarrow.types

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))

    images = []
    for field in schema:
        kind = field.type
        if types.is_struct(kind):
            kind = next((part.type for part in kind if part.name == "bytes"), None)
        if kind is not None and is_bytes(kind):
            images.append(field.name)
    rows = source.metadata.num_rows if _is_parquet(path) else source.num_rows
    if rows > (size := os.path.getsize(path)):
        raise ValueError(f"{rows:,} rows in {size:,} bytes")
    return Columns(tuple(schema.names), tuple(images), _classes(schema.metadata or {}), rows)


def column_values(path: str | Path, column: str) -> list[Any]:
    """All values of one column, as Python values: for labels, not for images."""
    with _damage_named(f"cannot read column {column!r}", str(path)):
        table = _source(path)
        if _is_parquet(path):
            count = table.metadata.num_rows
            if count * 8 > MAX_GROUP_BYTES:
                raise ValueError(f"{count:,} values")
            table = table.read(columns=[column], use_threads=False)
        values = _checked(table.column(column))
        if len(values) != columns_of(path).rows:
            raise ValueError(f"it holds {len(values):,} values for {columns_of(path).rows:,} rows")
        if values.nbytes > MAX_GROUP_BYTES:
            raise ValueError(f"it unpacks to {values.nbytes:,} bytes, more than {MAX_GROUP_BYTES:,}")
        return list(values.to_pylist())


def image_cells(path: str | Path) -> Iterator[str]:
    """Names of the images of a file's first image column, as ``read_cell`` takes them."""
    columns = columns_of(path)
    if not columns.images:
        raise DataError(f"expected a column of images, found only {', '.join(columns.names)}", str(path))
    return (f"{columns.images[0]}/{row}" for row in range(columns.rows))


def read_cell(path: str | Path, cell: str) -> bytes:
    """The bytes of one image, ``column/row``.

    Raises:
        DataError: the column or row does not exist, or holds no bytes. DependencyError: pyarrow is missing.
    """
    _pyarrow(path)
    column, _, number = cell.rpartition("/")
    where = f"{path}::{cell}"
    if not column or not number.isascii() or not number.isdigit() or len(number) > MAX_DIGITS:
        raise DataError(f"expected a column and a row such as image/17, got {cell!r}", str(path))
    row = int(number)
    with _damage_named("the image cannot be read", where):
        if _is_parquet(path):
            starts = _starts(*_stamp(path))
            group = int(next((g for g, end in enumerate(starts[1:]) if row < end), -1))
            if group < 0:
                raise DataError(f"there is no row {row:,}; the file has {starts[-1]:,} rows", str(path))
            value = _group(*_stamp(path), column, group)[row - starts[group]].as_py()
        else:
            value = _mapped_column(*_stamp(path), column)[row].as_py()
    if isinstance(value, dict):
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise DataError("the row holds no image, or only the path of one", where, "save the file with the images in it")
    return value


def _is_parquet(path: str | Path) -> bool:
    return str(path).lower().endswith(".parquet")


def _pyarrow(path: str | Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DependencyError("parquet and Arrow files need pyarrow", str(path), INSTALL) from error
    return pyarrow


def _stamp(path: str | Path) -> tuple[str, int, int]:
    """The key under which a file's index is kept: a changed file has another key."""
    found = os.stat(path)
    return str(path), found.st_mtime_ns, found.st_size


def _source(path: str | Path) -> Any:
    """The opened parquet file, or the Arrow table."""
    pyarrow = _pyarrow(path)
    with _damage_named(f"cannot read the {'parquet' if _is_parquet(path) else 'Arrow'} file", str(path)):
        stamp = _stamp(path)
        # Mapped into memory, so that forked processes share no position in the file.
        return pyarrow.parquet.ParquetFile(path, memory_map=True) if _is_parquet(path) else _mapped(*stamp)


@functools.lru_cache(maxsize=256)
def _mapped(path: str, _changed: int, _size: int) -> Any:
    import pyarrow

    source = pyarrow.memory_map(path)
    with source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        opened = pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
        return opened.read_all()


@functools.lru_cache(maxsize=256)
def _mapped_column(path: str, changed: int, size: int, column: str) -> Any:
    return _checked(_mapped(path, changed, size).column(column))


@functools.lru_cache(maxsize=1024)
def _starts(path: str, _changed: int, _size: int) -> list[int]:
    """First row of each row group, and the number of rows."""
    metadata = _source(path).metadata
    starts = [0]
    for group in range(metadata.num_row_groups):
        starts.append(starts[-1] + metadata.row_group(group).num_rows)
    return starts


@functools.lru_cache(maxsize=2)
def _group(path: str, _changed: int, _size: int, column: str, group: int) -> Any:
    """The images of one row group. Two groups are kept, because rows are mostly read in order."""
    file = _source(path)
    # Of all its columns: pyarrow ends the process when it is asked for one whose statistics are damaged.
    size = file.metadata.row_group(group).total_byte_size
    if size > MAX_GROUP_BYTES:
        message = f"row group {group} unpacks to {size:,} bytes, more than {MAX_GROUP_BYTES:,}"
        raise DataError(message, path, "write the file with smaller row groups, of about 100 images")
    return _checked(file.read_row_group(group, columns=[column], use_threads=False).column(column))


@contextmanager
def _damage_named(message: str, where: str) -> Iterator[None]:
    """Turn what pyarrow raises on damaged files into a DataError; it has a kind of error for nearly everything."""
    try:
        yield
    except MsrnError:
        raise
    except Exception as error:
        raise DataError(f"{message}: {reason(error) or type(error).__name__}", where) from error


def _checked(column: Any) -> Any:
    """The column, once its offsets are checked: a damaged file may hold any, and pyarrow checks only on request."""
    column.validate(full=True)
    return column


def _classes(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    try:
        features = parse_json(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features") or {}
        found = {name: _class_names(feature) for name, feature in features.items()}
    except (ValueError, AttributeError):
        return {}
    return {name: names for name, names in found.items() if names}


def _class_names(feature: Any) -> tuple[str, ...]:
    """Names of a ClassLabel, also within the sequence types of old and new versions of ``datasets``."""
    while isinstance(feature, list | dict):
        if isinstance(feature, list):
            feature = feature[0] if len(feature) == 1 else None
        elif feature.get("_type") == "ClassLabel":
            names = feature.get("names")
            return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()
        else:
            feature = feature.get("feature")
    return ()
