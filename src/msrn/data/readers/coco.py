"""Read COCO annotations (Lin et al. 2014): any ``instances`` file, of 2014, 2017 or your own.

An image shows a category if one of its annotations has it. What publications treat differently is an option, and the
choice is part of the manifest's source: images without any object (MSRN, ML-GCN and ASL drop them: 82,081 of 82,783
train and 40,137 of 40,504 validation images are left), crowd regions, and the order of columns (by name in MSRN, by
category number elsewhere).
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from msrn import registry
from msrn.data.image_names import resolve_images
from msrn.data.image_paths import folder_of_images, folders_near, missing_images, outside_images, repeated_images
from msrn.data.looks import look_of_file
from msrn.data.manifest import Manifest, Record, require_entries
from msrn.data.readers.coco_variants import Ids, join_images, number_of, objects_of, unverified, without_root
from msrn.errors import MAX_HINTS, DataError, Problem, did_you_mean, reason
from msrn.files import parse_json
from msrn.labels.space import LabelSpace, same_names

__all__ = ["Options", "read"]

_log = logging.getLogger(__name__)

KEPT = frozenset(
    {"images", "annotations", "categories", "id", "file_name", "coco_url", "name", "supercategory", "image_id"}
    | {"category_id", "iscrowd", "not_exhaustive_category_ids", "neg_category_ids", "segments_info"}
)
"""Keys that are used. Outlines, nine tenths of a file, are dropped while it is parsed."""

CROWD = {"none": False, "": False, "0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
"""Values of iscrowd that programs write."""


class Options(registry.Options):
    """Options of the reader of COCO."""

    name: str = "coco"
    images: registry.PathText = Field(
        "", description="folder of the images, below data.root; empty: a usual one that holds some of them"
    )
    empty: Literal["keep", "drop"] = Field("drop", description="images without objects; most publications drop them")
    crowd: Literal["count", "skip"] = Field("count", description="whether a crowd region counts as its category")
    repeated: Literal["refuse", "join"] = Field("refuse", description="one image under several ids: join its objects")
    unverified: Literal["unknown", "absent"] = Field(
        "unknown", description="categories that LVIS did not look for in an image"
    )
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
    where = str(path)
    problems: list[Problem] = []
    notes: list[str] = []
    categories = _by_id(tree, "categories", "name", where, problems)
    if labels is not None and (same := same_names(categories.values(), labels)):
        categories = {number: same.get(name, name) for number, name in categories.items()}
    files = _by_id(tree, "images", "file_name", where, problems)
    shown, crowd_only = _shown(tree, files, categories, options.crowd == "count", where, problems, notes)
    notes += without_root(tree, categories, labels)
    names = [categories[number] for number in sorted(categories, key=lambda number: (str(type(number)), number))]
    problems += _category_problems(names, labels, where)
    if options.repeated == "join":
        notes += join_images(files, shown)
    base = Path(root) if root else path.parent
    folder = _image_folder(base, path, options.images, list(files.values()), problems)
    places = {number: f"{path}, image {number}" for number in files}
    join = "to join the objects of all its ids, pass --data.reader.repeated join"
    problems += repeated_images(list(files.values()), list(places.values()), hint=join)
    empty = sum(number not in shown for number in files)
    kept = [number for number in files if options.empty == "keep" or number in shown]
    outside = outside_images(folder or base, [(files[number], places[number]) for number in files])
    problems += outside
    if folder:
        faulty = {problem.where for problem in outside}
        images = resolve_images(folder, [("" if places[n] in faulty else files[n], places[n]) for n in kept])
        problems += images.problems
        notes.append(images.note)
        files |= {n: name for n, name in zip(kept, images.names, strict=True) if name}
    if not kept and not problems:
        problems.append(Problem("no image has an object", where, "pass --data.reader.empty keep"))
    if problems or folder is None:
        raise DataError.of(problems, f"the annotations {path.name} are broken")
    space = labels or LabelSpace(names if options.order == "id" else sorted(names))
    require_entries(len(files), len(space), where)
    unknown = unverified(tree, files, categories, shown, space) if options.unverified == "unknown" else {}
    if unknown:
        notes.append("categories that LVIS did not look for in an image are unknown (--data.reader.unverified absent)")
    records = tuple(
        Record(files[number], tuple(sorted(shown.get(number, ()))), (), unknown.get(number, ())) for number in kept
    )
    source = [
        f"COCO {path.stem}",
        f"images without objects {'kept' if options.empty == 'keep' else 'dropped'} ({empty:,})",
        f"crowd regions {'count' if options.crowd == 'count' else 'skipped'} ({crowd_only:,} labels from them alone)",
    ]
    if empty and options.empty == "drop":
        notes.append(f"{empty:,} of {len(files):,} images have no object and are dropped (--data.reader.empty keep)")
    reading = "; ".join([f"{len(names):,} categor{'ies' if len(names) > 1 else 'y'}", *filter(None, notes)])
    _log.info("%s: %s", split, reading)
    return Manifest(records, space, path.stem.removeprefix("instances_"), folder, ", ".join(source), reading)


def _annotation_file(root: Path, split: str) -> Path:
    """The file itself, or the one whose name ends in the split, with or without a year."""
    if split.lower().endswith((".json", ".jsonl", ".ndjson", ".manifest")):
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
        tree = parse_json(path.read_bytes(), pairs=_lean)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the annotations: {reason(error)}", str(path)) from error
    except json.JSONDecodeError as error:
        raise DataError(f"the annotations are not JSON: {error.msg}", f"{path}, line {error.lineno}") from error
    except ValueError as error:
        raise DataError(f"the annotations are not JSON: {error}", str(path)) from error
    parts = ("images", "categories", "annotations")
    if not isinstance(tree, dict) or not all(isinstance(tree.get(part), list) for part in parts):
        got = ", ".join(part for part in parts if isinstance(tree, dict) and part in tree) or type(tree).__name__
        hint = "pass an instances file; captions and results are other files"
        if isinstance(tree, dict) and {"images", "categories"} <= tree.keys():
            hint = "it only lists images, so there is nothing to train or evaluate on: pass an instances file"
        elif (look := look_of_file(path)) and look.reader != "coco":
            hint = f"it looks like {look.what}: {look.hint}"
        raise DataError(f"expected lists named {', '.join(parts)}, got {got}", str(path), hint)
    return tree


def _by_id(tree: dict[str, Any], part: str, field: str, where: str, problems: list[Problem]) -> dict[Any, str]:
    """Number to name, of images or categories."""
    named: dict[Any, str] = {}
    for place, entry in enumerate(tree[part]):
        at = f"{where}, {part}[{place}]"
        number, name = (number_of(entry.get("id")), entry.get(field)) if isinstance(entry, dict) else (None, None)
        if field == "file_name" and name is None and isinstance(entry, dict) and isinstance(entry.get("coco_url"), str):
            name = "/".join(entry["coco_url"].split("/")[-2:])  # LVIS: http://images.cocodataset.org/train2017/1.jpg
        if number is None or not isinstance(name, str) or not name.strip():
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
    notes: list[str],
) -> tuple[dict[Any, set[str]], int]:
    """Image to the categories it shows; and how many of those only crowd regions show."""
    objects: dict[Any, set[str]] = {}
    crowds: dict[Any, set[str]] = {}
    ids = {"image": Ids(files), "category": Ids(categories)}
    for place, entry in objects_of(tree["annotations"]):
        at = f"{where}, annotations[{place}]"
        image, category = (entry.get("image_id"), entry.get("category_id")) if isinstance(entry, dict) else (None, None)
        if number_of(image) is None or number_of(category) is None:
            problems.append(Problem(f"expected an image_id and a category_id, got {_short(entry)}", at))
            continue
        image, category = ids["image"].find(image), ids["category"].find(category)
        if image is None:
            message = f"no image has the id {entry['image_id']!r}"
            problems.append(Problem(message, at, "is this the file of another split?"))
        elif category is None:
            problems.append(Problem(f"no category has the id {entry['category_id']!r}", at))
        else:
            crowd = CROWD.get(str(entry.get("iscrowd")).lower())
            if crowd is None:
                problems.append(Problem(f"expected iscrowd to be 0 or 1, got {_short(entry['iscrowd'])}", at))
            (crowds if crowd else objects).setdefault(image, set()).add(categories[category])
    for what, found in ids.items():
        if found.converted:
            notes.append(f"{found.converted:,} {what} ids are texts in one place and numbers in the other")
    alone = 0
    for image, named in crowds.items():
        alone += len(named - objects.get(image, set()))
        if count_crowd:
            objects.setdefault(image, set()).update(named)
    return objects, alone


def _category_problems(names: list[str], labels: LabelSpace | None, where: str) -> list[Problem]:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    problems = [Problem(f"category {name!r} occurs twice", f"{where}, categories") for name in twice]
    # JSON can hold lone surrogates, which no file and no terminal can.
    halves = [name for name in names if re.search(r"[\ud800-\udfff\r\n]", name)]
    problems += [Problem(f"category {name!r} is not a line of text", f"{where}, categories") for name in halves]
    if labels is not None:
        for name in names:
            if name not in labels:
                hint = did_you_mean(name, labels.names) if len(problems) < MAX_HINTS else ""
                problems.append(Problem(f"category {name!r} is not in the label set", f"{where}, categories", hint))
        # Otherwise the label would count as absent everywhere.
        known = set(names)
        lacking = [name for name in labels if name not in known]
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
    some = [(name, "") for name in names[:100]]
    if folder is None and names:  # no image has its exact name in any of them
        folder = next((place for place in places if place.is_dir() and not resolve_images(place, some).problems), None)
    if folder is None and names:
        near = next((place for place in folders_near(base) if not missing_images(place, some)), None)
        found = shlex.quote(os.path.relpath(near, base)) if near else "FOLDER"
        hint = f"pass --data.reader.images {found}; looked in {', '.join(str(place) for place in places)}"
        problems.append(Problem(f"expected images such as {names[0]!r}, found none", str(base), hint))
    return folder


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:97] + "..."
