"""Read a folder of labelme: ``1.jpg`` and ``1.json``, whose shapes and flags name labels.

A label is present if a shape has it or a flag of its name is true. An image whose file names nothing shows none of the
labels; an image without a file is passed over.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path, PureWindowsPath
from typing import Any

from msrn import registry
from msrn.data.image_files import is_image_name, visible_files
from msrn.data.manifest import Manifest
from msrn.data.readers.locate import split_folder
from msrn.data.rows import Row, Table, manifest_of_rows
from msrn.errors import DataError, Problem, reason
from msrn.files import parse_json
from msrn.labels.space import LabelSpace

__all__ = ["Options", "read"]

_log = logging.getLogger(__name__)


class Options(registry.Options):
    """The reader of labelme has no options."""

    name: str = "labelme"


def read(options: Options, root: str, split: str, labels: LabelSpace | None) -> Manifest:
    """Read a folder, with its subfolders, of images that each have a JSON file of labelme.

    Args:
        options: none.
        root: the folder that holds those of the splits, or empty.
        split: the folder, below ``root`` or as it is named. JSON files of other programs are passed over and counted.
        labels: bind to these; None: the names found, in alphabetical order.

    Raises:
        DataError: there is no such folder, it holds no file of labelme, or everything that is wrong, by file.
    """
    folder = split_folder(root, split)
    rows: list[Row] = []
    problems: list[Problem] = []
    images: set[str] = set()
    others = 0
    for path in visible_files(folder):
        name = os.path.relpath(path, folder).replace(os.sep, "/")
        if is_image_name(path.name):
            images.add(name)
        elif path.suffix.lower() == ".json":
            tree = _parsed(path, problems)
            if tree is None or not isinstance(tree.get("shapes"), list):
                others += 1
            else:
                rows.append(Row(str(path), {"image": _image(tree, path, folder), "labels": _labels(tree)}))
    if problems:
        raise DataError.of(problems, f"files of labelme in {folder.name} are broken")
    if not rows:
        hint = "labelme saves a .json beside each image" if images else "name the folder of the images"
        raise DataError("expected JSON files of labelme, found none", str(folder), hint)
    alone = len(images - {str(row.cells["image"]) for row in rows})
    counts = [(alone, "images without an annotation passed over"), (others, "other JSON files passed over")]
    notes = tuple(f"{count:,} {what}" for count, what in counts if count)
    none = sum(not row.cells["labels"] for row in rows)
    notes += (f"{none:,} of {len(rows):,} images show none of the labels",) if none else ()
    table = Table(
        rows,
        image_column="image",
        label_column="labels",
        columns=["labels"],
        delimiter=None,
        root=folder,
        split=folder.name,
        source=f"{folder.name}, files of labelme",
        where=str(folder),
        notes=("files of labelme", *notes),
    )
    manifest = manifest_of_rows(table, labels)
    _log.info("%s: %s", split, manifest.reading)
    return manifest


def _parsed(path: Path, problems: list[Problem]) -> dict[str, Any] | None:
    """The object of a file, without the copy of the image that it may hold; None if it is none."""
    try:
        tree = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        problems.append(Problem(f"cannot read the annotation: {reason(error)}", str(path)))
        return None
    return tree if isinstance(tree, dict) else None


def _image(tree: dict[str, Any], path: Path, folder: Path) -> str:
    """The image of a file below the folder: the one that it names, or else the one beside it that has its name."""
    named = str(tree.get("imagePath") or "")
    near = path.parent / PureWindowsPath(named).name  # both kinds of slashes; labelme writes those of its system
    beside = [near, *(path.with_suffix(suffix) for suffix in (".jpg", ".png", ".jpeg"))]
    place = path.parent / named.replace("\\", "/")
    inside = os.path.normpath(place).startswith(os.path.join(os.path.normpath(folder), ""))
    found = next((each for each in ([place] if inside else []) + beside if named and each.is_file()), near)
    return os.path.relpath(os.path.normpath(found), folder).replace(os.sep, "/")


def _labels(tree: dict[str, Any]) -> list[Any]:
    flags = tree.get("flags")
    names = [shape.get("label") for shape in tree["shapes"] if isinstance(shape, dict)]
    names += [name for name, chosen in flags.items() if chosen] if isinstance(flags, dict) else []
    # What is no name stays, and is reported as such.
    return list({name if isinstance(name, str) else place: name for place, name in enumerate(names)}.values())
