"""What COCO files of other programs do differently: ids as texts, root categories, images twice, unverified labels."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msrn.labels.space import LabelSpace

__all__ = ["Ids", "join_images", "number_of", "objects_of", "unverified", "without_root"]


def number_of(value: Any) -> int | str | None:
    """An id: a whole number, or a text that is not blank; None for anything else. 1.0 is 1."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int | str) else None


def objects_of(annotations: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """The place and the object of each annotation; of a panoptic file, of each of its segments."""
    for place, entry in enumerate(annotations):
        segments = entry.get("segments_info") if isinstance(entry, dict) else None
        if isinstance(segments, list) and "category_id" not in entry:
            for each in segments:
                yield place, {**each, "image_id": entry.get("image_id")} if isinstance(each, dict) else each
        else:
            yield place, entry


class Ids:
    """The ids of images or categories, found also where one place writes texts and the other numbers.

    ``converted`` counts such ids. Nothing is converted if two ids would become one.
    """

    def __init__(self, known: Iterable[int | str]) -> None:
        self._exact = set(known)
        self._plain: dict[int | str, list[int | str]] = {}
        for each in self._exact:
            self._plain.setdefault(_plain(each), []).append(each)
        self.converted = 0

    def find(self, value: Any) -> int | str | None:
        """The known id of a value; None if there is none."""
        number = number_of(value)
        if number is None or number in self._exact:
            return number
        near = self._plain.get(_plain(number), [])
        if len(near) != 1:
            return None
        self.converted += 1
        return near[0]


def _plain(number: int | str) -> int | str:
    text = str(number).strip().removesuffix(".0")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else text


def without_root(tree: Mapping[str, Any], categories: dict[Any, str], labels: LabelSpace | None) -> list[str]:
    """Leave out the category that Roboflow adds for the whole project, and return a note on it.

    It has no annotation, and its name is the supercategory of all other categories. A label set that is passed and
    names it keeps it, unless another category has its name.
    """
    if len(categories) < 2:
        return []
    ids = Ids(categories)
    used = {ids.find(each.get("category_id")) for _, each in objects_of(tree["annotations"]) if isinstance(each, dict)}
    above = {
        number_of(entry.get("id")): entry.get("supercategory")
        for entry in tree["categories"]
        if isinstance(entry, dict)
    }
    count_below = Counter(top for number in categories if isinstance(top := above.get(number), str))
    count_named = Counter(categories.values())
    for number, name in list(categories.items()):
        if number in used or above.get(number) == name or count_below[name] < len(categories) - 1:
            continue
        if labels is not None and name in labels and count_named[name] == 1:
            continue
        del categories[number]
        return [f"category {name!r} left out: it has no object and stands above all others (Roboflow's project)"]
    return []


def join_images(files: dict[Any, str], shown: dict[Any, set[str]]) -> list[str]:
    """Keep each image under its first id, with the categories of all its ids, and return a note on it."""
    first: dict[str, Any] = {}
    joined = 0
    for number, name in list(files.items()):
        key = posixpath.normpath(name)
        if key not in first:
            first[key] = number
            continue
        if number in shown:
            shown.setdefault(first[key], set()).update(shown.pop(number))
        del files[number]
        joined += 1
    return [f"{joined:,} images joined with one of the same name"] if joined else []


def unverified(
    tree: Mapping[str, Any],
    files: Mapping[Any, str],
    categories: Mapping[Any, str],
    shown: Mapping[Any, set[str]],
    labels: LabelSpace,
) -> dict[Any, tuple[str, ...]]:
    """Labels that LVIS did not look for, by image: neither annotated nor in its list of absent categories."""
    unknown: dict[Any, tuple[str, ...]] = {}
    for entry in tree["images"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("neg_category_ids"), list):
            continue
        number = number_of(entry.get("id"))
        if number in files:
            absent = {categories.get(number_of(each)) for each in entry["neg_category_ids"]}
            known = absent | shown.get(number, set())
            unknown[number] = tuple(name for name in labels if name not in known)
    return unknown
