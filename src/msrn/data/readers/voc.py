"""Read a VOC-layout folder into a Manifest (Everingham et al. 2010; VOCdevkit).

Class lists hold one line per image, ``000012  1``: 1 present, -1 absent, 0 present but marked difficult. Where a split
has no class lists, its labels are the objects of the annotations.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from msrn import registry
from msrn.data.image_files import is_image_name
from msrn.data.image_names import resolve_images
from msrn.data.image_paths import outside_images
from msrn.data.looks import look_of_file
from msrn.data.manifest import Manifest, Record
from msrn.data.readers.locate import required_root
from msrn.data.readers.voc_xml import flat_folder, images_without_annotation, read_objects
from msrn.errors import MAX_HINTS, DataError, Problem, did_you_mean, reason
from msrn.labels.space import LabelSpace, same_names

__all__ = ["Options", "read"]

_log = logging.getLogger(__name__)

VALUES = {"1": "positive", "-1": "negative", "0": "difficult"}


class Options(registry.Options):
    """The reader of VOC folders has no options."""

    name: str = "voc"


def read(options: Options, root: str, split: str, labels: LabelSpace | None) -> Manifest:
    """Read one split.

    Args:
        options: none.
        root: the folder ``VOC2007`` (or 2012 ...), ``VOCdevkit``, or the one that holds it; or, for annotations beside
            the images (labelImg, Roboflow), the folder that holds that of the split, or empty.
        split: ``train``, ``val``, ``trainval`` or ``test``, or any list in ``ImageSets/Main``. Without any list there,
            all annotations. Or a folder of images with annotations beside them.
        labels: bind to these; None: the classes found, in alphabetical order.

    Returns:
        Records that keep difficult objects apart. With annotations, a label is difficult in an image if all its objects
        there are.

    Raises:
        DataError: there is no such folder or split, and everything wrong in its lists, by file and line; images that do
            not exist, or lie outside ``JPEGImages``.
    """
    flat = flat_folder(root, split)
    if Path(split).is_file() and (look := look_of_file(split)):
        raise DataError(f"expected the name of a split, got a file that looks like {look.what}", split, look.hint)
    folder = flat or _voc_folder(required_root(root, options.name))
    lists = folder / "ImageSets" / "Main"
    images_in = "" if flat else "JPEGImages/"
    suffix = f"_{split}.txt"
    # Lists of one split only: "train_val.txt" is the class train in val, and "trainval.txt" is not a class.
    found = {path.name.removesuffix(suffix): path for path in sorted(lists.glob(f"*{suffix}"))}
    notes: list[str] = []
    if found:
        names, states, problems = _class_lists(found, labels)
    else:
        files = sorted((folder if flat else folder / "Annotations").glob("*.xml"))
        names, states, problems = _annotations(files, folder, None if flat else lists / f"{split}.txt", labels, notes)
    if same := same_names(names, labels):
        for _, *named in states.values():
            for listed in named:
                listed[:] = dict.fromkeys(same.get(name, name) for name in listed)
        names = sorted({same.get(name, name) for name in names})
    images = [(f"{image}.jpg", where) for image, (where, _, _) in states.items()]
    outside = outside_images(folder / images_in, images)
    faulty = {problem.where for problem in outside}
    problems += outside
    files_of = resolve_images(folder / images_in, [("" if w in faulty else image, w) for image, w in images])
    problems += files_of.problems
    if not states and not problems:
        problems.append(Problem("the split holds no images", f"{lists}, split {split}"))
    if problems:
        raise DataError.of(problems, f"VOC split {split} is broken")
    records = tuple(
        Record(f"{images_in}{name}", tuple(positives), tuple(difficult))
        for name, (_, positives, difficult) in zip(files_of.names, states.values(), strict=True)
    )
    difficult = sum(len(record.difficult) for record in records)
    how = "class lists" if found else "annotations beside the images" if flat else "annotations"
    source = f"{folder.name} {split}, {how}, difficult labels: {difficult:,}"
    if flat and (alone := images_without_annotation(folder, states)):
        notes.append(f"{alone:,} images without an annotation are passed over")
    reading = "; ".join(note for note in (how, *notes, files_of.note) if note)
    _log.info("%s: %s", split, reading)
    name = folder.name if flat else split
    return Manifest(records, labels or LabelSpace(names), name, folder, source, reading)


States = dict[str, tuple[str, list[str], list[str]]]
"""Image id to (where it is named, positive labels, difficult labels)."""


def _voc_folder(root: Path) -> Path:
    candidates = [root, *sorted(root.glob("VOC2*")), *sorted(root.glob("VOCdevkit/VOC2*"))]
    folders = [folder for folder in candidates if (folder / "JPEGImages").is_dir()]
    if len(folders) == 1:
        return folders[0]
    if folders:
        names = ", ".join(str(folder) for folder in folders)
        raise DataError(f"expected one VOC year, found {names}", str(root), "pass the folder of one year")
    raise DataError(
        "expected a VOC folder with JPEGImages and ImageSets/Main",
        str(root),
        "pass VOCdevkit, or the folder of one year such as VOCdevkit/VOC2007",
    )


def _class_lists(paths: dict[str, Path], labels: LabelSpace | None) -> tuple[list[str], States, list[Problem]]:
    problems = _label_problems(list(paths), labels, {name: str(path) for name, path in paths.items()})
    folder = next(iter(paths.values())).parent
    # Otherwise the label would count as absent everywhere.
    lacking = [name for name in labels or () if name not in paths]
    problems += [Problem(f"label {name!r} of the label set has no list", str(folder)) for name in lacking]
    states: States = {}
    reference: Path | None = None
    for name, path in paths.items():
        seen: set[str] = set()
        for number, line in enumerate(_lines(path, problems), start=1):
            # Ids may hold blanks, as in IMG (1); the last field is the state.
            fields, where = line.rsplit(maxsplit=1), f"{path}, line {number}"
            if not fields:
                continue
            if len(fields) != 2 or fields[1] not in VALUES:
                hint = "a line holds an image id and 1, -1 or 0 (difficult)"
                problems.append(Problem(f"expected an id and 1, -1 or 0, got {line.strip()!r}", where, hint))
            image, state = fields[0].strip(), VALUES.get(fields[-1])
            if image in seen:
                problems.append(Problem(f"image {image} is listed twice", where, "remove one of the lines"))
                continue
            seen.add(image)
            if reference is not None and image not in states:
                problems.append(Problem(f"image {image} is in this list but not in {reference.name}", where))
                continue
            _, positives, difficult = states.setdefault(image, (where, [], []))
            if state == "positive":
                positives.append(name)
            elif state == "difficult":
                difficult.append(name)
        absent = [image for image in states if image not in seen]
        problems += [Problem(f"image {image} is missing from this list", str(path)) for image in absent]
        reference = reference or path
    return list(paths), states, problems


def _annotations(
    files: list[Path], folder: Path, list_path: Path | None, labels: LabelSpace | None, notes: list[str]
) -> tuple[list[str], States, list[Problem]]:
    problems: list[Problem] = []
    if list_path is not None and list_path.is_file():
        lines = [(line, f"{list_path}, line {n}") for n, line in enumerate(_lines(list_path, problems), start=1)]
    elif list_path is None or (files and not any(list_path.parent.glob("*.txt"))):
        lines = [(path.stem, str(path)) for path in files]
    else:
        known = sorted({path.stem.rsplit("_", 1)[-1] for path in list_path.parent.glob("*.txt")})
        hint = did_you_mean(list_path.stem, known) or f"splits found: {', '.join(known) or 'none'}"
        raise DataError(f"there is no split {list_path.stem!r}", str(list_path.parent), hint)
    annotations = {path.stem: path for path in files}
    states: States = {}
    named: dict[str, str] = {}
    unspecified = 0
    for line, where in lines:
        image = _id_of(line.strip(), annotations)
        if not image:
            continue
        if image in states:
            problems.append(Problem(f"image {image} is listed twice", where, "remove one of the lines"))
            continue
        if "/" in image or "\\" in image:
            problems.append(Problem(f"expected an image id, got {image!r}", where))
            continue
        path = annotations.get(image, folder / "Annotations" / f"{image}.xml")
        objects = read_objects(path, problems)
        unspecified += sum(each.unspecified for each in objects)
        positives = sorted({each.name for each in objects if not each.difficult})
        only_difficult = sorted({each.name for each in objects} - set(positives))
        states[image] = (where, positives, only_difficult)
        named |= {each.name: str(path) for each in objects}
    if unspecified:
        notes.append(f"{unspecified:,} objects whose difficult is unspecified count as not difficult")
    problems += _label_problems(sorted(named), labels, named)
    return sorted(named), states, problems


def _id_of(line: str, annotations: Mapping[str, Path]) -> str:
    """The image id of a line: as it is, or without the folder JPEGImages and without an image suffix."""
    if line in annotations:
        return line
    name = line.replace("\\", "/").removeprefix("./").removeprefix("JPEGImages/")
    stem = os.path.splitext(name)[0] if is_image_name(name) else name
    return stem if stem in annotations else line


def _lines(path: Path, problems: list[Problem]) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(f"cannot read the list: {reason(error)}", str(path), "expected text in UTF-8"))
        return []


def _label_problems(names: list[str], labels: LabelSpace | None, where: dict[str, str]) -> list[Problem]:
    """Problems for classes that are not in the label set."""
    if labels is None:
        return []
    same = same_names(names, labels)
    strange = [name for name in names if same.get(name, name) not in labels]
    hints = {name: did_you_mean(name, labels.names) for name in strange[:MAX_HINTS]}
    return [Problem(f"class {name!r} is not in the label set", where[name], hints.get(name, "")) for name in strange]
