"""Read WebDataset shards: tar files whose members ``dog/1.jpg`` and ``dog/1.json`` are one sample.

The key of a member ends at the first dot of its file name; the rest is its kind. Labels come from ``json`` (a field
such as ``labels``), ``cls`` (a class number or name) or ``txt`` (tags between commas or on lines), the first of them
that the shards have. Names of class numbers are in ``classnames.txt`` beside the shards, one a line from 0 on. Shards
must not be compressed: images are read in place, in any order.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from msrn import registry
from msrn.data.archives.names import find_archives
from msrn.data.archives.tar import tar_members
from msrn.data.image_files import IMAGE_SUFFIXES, is_hidden
from msrn.data.manifest import Manifest
from msrn.data.rows import (
    LABEL_COLUMNS,
    Row,
    Table,
    class_names,
    drop_empty,
    manifest_of_rows,
    pick_column,
    split_tags,
)
from msrn.errors import DataError, Problem, reason
from msrn.files import parse_json
from msrn.labels.space import LabelSpace

__all__ = ["CLASS_NAMES", "Options", "read", "read_shards"]

CLASS_NAMES = "classnames.txt"
KINDS = ("json", "cls", "txt")
MAX_TEXT_BYTES = 2**20
_CLASS_NUMBER = re.compile(r"-?\d{1,18}")
IMAGE = "\0image"
"""Key of the image name among the cells of a row; no field has this name."""


class Options(registry.Options):
    """Options of the reader of WebDataset shards."""

    name: str = "webdataset"
    label_column: str = Field(
        "", description="field of json, or cls or txt; empty: a usual name such as labels, or else cls or txt"
    )
    delimiter: str = Field(
        "", description="between the labels of one text; empty: a comma in txt, the first of | ; , that occurs in json"
    )
    empty: Literal["keep", "drop"] = Field("keep", description="images that show none of the labels")


def read(options: Options, root: str, split: str, labels: LabelSpace | None) -> Manifest:
    """Read one split; its images are not read.

    Args:
        options: the field of the labels, and whether images without labels are kept.
        root: the folder of the data set, or empty.
        split: shards, as ``find_archives`` takes them.
        labels: bind to these; None: those of ``classnames.txt`` if it exists, or else the names found in alphabetical
            order.

    Raises:
        DataError: everything that is wrong, by shard and member.
    """
    files = find_archives(root, split, (".tar",))
    manifest = read_shards(files, labels, split=Path(split).stem, options=options)
    return drop_empty(manifest) if options.empty == "drop" else manifest


def read_shards(
    files: list[Path], labels: LabelSpace | None = None, *, split: str = "", options: Options | None = None
) -> Manifest:
    """As ``read``, from a list of tar files."""
    options = options or Options()
    folder = Path(os.path.commonpath([path.parent for path in files]))
    where = str(files[0])
    class_file = files[0].parent / CLASS_NAMES
    classes = LabelSpace.read(class_file) if class_file.is_file() else None
    problems: list[Problem] = []
    samples = [(path, key, parts) for path in files for key, parts in _samples(path, problems).items() if "" in parts]
    kinds = [kind for kind in KINDS if any(kind in parts for _, _, parts in samples)]
    asked = options.label_column or None
    if asked in {"cls", "txt"} and asked in kinds:
        kinds, asked = [asked], None
    if not samples and not problems:
        problems.append(Problem("the shards hold no images", where))
    if not kinds and not problems:
        hint = "the labels of a sample are a member key.json, key.cls or key.txt"
        problems.append(Problem(f"no member holds labels; expected {', '.join(KINDS)}", where, hint))
    rows = _rows(samples, kinds[0], folder, options.delimiter, problems) if kinds else []
    column: str | None = "labels"
    if kinds and kinds[0] == "json":
        fields = list(dict.fromkeys(name for row in rows for name in row.cells if name != IMAGE))
        column = pick_column(asked, LABEL_COLUMNS, fields, where, "label_column")
        if column is None and len(kinds) > 1:
            rows, column = _rows(samples, kinds[1], folder, options.delimiter, problems), "labels"
        elif column is None and not problems:
            message = f"expected a field of labels in the json members, found only {', '.join(fields) or 'none'}"
            raise DataError(message, where, "pass --data.reader.label_column")
    names = classes.names if classes else None
    if column is not None:
        for row in rows:
            for field in [name for name in row.cells if name == column or name.lower() == "unknown"]:
                row.cells[field] = class_names(row.cells[field], names, row.where, problems)
    if problems or column is None:
        raise DataError.of(problems, f"shards of {split or folder} are broken")
    more = f" and {len(files) - 1} more shards" if len(files) > 1 else ""
    table = Table(
        rows,
        image_column=IMAGE,
        label_column=column,
        columns=[column],
        delimiter=options.delimiter or None,
        root=folder,
        split=split or files[0].stem,
        source=f"{files[0].name}{more}, {column if kinds[0] == 'json' else kinds[0]}",
        where=where,
    )
    return manifest_of_rows(table, labels or classes)


def _samples(path: Path, problems: list[Problem]) -> dict[str, dict[str, str]]:
    """Members of each sample by kind; the kind of the image is the empty text."""
    samples = defaultdict[str, dict[str, str]](dict)
    try:
        members = tar_members(path)
    except DataError as error:
        problems += error.problems
        return {}
    for name in members:
        directory, base = os.path.split(name)
        # Hidden members, such as ._1.jpg of macOS, and WebDataset's own __key__ are no part of a sample.
        if base.startswith("__") or is_hidden(name):
            continue
        stem, _, kind = base.partition(".")
        kind = kind.lower()
        key = os.path.join(directory, stem)
        if f".{kind}" in IMAGE_SUFFIXES:
            if "" in samples[key]:
                message = f"the sample has two images, {samples[key]['']} and {name}"
                problems.append(Problem(message, str(path), "members with the same name up to the first dot are one"))
            kind = ""
        samples[key][kind] = name
    for key, parts in samples.items():
        if "" not in parts:
            hint = "name the image as in key.jpg, with no other dot in the file name"
            problems.append(Problem(f"the sample {key!r} has no image, only {', '.join(parts)}", str(path), hint))
    return samples


def _rows(
    samples: list[tuple[Path, str, dict[str, str]]],
    kind: str,
    folder: Path,
    delimiter: str,
    problems: list[Problem],
) -> list[Row]:
    rows = []
    for path, key, parts in samples:
        name = os.path.relpath(path, folder).replace(os.sep, "/")
        where = f"{path}::{parts.get(kind, key)}"
        cells = _cells(path, parts[kind], kind, delimiter or ",", where, problems) if kind in parts else {}
        rows.append(Row(where, cells | {IMAGE: f"{name}::{parts['']}"}))
    return rows


def _cells(path: Path, member: str, kind: str, delimiter: str, where: str, problems: list[Problem]) -> dict[str, Any]:
    """The fields of a text member of a sample."""
    offset, size = tar_members(path)[member]
    try:
        if size > MAX_TEXT_BYTES:
            raise ValueError(f"expected at most {MAX_TEXT_BYTES:,} bytes, got {size:,}")
        with path.open("rb") as file:
            file.seek(offset)
            text = file.read(size).decode("utf-8-sig")
        if kind == "json":
            cells = parse_json(text)
            if not isinstance(cells, dict):
                raise ValueError(f"expected a JSON object, got {type(cells).__name__}")
            return cells
    except (OSError, ValueError) as error:
        problems.append(Problem(f"cannot read the labels: {reason(error)}", where))
        return {}
    if kind == "cls":
        text = text.strip()
        return {"labels": int(text) if _CLASS_NUMBER.fullmatch(text) else [text] if text else None}
    return {"labels": split_tags(text, delimiter)}
