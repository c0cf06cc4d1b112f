"""How are COCO annotations read? (Lin et al. 2014; any ``instances`` file, of 2014, 2017 or of one's own)

A picture shows a category if one of its annotations has it. What the field does differently is a choice here, and
named in the manifest's source: pictures without any object (MSRN, ML-GCN and ASL leave them out: 82,081 of 82,783 train
and 40,137 of 40,504 validate), crowd regions, and the order of columns (by name in MSRN, by category number elsewhere).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from msrn.data.manifest import Manifest, Record, folder_of_images, missing_images, outside_images, repeated_images
from msrn.errors import DataError, Problem, did_you_mean, reason
from msrn.labels.space import LabelSpace

__all__ = ["read_coco"]

KEPT = frozenset(
    {"images", "annotations", "categories", "id", "file_name", "name", "image_id", "category_id", "iscrowd"}
)
"""Keys that are looked at. Outlines, which are nine tenths of a file, are dropped while it is parsed."""


def read_coco(
    root: str | Path,
    split: str,
    labels: LabelSpace | None = None,
    *,
    images: str = "",
    keep_empty: bool = False,
    count_crowd: bool = True,
    by_id: bool = False,
) -> Manifest:
    """Read one annotation file.

    Args:
        root: the data set's folder; empty: that of the annotation file.
        split: the file, or what its name says: ``train``, ``val2014``, ``minival`` find ``instances_train2014.json``
            and the like in the root or its folder ``annotations``.
        labels: bind to these, by name; None: all categories of the file, used or not.
        images: folder of the pictures, below the root; empty: the first usual one that holds some of the pictures.
        keep_empty: keep pictures without objects, with no label.
        count_crowd: a region marked ``iscrowd`` shows its category like any object.
        by_id: columns by category number; else by name.

    Raises:
        DataError: no such file or several, no COCO file, and everything wrong in it, by key: numbers that are given
            twice or to nothing, annotations of unknown pictures or categories, names given twice, pictures that are
            not there or lie outside the folder. Annotations' own numbers say nothing of labels and are not looked at.
    """
    path = _annotation_file(Path(root), split)
    tree = _parsed(path)
    problems: list[Problem] = []
    categories = _by_id(tree, "categories", "name", str(path), problems)
    files = _by_id(tree, "images", "file_name", str(path), problems)
    names = [categories[number] for number in sorted(categories, key=lambda number: (str(type(number)), number))]
    problems += _category_problems(names, labels, str(path))
    shown, crowd_only = _shown(tree, files, categories, count_crowd, str(path), problems)
    base = Path(root) if str(root) else path.parent
    folder = _picture_folder(base, path, images, list(files.values()), problems)
    places = {number: f"{path}, image {number}" for number in files}
    problems += repeated_images(list(files.values()), list(places.values()))
    empty = sum(number not in shown for number in files)
    kept = [number for number in files if keep_empty or number in shown]
    outside = outside_images(folder or base, [(files[number], places[number]) for number in files])
    problems += outside
    if folder:
        faulty = {problem.where for problem in outside}
        problems += missing_images(folder, [(files[n], places[n]) for n in kept if places[n] not in faulty])
    if not kept and not problems:
        problems.append(Problem("no picture has an object", str(path), "pass --data.reader.without_labels keep"))
    if problems or folder is None:
        raise DataError.of(problems, f"the annotations {path.name} are broken")
    space = labels or LabelSpace(names if by_id else sorted(names))
    records = tuple(Record(files[number], tuple(sorted(shown.get(number, ())))) for number in kept)
    source = [f"COCO {path.stem}", f"pictures without objects {'kept' if keep_empty else 'dropped'} ({empty:,})"]
    source.append(f"crowd regions {'count' if count_crowd else 'skipped'} ({crowd_only:,} labels shown by them alone)")
    return Manifest(records, space, path.stem.removeprefix("instances_"), folder, ", ".join(source))


def _annotation_file(root: Path, split: str) -> Path:
    """The file itself, or the one whose name ends in the split's, with or without a year."""
    if split.lower().endswith(".json"):
        for path in (Path(split), root / split):
            if path.is_file():
                return path
    files = [path for folder in (root, root / "annotations") for path in sorted(folder.glob("*.json"))]
    pattern = re.compile(rf"(?:instances_)?{re.escape(split)}(?:20\d\d)?")
    found = [path for path in files if pattern.fullmatch(path.stem)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise DataError(f"split {split!r} could be {names}", str(root), "name the file, or the year: train2014")
    known = ", ".join(path.name for path in files) or "no .json file"
    hint = f"expected instances_{split}.json or the like in {root} or {root / 'annotations'}; found {known}"
    raise DataError(f"there are no annotations of split {split!r}", str(root), hint)


def _lean(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in pairs if key in KEPT}


def _parsed(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_lean)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the annotations: {reason(error)}", str(path)) from error
    except json.JSONDecodeError as error:
        raise DataError(f"the annotations are no JSON: {error.msg}", f"{path}, line {error.lineno}") from error
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"the annotations are no JSON: {error}", str(path)) from error
    except RecursionError:
        raise DataError("the annotations are nested too deeply", str(path), "expected a COCO instances file") from None
    parts = ("images", "categories", "annotations")
    if not isinstance(tree, dict) or not all(isinstance(tree.get(part), list) for part in parts):
        got = ", ".join(part for part in parts if isinstance(tree, dict) and part in tree) or type(tree).__name__
        hint = "captions and results are other files than instances"
        raise DataError(f"expected lists named {', '.join(parts)}, got {got}", str(path), hint)
    return tree


def _by_id(tree: dict[str, Any], part: str, field: str, where: str, problems: list[Problem]) -> dict[Any, str]:
    """Number to name, of pictures or categories."""
    named: dict[Any, str] = {}
    for place, entry in enumerate(tree[part]):
        at = f"{where}, {part}[{place}]"
        number, name = (entry.get("id"), entry.get(field)) if isinstance(entry, dict) else (None, None)
        if not _is_number(number) or not isinstance(name, str) or not name.strip():
            problems.append(Problem(f"expected an id and a {field}, got {_short(entry)}", at))
        elif number in named:
            problems.append(Problem(f"id {number!r} is given twice", at, f"first to {named[number]!r}"))
        else:
            named[number] = name.strip() if field == "name" else name
    if not tree[part]:
        problems.append(Problem(f"the file has no {part}", where))
    return named


def _shown(
    tree: dict[str, Any],
    files: dict[Any, str],
    categories: dict[Any, str],
    count_crowd: bool,
    where: str,
    problems: list[Problem],
) -> tuple[dict[Any, set[str]], int]:
    """Picture to the categories it shows; and how many of those would be shown by crowd regions alone."""
    objects: dict[Any, set[str]] = {}
    crowds: dict[Any, set[str]] = {}
    for place, entry in enumerate(tree["annotations"]):
        at = f"{where}, annotations[{place}]"
        image, category = (entry.get("image_id"), entry.get("category_id")) if isinstance(entry, dict) else (None, None)
        if not _is_number(image) or not _is_number(category):
            problems.append(Problem(f"expected an image_id and a category_id, got {_short(entry)}", at))
            continue
        if image not in files:
            problems.append(Problem(f"no picture has the id {image!r}", at, "is this the file of another split?"))
        elif category not in categories:
            problems.append(Problem(f"no category has the id {category!r}", at))
        else:
            crowd = entry.get("iscrowd", 0)
            if crowd not in (0, 1):
                problems.append(Problem(f"expected iscrowd to be 0 or 1, got {_short(crowd)}", at))
            (crowds if crowd else objects).setdefault(image, set()).add(categories[category])
    alone = 0
    for image, named in crowds.items():
        alone += len(named - objects.get(image, set()))
        if count_crowd:
            objects.setdefault(image, set()).update(named)
    return objects, alone


def _category_problems(names: list[str], labels: LabelSpace | None, where: str) -> list[Problem]:
    twice = sorted({name for name in names if names.count(name) > 1})
    problems = [Problem(f"category {name!r} is given twice", f"{where}, categories") for name in twice]
    # JSON can hold halves of characters, which no file and no terminal can.
    halves = [name for name in names if re.search(r"[\ud800-\udfff\r\n]", name)]
    problems += [Problem(f"category {name!r} is no line of text", f"{where}, categories") for name in halves]
    if labels is not None:
        for name in names:
            if name not in labels:
                hint = did_you_mean(name, labels.names)
                problems.append(Problem(f"category {name!r} is not in the label set", f"{where}, categories", hint))
        lost = [name for name in labels if name not in names]  # never a silent column of "absent"
        problems += [
            Problem(f"label {name!r} of the label set is no category", f"{where}, categories") for name in lost
        ]
    return problems


def _picture_folder(base: Path, path: Path, images: str, names: list[str], problems: list[Problem]) -> Path | None:
    """The folder that was asked for, or the first usual one that has pictures of the file."""
    if images:
        return base / images
    split = path.stem.removeprefix("instances_")
    bare = re.sub(r"20\d\d$", "", split)
    usual = [*(f"{above}{name}" for above in ("", "images/") for name in (split, bare)), "images", "data", "."]
    places = list(dict.fromkeys(above / name for above in (base, path.parent) for name in usual))
    folder = folder_of_images(places, names)
    if folder is None and names:
        hint = f"pass --data.reader.images FOLDER; looked in {', '.join(str(place) for place in places)}"
        problems.append(Problem(f"expected pictures such as {names[0]!r}, found none", str(base), hint))
    return folder


def _is_number(value: Any) -> bool:
    """COCO numbers things; other programs write strings."""
    return isinstance(value, int | str) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:97] + "..."
