"""How are WebDataset shards read? Tar files whose members ``dog/1.jpg`` and ``dog/1.json`` are one sample.

A member's key ends at the first dot of its file name; what follows says what it is. Labels come from ``json`` (a field
such as ``labels``), ``cls`` (a class number or name) or ``txt`` (tags between commas or on lines), the first of them
that the shards have. Names of class numbers stand in ``classnames.txt`` beside the shards, one a line from 0 on.
Shards must not be compressed: pictures are read where they lie, in any order.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msrn.data.archives.containers import IMAGE_SUFFIXES, tar_members
from msrn.data.manifest import Manifest
from msrn.data.rows import LABEL_COLUMNS, Row, class_names, manifest_of_rows, pick_column, split_tags
from msrn.errors import DataError, Problem, reason
from msrn.labels.space import LabelSpace

__all__ = ["CLASS_NAMES", "read_shards"]

CLASS_NAMES = "classnames.txt"
TEXTS = ("json", "cls", "txt")
MAX_TEXT_BYTES = 2**20


def read_shards(
    files: Sequence[Path],
    labels: LabelSpace | None = None,
    *,
    root: str | Path | None = None,
    split: str = "",
    label_column: str | None = None,
    delimiter: str | None = None,
) -> Manifest:
    """Read shards of one split; the pictures are not read.

    Args:
        files: tar files.
        labels: bind to these; None: ``classnames.txt`` if there is one, or else the names found in alphabetical order.
        root: what picture names start from; None: the shards' common folder.
        split: the manifest's.
        label_column: a field of ``json``, or ``cls`` or ``txt``; None: as above.
        delimiter: between the labels of one text; None: in ``txt`` a comma, in ``json`` as in tables.

    Raises:
        DataError: everything that is wrong, by shard and member.
    """
    folder = Path(root) if root else Path(os.path.commonpath([path.parent for path in files]))
    listed = files[0].parent / CLASS_NAMES
    classes = LabelSpace.read(listed) if listed.is_file() else None
    problems: list[Problem] = []
    samples = [(path, key, parts) for path in files for key, parts in _samples(path, problems).items() if "" in parts]
    kinds = [kind for kind in TEXTS if any(kind in parts for _, _, parts in samples)]
    if label_column in {"cls", "txt"} and label_column in kinds:
        kinds, label_column = [label_column], None
    if not samples and not problems:
        problems.append(Problem("the shards hold no pictures", str(files[0])))
    if not kinds and not problems:
        hint = "a sample's labels are a member key.json, key.cls or key.txt"
        problems.append(Problem(f"no member says labels; expected {', '.join(TEXTS)}", str(files[0]), hint))
    rows = _rows(samples, kinds[0], folder, delimiter, problems) if kinds else []
    column: str | None = "labels"
    if kinds and kinds[0] == "json":
        fields = list(dict.fromkeys(name for row in rows for name in row.cells if name != IMAGE))
        column = pick_column(label_column, LABEL_COLUMNS, fields, str(files[0]), "label_column")
        if column is None and len(kinds) > 1:
            rows, column = _rows(samples, kinds[1], folder, delimiter, problems), "labels"
        elif column is None and not problems:
            told = f"the json members name no labels; their fields are {', '.join(fields) or 'none'}"
            raise DataError(told, str(files[0]), "pass --data.reader.label_column")
    names = classes.names if classes else None
    if column is not None:
        for row in rows:
            for field in [name for name in row.cells if name == column or name.lower() == "unknown"]:
                row.cells[field] = class_names(row.cells[field], names, row.where, problems)
    if problems or column is None:
        raise DataError.of(problems, f"shards of {split or folder} are broken")
    more = f" and {len(files) - 1} more shards" if len(files) > 1 else ""
    return manifest_of_rows(
        rows,
        labels or classes,
        image_column=IMAGE,
        label_column=column,
        columns=[column],
        delimiter=delimiter,
        root=folder,
        split=split or files[0].stem,
        source=f"{files[0].name}{more}, {column if kinds[0] == 'json' else kinds[0]}",
        where=str(files[0]),
    )


IMAGE = "\0image"
"""Key of the picture's name among a row's cells; no field is called so."""


def _samples(path: Path, problems: list[Problem]) -> dict[str, dict[str, str]]:
    """Members of each sample by kind; the picture's kind is the empty text."""
    samples = defaultdict[str, dict[str, str]](dict)
    try:
        members = tar_members(path)
    except DataError as error:
        problems += error.problems
        return {}
    for name in members:
        directory, base = os.path.split(name)
        if base.startswith((".", "__")):  # not for readers: ._1.jpg of a Mac, WebDataset's own __key__
            continue
        stem, _, kind = base.partition(".")
        kind = kind.lower()
        key = os.path.join(directory, stem)
        if f".{kind}" in IMAGE_SUFFIXES:
            if "" in samples[key]:
                told = f"the sample has two pictures, {samples[key]['']} and {name}"
                problems.append(Problem(told, str(path), "its parts are what comes before the first dot of the name"))
            kind = ""
        samples[key][kind] = name
    for key, parts in samples.items():
        if "" not in parts:
            hint = "a picture is a member such as key.jpg, with no other dot in the file name"
            problems.append(Problem(f"the sample {key!r} has no picture, only {', '.join(parts)}", str(path), hint))
    return samples


def _rows(
    samples: list[tuple[Path, str, dict[str, str]]],
    kind: str,
    folder: Path,
    delimiter: str | None,
    problems: list[Problem],
) -> list[Row]:
    rows = []
    for path, key, parts in samples:
        name = os.path.relpath(path, folder).replace(os.sep, "/")
        where = f"{path}::{parts.get(kind, key)}"
        said = _said(path, parts[kind], kind, delimiter or ",", where, problems) if kind in parts else {}
        rows.append(Row(where, said | {IMAGE: f"{name}::{parts['']}"}))
    return rows


def _said(path: Path, member: str, kind: str, delimiter: str, where: str, problems: list[Problem]) -> dict[str, Any]:
    """What a sample's text says, by field."""
    offset, size = tar_members(path)[member]
    try:
        if size > MAX_TEXT_BYTES:
            raise ValueError(f"expected at most {MAX_TEXT_BYTES:,} bytes, got {size:,}")
        with path.open("rb") as file:
            file.seek(offset)
            text = file.read(size).decode("utf-8-sig")
        if kind == "json":
            cells = json.loads(text)
            if not isinstance(cells, dict):
                raise ValueError(f"expected a JSON object, got {type(cells).__name__}")
            return cells
    except (OSError, ValueError, RecursionError) as error:
        problems.append(Problem(f"cannot read the labels: {reason(error)}", where))
        return {}
    if kind == "cls":
        text = text.strip()
        return {"labels": int(text) if text.lstrip("-").isdecimal() else [text] if text else None}
    return {"labels": split_tags(text, delimiter)}
