"""Read a data set of YOLO: images, and text files of class numbers and boxes, with the class names in ``data.yaml``.

Both usual layouts are read (``images/train`` with ``labels/train``, ``train/images`` with ``train/labels``), and text
files beside the images. An image shows a class if one of its boxes or outlines has it; without a text file, or with an
empty one, it shows none.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pydantic import Field

from msrn import registry
from msrn.config import parse_yaml
from msrn.data.image_files import image_files
from msrn.data.manifest import Manifest, Record
from msrn.data.readers.locate import split_folder
from msrn.errors import DataError, Problem, reason
from msrn.labels.space import LabelSpace

__all__ = ["Options", "read"]

_log = logging.getLogger(__name__)

YAML_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
TEXT_FILES = ("classes.txt", "obj.names", "_darknet.labels")
FOLDERS_UP = 3
MAX_DIGITS = 10  # of a class number


class Options(registry.Options):
    """Options of the reader of YOLO."""

    name: str = "yolo"
    names: str = Field("", description="file of class names; empty: data.yaml or classes.txt nearby")


def read(options: Options, root: str, split: str, labels: LabelSpace | None) -> Manifest:
    """Read one split.

    Args:
        options: the file of class names.
        root: the folder of the data set, or empty.
        split: a folder of images, or the folder above ``images``; below ``root`` or as it is named. ``train`` also
            finds ``images/train``.
        labels: bind to these, by name; None: the class names in their order.

    Raises:
        DataError: there is no such folder or no file of class names, and everything wrong in the text files, by line.
    """
    folder = _images_folder(root, split)
    names, source = _class_names(folder, options.names)
    problems: list[Problem] = []
    records: list[Record] = []
    alone = 0
    for path in image_files(folder):
        text = _text_file(path)
        alone += not text.is_file()
        shown = _classes(text, names, problems) if text.is_file() else []
        records.append(Record(os.path.relpath(path, folder).replace(os.sep, "/"), tuple(shown)))
    space = labels or (LabelSpace(names) if not problems else None)
    used = {name for record in records for name in record.positives}
    odd = {name: "of the label set is no class" for name in labels or () if name not in names}
    odd |= {name: "is not in the label set" for name in sorted(used) if labels and name not in labels}
    problems += [Problem(f"class {name!r} {what}", source) for name, what in odd.items()]
    if not records and not problems:
        problems.append(Problem("the folder holds no images", str(folder)))
    if alone == len(records) and not problems:
        hint = "text files are looked for beside the images, and in a folder labels in place of images"
        problems.append(Problem("no image has a text file of boxes", str(folder), hint))
    if problems or space is None:
        raise DataError.of(problems, f"the YOLO data in {folder} are broken")
    none = sum(not record.positives for record in records)
    reading = f"boxes of YOLO, {len(names):,} class names of {source}"
    reading += f"; {none:,} of {len(records):,} images show none of them" if none else ""
    reading += f" ({alone:,} have no text file)" if alone else ""
    _log.info("%s: %s", split, reading)
    name = folder.parent.name if folder.name == "images" else folder.name
    return Manifest(tuple(records), space, name, folder, f"YOLO {name}, names of {Path(source).name}", reading)


def _images_folder(root: str, split: str) -> Path:
    below = Path(root) / "images" / split
    folder = below if below.is_dir() else split_folder(root, split)
    return folder / "images" if (folder / "images").is_dir() else folder


def _text_file(image: Path) -> Path:
    """The text file of an image: in ``labels`` in place of the last ``images`` of its path, or beside it."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        place = len(parts) - 2 - parts[-2::-1].index("images")
        other = Path(*parts[:place], "labels", *parts[place + 1 :]).with_suffix(".txt")
        if other.is_file():
            return other
    return image.with_suffix(".txt")


def _class_names(folder: Path, asked: str) -> tuple[list[str], str]:
    """The class names in the order of their numbers, and the file that holds them."""
    places = [Path(asked)] if asked else []
    for above in [folder, *folder.parents[:FOLDERS_UP]] if not asked else []:
        places += [above / name for name in (*YAML_FILES, *TEXT_FILES)]
        places += [above / "labels" / name for name in TEXT_FILES]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        hint = "pass --data.reader.names FILE: data.yaml, or one name a line from class 0 on"
        raise DataError("expected the class names in data.yaml or classes.txt, found no such file", str(folder), hint)
    if path.suffix.lower() not in {".yaml", ".yml"}:
        return list(LabelSpace.read(path)), str(path)
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8-sig"))
        names = tree["names"]
        ordered = [names[number] for number in range(len(names))] if isinstance(names, dict) else list(names)
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "expected names: [sea, boat], or names with numbers from 0 on"
        raise DataError(f"cannot read the class names: {reason(error)}", str(path), hint) from error
    return [str(name) for name in ordered], str(path)


def _classes(path: Path, names: list[str], problems: list[Problem]) -> list[str]:
    """The classes of a text file, each once, in the order of their numbers."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(f"cannot read the boxes: {reason(error)}", str(path)))
        return []
    found = set()
    for number, line in enumerate(lines, start=1):
        first = line.split(maxsplit=1)[0] if line.strip() else ""
        if not first:
            continue
        place = first.removesuffix(".0")
        if not (place.isascii() and place.isdecimal() and len(place) < MAX_DIGITS and int(place) < len(names)):
            message = f"expected a class number from 0 to {len(names) - 1} and a box, got {line.strip()[:60]!r}"
            problems.append(Problem(message, f"{path}, line {number}", "tags are read by --data.reader textfiles"))
        else:
            found.add(int(place))
    return [names[number] for number in sorted(found)]
