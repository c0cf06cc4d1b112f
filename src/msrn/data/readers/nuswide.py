"""Read NUS-WIDE (Chua et al. 2009; 81 concepts) in the layouts that are in use, and recognise its splits by count.

Three layouts:

- **official**: ``Groundtruth/TrainTestLabels/Labels_<concept>_Train.txt`` with a 0 or 1 a line, in the order of the
  lines of ``ImageList/TrainImagelist.txt``; images below ``Flickr``;
- **csv** of ASL and MSRN: columns ``filepath``, ``label`` (a Python list of names) and ``split_name``;
- **lists**: a line holds a path, then after a comma or spaces the concepts: by number, by name, or as 81 of 0 and 1.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from msrn import registry
from msrn.data.cells import python_literal
from msrn.data.image_names import resolve_images
from msrn.data.image_paths import folder_of_images, outside_images, repeated_images
from msrn.data.manifest import Manifest, Record
from msrn.data.readers.locate import required_root
from msrn.errors import MAX_HINTS, DataError, Problem, did_you_mean, reason
from msrn.labels.space import LabelSpace

__all__ = ["CONCEPTS", "PUBLISHED_ORDER", "SPLITS", "Options", "read"]

_log = logging.getLogger(__name__)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CONCEPTS = _words("""
    airport animal beach bear birds boats book bridge buildings cars castle cat cityscape clouds computer coral cow
    dancing dog earthquake elk fire fish flags flowers food fox frost garden glacier grass harbor horses house lake leaf
    map military moon mountain nighttime ocean person plane plants police protest railroad rainbow reflection road rocks
    running sand sign sky snow soccer sports statue street sun sunset surf swimmers tattoo temple tiger tower town toy
    train tree valley vehicle water waterfall wedding whales window zebra
""")
"""The 81 concepts in the order of ``Concepts81.txt``, which is alphabetical."""

PUBLISHED_ORDER = _words("""
    clouds sky person street window tattoo wedding animal cat buildings tree airport plane water grass cars road snow
    sunset railroad train flowers plants house military horses nighttime lake rocks waterfall sun vehicle sports
    reflection temple statue ocean town beach tower toy book bridge fire mountain rainbow garden police coral fox sign
    dog cityscape sand dancing leaf tiger moon birds food cow valley fish harbor bear castle boats running glacier
    swimmers elk frost protest soccer flags zebra surf whales computer earthquake map
""")
"""The columns of MSRN's released checkpoint."""

SPLITS = {
    161_789: "the official train split",
    107_859: "the official test split",
    125_449: "the official train split without unlabelled images",
    83_898: "the official test split without unlabelled images",
    119_103: "ASL's train split",
    50_720: "ASL's test split",
    150_000: "the train split of 150,000 / 60,260",
    60_260: "the test split of 150,000 / 60,260",
}
"""Number of images to the split that has so many. Results on different splits cannot be compared."""


class Options(registry.Options):
    """Options of the reader of NUS-WIDE."""

    name: str = "nuswide"
    images: registry.PathText = Field(
        "", description="folder of the images, below data.root; empty: Flickr, images or data.root itself"
    )
    empty: Literal["keep", "drop"] = Field("drop", description="images without concepts; the common splits drop them")
    order: Literal["name", "published"] = Field(
        "name", description="columns by concept name; published: as in MSRN's released checkpoint"
    )


def read(options: Options, root: str, split: str, labels: LabelSpace | None) -> Manifest:
    """Read one split in whichever of the three layouts it has.

    Args:
        options: images without concepts, order of the columns.
        root: the folder of the data set.
        split: a list (``.txt``); or ``train``, ``test`` or ``val`` of the only ``.csv`` in the root, or else of the
            official files. Of a ``.csv``, ``test`` and ``val`` are the same.
        labels: bind to these, by name; None: the 81 concepts. Numbers in lists count in the order of these labels;
            if None, in that of ``Concepts81.txt``, whatever the order of the columns.

    Returns:
        A manifest whose ``source`` names the split, its number of images and the start of its SHA-256 digest.

    Raises:
        DataError: there is no such split, and everything wrong in its files, by file and line; images that do not
            exist, or lie outside the folder.
    """
    base = required_root(root, options.name)
    space = labels or LabelSpace(PUBLISHED_ORDER if options.order == "published" else CONCEPTS)
    problems: list[Problem] = []
    rows, source = _rows(base, split, space, labels, problems)
    problems += [Problem("expected the path of an image, got none", row.where) for row in rows if not row.image]
    empty = sum(not row.labels for row in rows)
    rows = rows if options.empty == "keep" else [row for row in rows if row.labels]
    named = [(row.image, row.where) for row in rows]
    problems += repeated_images([image for image, _ in named], [where for _, where in named])
    reading = ""
    usual = [base / name for name in ("Flickr", "images", ".")]
    folder = base / options.images if options.images else folder_of_images(usual, [image for image, _ in named])
    outside = outside_images(folder or base, named)
    problems += outside
    if folder:
        faulty = {problem.where for problem in outside}
        found = resolve_images(folder, [("" if where in faulty else image, where) for image, where in named])
        problems += found.problems
        rows = [replace(row, image=name or row.image) for row, name in zip(rows, found.names, strict=True)]
        reading = found.note
    elif named:
        hint = f"pass --data.reader.images FOLDER; looked in {', '.join(str(place) for place in usual)}"
        problems.append(Problem(f"expected images such as {named[0][0]!r}, found none", str(base), hint))
    if not rows and not problems:
        hint = "pass --data.reader.empty keep" if empty else ""
        problems.append(Problem("no image has a concept" if empty else "the split holds no images", source, hint))
    if problems or folder is None:
        raise DataError.of(problems, f"NUS-WIDE split {split} is broken")
    records = tuple(Record(row.image, row.labels) for row in rows)
    name = Path(split).stem
    if labels is None:
        concepts = "labels are the 81 concepts of NUS-WIDE (--data.labels names others)"
        reading = "; ".join(filter(None, [concepts, reading]))
    manifest = Manifest(records, space, name, folder, reading=reading)
    if reading:
        _log.info("%s: %s", split, reading)
    known = SPLITS.get(len(records), "none of the common splits")
    kept = "kept" if options.empty == "keep" else "dropped"
    source = f"NUS-WIDE {source}, images without concepts {kept} ({empty:,})"
    return replace(manifest, source=f"{source}: {len(records):,} images, {known}, digest {manifest.digest[:12]}")


@dataclass(frozen=True, slots=True)
class _Row:
    where: str
    image: str
    labels: tuple[str, ...]


def _rows(
    root: Path, split: str, space: LabelSpace, labels: LabelSpace | None, problems: list[Problem]
) -> tuple[list[_Row], str]:
    """The images of the split, and a description of what was read."""
    for path in (Path(split), root / split):
        if path.is_file() and path.suffix.lower() == ".csv":
            raise DataError(
                "a csv holds several splits",
                str(path),
                "pass train, test or val as the split, and its folder as data.root",
            )
        if path.is_file():
            return _list(path, labels or LabelSpace(CONCEPTS), problems), f"list {path.name}"
    tables = sorted(root.glob("*.csv"))
    if len(tables) == 1:
        return _table(tables[0], split, space, problems), f"{tables[0].name}, split {split}"
    if tables:
        raise DataError(f"expected one csv, found {', '.join(path.name for path in tables)}", str(root))
    lists = root / "ImageList"
    if lists.is_dir():
        return _official(root, split, space, problems), f"official files, split {split}"
    hint = "expected ImageList and Groundtruth, one .csv, or the name of a list"
    raise DataError(f"there is no NUS-WIDE split {split!r}", str(root), hint)


def _official(root: Path, split: str, space: LabelSpace, problems: list[Problem]) -> list[_Row]:
    part = split.capitalize()
    image_list = root / "ImageList" / f"{part}Imagelist.txt"
    if part not in {"Train", "Test"} or not image_list.is_file():
        raise DataError(f"expected split train or test, got {split!r}", str(image_list), "is the file there?")
    images = [
        (f"{image_list}, line {number}", line.strip().replace("\\", "/"))
        for number, line in enumerate(_lines(image_list, problems), start=1)
    ]
    shown: list[list[str]] = [[] for _ in images]
    for concept in space:
        path = root / "Groundtruth" / "TrainTestLabels" / f"Labels_{concept}_{part}.txt"
        if not path.is_file():
            problems.append(Problem(f"expected the labels of {concept!r}, found no file", str(path)))
            continue
        values = _lines(path, problems)
        if not set(values) <= {"0", "1"}:
            values = [line.strip() for line in values]
        if len(values) != len(images):
            message = f"expected {len(images):,} lines, one per image of {image_list.name}, got {len(values):,}"
            problems.append(Problem(message, str(path)))
            continue
        for number, value in enumerate(values):
            if value == "1":
                shown[number].append(concept)
            elif value != "0":
                problems.append(Problem(f"expected 0 or 1, got {value!r}", f"{path}, line {number + 1}"))
    return [_Row(where, image, tuple(found)) for (where, image), found in zip(images, shown, strict=True)]


def _table(path: Path, split: str, space: LabelSpace, problems: list[Problem]) -> list[_Row]:
    wanted = {"val", "test"} if split in {"val", "test"} else {split}
    try:
        reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), strict=True)
        lines = [(f"{path}, line {reader.line_num}", cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the csv: {reason(error)}", str(path), "expected text in UTF-8") from error
    except csv.Error as error:
        raise DataError(f"expected CSV: {error}", str(path), "is a quotation mark left open?") from error
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    if not {"filepath", "label", "split_name"} <= set(header):
        got = ", ".join(header) or "none"
        raise DataError(f"expected columns filepath, label and split_name, got {got}", f"{path}, line 1")
    rows, others = [], set[str]()
    for where, values in lines[1:]:
        if len(values) != len(header):
            hint = "quote cells that hold the separator"
            problems.append(Problem(f"expected {len(header)} cells, got {len(values)}", where, hint))
            continue
        cells = dict(zip(header, values, strict=True))
        name = cells["split_name"].strip()
        if name not in wanted:
            others.add(name)
            if name not in {"train", "val", "test"}:
                message = f"expected split_name train or val, got {name!r}"
                problems.append(Problem(message, where, did_you_mean(name, ["train", "val", "test"])))
            continue
        shown = _known(_names(cells["label"], where, problems), space, where, problems)
        rows.append(_Row(where, cells["filepath"].strip().replace("\\", "/"), shown))
    if not rows and not problems:
        hint = f"splits found: {', '.join(sorted(others)) or 'none'}"
        raise DataError(f"there is no split {split!r}", str(path), hint)
    # A concept that no image shows is a column of absent labels: right for those of NUS-WIDE, wrong for other names.
    named = {name for row in rows for name in row.labels}
    for name in space:
        if name not in named and name not in CONCEPTS:
            hint = did_you_mean(name, CONCEPTS)
            problems.append(Problem(f"label {name!r} of the label set is named nowhere", str(path), hint))
    return rows


def _names(cell: str, where: str, problems: list[Problem]) -> list[str]:
    """``['sky', 'clouds']`` as a list; no code in it is run."""
    names = python_literal(cell)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problems.append(Problem(f"expected a list such as ['sky', 'clouds'], got {cell[:80]!r}", where))
        return []
    return names


def _list(path: Path, space: LabelSpace, problems: list[Problem]) -> list[_Row]:
    rows = []
    by_number = {str(number): name for number, name in enumerate(space)}
    for number, line in enumerate(_lines(path, problems), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        parts = line.strip().split("," if "," in line else None, 1)
        fields = parts[1].replace(",", " ").split() if len(parts) > 1 else []
        names: Iterable[str] = fields
        if len(fields) == len(space) > 2 and set(fields) <= {"0", "1"}:
            names = [name for name, value in zip(space, fields, strict=True) if value == "1"]
        elif all(field.isdecimal() for field in fields):
            fields = [field.lstrip("0") or "0" for field in fields]
            names = [by_number[field] for field in fields if field in by_number]
            beyond = [field[:20] for field in fields if field not in by_number]
            known = f"expected numbers from 0 to {len(space) - 1}, got"
            problems += [Problem(f"{known} {field}", where) for field in beyond]
            if len(set(fields)) < len(fields):  # as in a line of zeros and ones that is too short
                message = (
                    f"expected different numbers, or {len(space)} of 0 and 1, got {len(fields)}, some of them twice"
                )
                problems.append(Problem(message, where))
        rows.append(_Row(where, parts[0].strip().replace("\\", "/"), _known(names, space, where, problems)))
    return rows


def _known(names: Iterable[str], space: LabelSpace, where: str, problems: list[Problem]) -> tuple[str, ...]:
    known = []
    for name in dict.fromkeys(names):
        if name in space:
            known.append(name)
        else:
            hint = did_you_mean(name, space.names) if len(problems) < MAX_HINTS else ""
            problems.append(Problem(f"concept {name!r} is not in the label set", where, hint))
    return tuple(known)


def _lines(path: Path, problems: list[Problem]) -> list[str]:
    """The lines of a file, without empty ones at its end."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(f"cannot read the file: {reason(error)}", str(path), "expected text in UTF-8"))
        return []
    while lines and not lines[-1].strip():
        lines.pop()
    return lines
