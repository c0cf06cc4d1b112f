"""Labels of an image from the cells of a row: the rules that tables, parquet files, shards and text files share.

- **One label column**: ``sea|boat``, or a list of names. In a cell that is blank, ``?`` or ``nan``, every label is
  unknown; in a cell ``-``, or an empty list, every label is absent. A column ``unknown`` beside it may list unknown
  labels in the same way.
- **One column per label**: cells ``1`` (present), ``0`` (absent), blank, ``?`` or ``nan`` (unknown).
- **One row per label**: rows that repeat an image with other labels, with or without a column of ones and zeros.
- **As in a manifest**: lists ``positives``, ``difficult`` and ``unknown`` of names.

A code -1 is refused unless an option states its meaning: it means "absent" in some data sets and "unknown" in others.

The form is recognised from the columns (``data.columns``) and described in the ``reading`` of the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from msrn.data.cells import class_names, split_tags
from msrn.data.class_numbers import are_numbers
from msrn.data.columns import LABEL_COLUMNS, pick_column
from msrn.data.compounds import compound_labels
from msrn.data.forms import form_of, named_labels, shown
from msrn.data.image_names import resolve_images
from msrn.data.image_paths import repeated_images
from msrn.data.manifest import Manifest, Record
from msrn.data.table import CellRules, Row, State, Table
from msrn.errors import MAX_HINTS, DataError, Problem, did_you_mean
from msrn.labels.space import LabelSpace, same_names

__all__ = [
    "LABEL_COLUMNS",
    "CellRules",
    "Row",
    "Table",
    "class_names",
    "drop_empty",
    "manifest_of_rows",
    "pick_column",
    "split_tags",
]

SEPARATE = "if they are, pass --data.reader.delimiter with what separates them, such as ' '"
JOIN_COLUMNS = "to join the rows of an image, pass --data.reader.repeated join (what they contradict is unknown)"
JOIN = "to join the labels of all rows of an image, pass --data.reader.repeated join"


def manifest_of_rows(table: Table, labels: LabelSpace | None) -> Manifest:
    """Turn rows into a manifest, by the rules above.

    Args:
        table: the rows.
        labels: bind to these; None: the names found, in alphabetical order (columns: in the order of the table). Of
            columns that are labels, those of these names are read.

    Raises:
        DataError: as ``read_table``.
    """
    source, header = table.source, table.header or table.where
    if not table.columns:
        hint = "add a labels column; if its lines are in quotation marks as a whole, remove these"
        raise DataError("expected an image column and labels, got one column", header, hint)
    problems: list[Problem] = []
    form = form_of(table, labels, header, problems)
    rows, one, states = form.rows, form.column, form.states
    names, merged = form.columns, ""
    if one is not None:
        names = sorted({name for state in states for name in named_labels(state)})
    if one not in {None, "positives"} and (same := same_names(names, labels)):
        states = [_renamed(state, same) for state in states]
        names = sorted({same.get(name, name) for name in names})
        merged = f"names that look the same are one label: {', '.join(sorted(set(same.values()))[:3])}"
    problems += _unknown_labels(names, labels, rows, states, header)
    if one is None and labels is not None:
        hint = "add the column, and leave cells blank where the label is unknown"
        columns = set(names)
        lacking = [f"label {name!r} of the label set has no column" for name in labels if name not in columns]
        problems += [Problem(message, header, hint) for message in lacking]
    space = labels or (LabelSpace(names) if names and not problems else None)
    images = [_image(row, table.image_column, problems) for row in rows]
    places = [row.where for row in rows]
    problems += repeated_images(images, places, hint=JOIN if one is not None else JOIN_COLUMNS)
    found = resolve_images(table.root, list(zip(images, places, strict=True)))
    problems += found.problems
    if not rows:
        problems.append(Problem(f"{source} holds no images", table.where, "expected a row for each image"))
    elif space is None and not problems:
        problems.append(Problem(f"{source} names no label at all", table.where, f"{one!r} is blank everywhere"))
    if problems or space is None:
        raise DataError.of(problems, f"{source} is broken")
    records = tuple(
        Record(image, positives, difficult, space.names if unknown is None else unknown)
        for image, (positives, difficult, unknown) in zip(found.names, states, strict=True)
    )
    notes = [*table.notes, f"images in {shown(table.image_column)}", *form.notes, merged, found.note]
    if one is not None and labels is None and (odd := compound_labels(names)):
        first = ", ".join(f"{name!r} ({why})" for name, why in list(odd.items())[:2])
        notes.append(f"{len(odd):,} of {len(names):,} labels look like several: {first}; {SEPARATE}")
    reading = "; ".join(note for note in notes if note)
    return Manifest(records, space, table.split, table.root, source, reading)


def drop_empty(manifest: Manifest) -> Manifest:
    """The manifest without images that are known to show none of the labels.

    Raises:
        DataError: no image is left.
    """
    records = tuple(r for r in manifest.records if r.positives or r.difficult or r.unknown)
    if not records:
        hint = "pass --data.reader.empty keep"
        raise DataError("no image shows a label, and images without one are dropped", manifest.source, hint)
    dropped = len(manifest) - len(records)
    return replace(manifest, records=records, source=f"{manifest.source}, images without labels dropped ({dropped})")


def _unknown_labels(
    names: list[str], labels: LabelSpace | None, rows: list[Row], states: list[State], header: str
) -> list[Problem]:
    if labels is None:
        return []
    strange = {name for name in names if name not in labels}
    if are_numbers(strange) and len(strange) == len(set(names)):
        hint = "if they are class numbers that count the names of data.labels, pass --data.reader.class_numbers from_0 "
        hint += "(or from_1)"
        return [
            Problem(f"labels are numbers ({', '.join(sorted(strange)[:5])}), the label set has names", header, hint)
        ]
    size = f"the label set has {len(labels)} names"
    hints = dict.fromkeys(strange, size)
    hints |= {name: did_you_mean(name, labels.names) or size for name in sorted(strange)[:MAX_HINTS]}
    found = [
        Problem(f"label {name!r} is not in the label set", row.where, hints[name])
        for row, (positives, _, _) in zip(rows, states, strict=True)
        for name in positives
        if name in strange
    ]
    silent = sorted(strange - {name for positives, _, _ in states for name in positives})
    return found + [Problem(f"label {name!r} is not in the label set", header, hints[name]) for name in silent]


def _renamed(state: State, same: Mapping[str, str]) -> State:
    unknown = state[2]
    renamed = [tuple(dict.fromkeys(same.get(name, name) for name in names or ())) for names in state]
    return renamed[0], renamed[1], None if unknown is None else renamed[2]


def _image(row: Row, column: str, problems: list[Problem]) -> str:
    image = str(row.cells.get(column) or "")
    if not image:
        problems.append(Problem(f"column {shown(column)} names no image", row.where))
    elif ".." in PurePosixPath(image).parts:  # member names of archives are checked when the archive is indexed
        message = f"the image path {image!r} leaves the folder of the table"
        problems.append(Problem(message, row.where, "set data.root to a folder that holds all images"))
        return ""
    return image
