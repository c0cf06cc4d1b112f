"""Read COCO annotations (Lin et al. 2014): any ``instances`` file, of 2014, 2017 or your own.

An image shows a category if one of its annotations has it. What publications treat differently is an option, and the
choice is part of the manifest's source: images without any object (MSRN, ML-GCN and ASL drop them: 82,081 of 82,783
train and 40,137 of 40,504 validation images are left), crowd regions, and the order of columns (by name in MSRN, by
category number elsewhere).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from msrn import registry
from msrn.data.image_paths import folder_of_images, missing_images, outside_images, repeated_images
from msrn.data.manifest import Manifest, Record
from msrn.errors import DataError, Problem, did_you_mean, reason
from msrn.labels.space import LabelSpace

__all__ = ["Options", "read"]

KEPT = frozenset(
    {"images", "annotations", "categories", "id", "file_name", "name", "image_id", "category_id", "iscrowd"}
)
"""Keys that are used. Outlines, nine tenths of a file, are dropped while it is parsed."""


class Options(registry.Options):
    """Options of the reader of COCO."""

    name: str = "coco"
    images: str = Field(
        "", description="folder of the images, below data.root; empty: a usual one that holds some of them"
    )
    empty: Literal["keep", "drop"] = Field("drop", description="images without objects; most publications drop them")
    crowd: Literal["count", "skip"] = Field("count", description="whether a crowd region counts as its category")
    order: Literal["name", "id"] = Field("name", description="columns by category name, or by category number")


def read(options: Options, root: str, split: str, labels: LabelSpace | None) -> Manifest:
    """Read one annotation file.

    Args:
        options: images without objects, crowd regions, order of the columns.
        root: the folder of the data set; empty: that of the annotation file.
        split: the file, or a part of its name: ``train``, ``val2014``, ``minival`` find ``instances_train2014.json``
            and the like in the root or its folder ``annotations``.
        labels: bind to these, by name; None: all categories of the file, used or not.

    Raises:
        DataError: there is no such file, or several; it is not a COCO file; and everything wrong in it, by key: numbers
            that occur twice or are missing, annotations of unknown images or categories, names that occur twice,
            images that do not exist or lie outside the folder. Numbers of annotations are not used, so not checked.
    """
    path = _annotation_file(Path(root), split)
    tree = _parsed(path)
    problems: list[Problem] = []
    categories = _by_id(tree, "categories", "name", str(path), problems)
    files = _by_id(tree, "images", "file_name", str(path), problems)
    names = [categories[number] for number in sorted(categories, key=lambda number: (str(type(number)), number))]
    problems += _category_problems(names, labels, str(path))
    shown, crowd_only = _shown(tree, files, categories, options.crowd == "count", str(path), problems)
    base = Path(root) if root else path.parent
    folder = _image_folder(base, path, options.images, list(files.values()), problems)
    places = {number: f"{path}, image {number}" for number in files}
    problems += repeated_images(list(files.values()), list(places.values()))
    empty = sum(number not in shown for number in files)
    kept = [number for number in files if options.empty == "keep" or number in shown]
    outside = outside_images(folder or base, [(files[number], places[number]) for number in files])
    problems += outside
    if folder:
        faulty = {problem.where for problem in outside}
        problems += missing_images(folder, [(files[n], places[n]) for n in kept if places[n] not in faulty])
    if not kept and not problems:
        problems.append(Problem("no image has an object", str(path), "pass --data.reader.empty keep"))
    if problems or folder is None:
        raise DataError.of(problems, f"the annotations {path.name} are broken")
    space = labels or LabelSpace(names if options.order == "id" else sorted(names))
    records = tuple(Record(files[number], tuple(sorted(shown.get(number, ())))) for number in kept)
    source = [
        f"COCO {path.stem}",
        f"images without objects {'kept' if options.empty == 'keep' else 'dropped'} ({empty:,})",
        f"crowd regions {'count' if options.crowd == 'count' else 'skipped'} ({crowd_only:,} labels from them alone)",
    ]
    return Manifest(records, space, path.stem.removeprefix("instances_"), folder, ", ".join(source))


def _annotation_file(root: Path, split: str) -> Path:
    """The file itself, or the one whose name ends in the split, with or without a year."""
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
        raise DataError(f"the annotations are not JSON: {error.msg}", f"{path}, line {error.lineno}") from error
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"the annotations are not JSON: {error}", str(path)) from error
    except RecursionError:
        raise DataError("the annotations are nested too deeply", str(path), "expected a COCO instances file") from None
    parts = ("images", "categories", "annotations")
    if not isinstance(tree, dict) or not all(isinstance(tree.get(part), list) for part in parts):
        got = ", ".join(part for part in parts if isinstance(tree, dict) and part in tree) or type(tree).__name__
        hint = "pass an instances file; captions and results are other files"
        raise DataError(f"expected lists named {', '.join(parts)}, got {got}", str(path), hint)
    return tree


def _by_id(tree: dict[str, Any], part: str, field: str, where: str, problems: list[Problem]) -> dict[Any, str]:
    """Number to name, of images or categories."""
    named: dict[Any, str] = {}
    for place, entry in enumerate(tree[part]):
        at = f"{where}, {part}[{place}]"
        number, name = (entry.get("id"), entry.get(field)) if isinstance(entry, dict) else (None, None)
        if not _is_number(number) or not isinstance(name, str) or not name.strip():
            problems.append(Problem(f"expected an id and a {field}, got {_short(entry)}", at))
        elif number in named:
            problems.append(Problem(f"id {number!r} occurs twice", at, f"first for {named[number]!r}"))
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
    """Image to the categories it shows; and how many of those only crowd regions show."""
    objects: dict[Any, set[str]] = {}
    crowds: dict[Any, set[str]] = {}
    for place, entry in enumerate(tree["annotations"]):
        at = f"{where}, annotations[{place}]"
        image, category = (entry.get("image_id"), entry.get("category_id")) if isinstance(entry, dict) else (None, None)
        if not _is_number(image) or not _is_number(category):
            problems.append(Problem(f"expected an image_id and a category_id, got {_short(entry)}", at))
            continue
        if image not in files:
            problems.append(Problem(f"no image has the id {image!r}", at, "is this the file of another split?"))
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
    problems = [Problem(f"category {name!r} occurs twice", f"{where}, categories") for name in twice]
    # JSON can hold lone surrogates, which no file and no terminal can.
    halves = [name for name in names if re.search(r"[\ud800-\udfff\r\n]", name)]
    problems += [Problem(f"category {name!r} is not a line of text", f"{where}, categories") for name in halves]
    if labels is not None:
        for name in names:
            if name not in labels:
                hint = did_you_mean(name, labels.names)
                problems.append(Problem(f"category {name!r} is not in the label set", f"{where}, categories", hint))
        # Otherwise the label would count as absent everywhere.
        lacking = [name for name in labels if name not in names]
        problems += [
            Problem(f"label {name!r} of the label set is not a category", f"{where}, categories") for name in lacking
        ]
    return problems


def _image_folder(base: Path, path: Path, images: str, names: list[str], problems: list[Problem]) -> Path | None:
    """The folder that is asked for, or the first usual one that has images of the file."""
    if images:
        return base / images
    split = path.stem.removeprefix("instances_")
    bare = re.sub(r"20\d\d$", "", split)
    usual = [*(f"{above}{name}" for above in ("", "images/") for name in (split, bare)), "images", "data", "."]
    places = list(dict.fromkeys(above / name for above in (base, path.parent) for name in usual))
    folder = folder_of_images(places, names)
    if folder is None and names:
        hint = f"pass --data.reader.images FOLDER; looked in {', '.join(str(place) for place in places)}"
        problems.append(Problem(f"expected images such as {names[0]!r}, found none", str(base), hint))
    return folder


def _is_number(value: Any) -> bool:
    """COCO writes numbers; other programs write texts."""
    return isinstance(value, int | str) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:97] + "..."
