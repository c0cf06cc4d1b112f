"""Read Apparel: folders ``<colour>_<garment>``, whose images have exactly these two labels.

The published split starts from the images in the order of folders and names. Python's generator, seeded with 10,
shuffles them, and the first half trains: the same files give the same split. One of the 11,385 files is in two
folders; as published, it is one image, in the place of the first and with the labels of the last.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal

from pydantic import Field

from msrn import registry
from msrn.data.image_files import is_image_name, passed_over, visible_entries
from msrn.data.image_paths import outside_images
from msrn.data.manifest import Manifest, Record
from msrn.data.readers.locate import required_root
from msrn.errors import DataError, Problem, did_you_mean
from msrn.labels.space import LabelSpace

__all__ = ["Options", "read"]

SEED = 10
PUBLISHED = "a3155109a9b7c9865c895b2bf88c67762d07238d68853a4b05dff2fdf6e40131"
"""SHA-256 over the paths of the 11,384 published images in their order, joined by line feeds."""


class Options(registry.Options):
    """Options of the reader of Apparel."""

    name: str = "apparel"
    order: Literal["name", "published"] = Field(
        "name", description="columns by label name; published: colours, then garments, as in MSRN's released checkpoint"
    )


def read(options: Options, root: str, split: str, labels: LabelSpace | None) -> Manifest:
    """Read one split of a folder in the layout of Apparel.

    Args:
        options: order of the columns.
        root: the folder that holds those of the labels. Hidden files and folders are skipped; files that are not images
            by their suffix are passed over and counted in ``source``.
        split: ``train`` or ``test``, the published halves; or ``all``, for a split of one's own.
        labels: bind to these; None: the colours and garments found.

    Returns:
        Records with two labels each. A file that is in several folders, with the same name and bytes, is one image.
        ``source`` says whether the files are the published ones.

    Raises:
        DataError: there is no such folder or split, there are no images, and everything wrong with them: folders that
            are not named by colour and garment, are empty, or hold folders; images outside these folders, broken
            links, and links that leave the root; a word that the labels lack, or that is both a colour and a garment.
    """
    folder = required_root(root, options.name)
    if split not in {"train", "test", "all"}:
        hint = did_you_mean(split, ["train", "test", "all"]) or "all leaves the choice to data.val_fraction"
        raise DataError(f"expected split train, test or all, got {split!r}", str(folder), hint)
    if not folder.is_dir():
        raise DataError("expected a folder of folders <colour>_<garment>", str(folder), "pass --data.root FOLDER")
    problems: list[Problem] = []
    others: Counter[str] = Counter()
    records = []
    colours, garments = dict[str, str](), dict[str, str]()
    for entry in visible_entries(folder):
        if not entry.is_dir():
            if is_image_name(entry.name):
                problems.append(Problem("the image is in no folder <colour>_<garment>", entry.path))
            else:
                others[os.path.splitext(entry.name)[1].lower()] += 1
            continue
        colour, _, garment = entry.name.partition("_")
        if "_" in garment or not all(word and word == word.strip() for word in (colour, garment)):
            hint = "name the folder as in black_dress"
            problems.append(Problem(f"expected <colour>_<garment>, got {entry.name!r}", entry.path, hint))
            continue
        names = _image_names(entry, others, problems)
        colours.setdefault(colour, entry.path)
        garments.setdefault(garment, entry.path)
        records += [Record(f"{entry.name}/{name}", (colour, garment)) for name in names]
    for word in sorted(colours.keys() & garments.keys()):
        problems.append(Problem(f"{word!r} is both a colour and a garment", f"{colours[word]}, {garments[word]}"))
    found = sorted(colours) + sorted(garments)
    for word in found:
        if labels is not None and word not in labels:
            where = (colours | garments)[word]
            problems.append(Problem(f"{word!r} is not in the label set", where, did_you_mean(word, labels.names)))
    problems += outside_images(folder, [(record.image, str(folder / record.image)) for record in records])
    if not records and not problems:
        problems.append(Problem("expected folders <colour>_<garment> with images, found none", str(folder)))
    if problems:
        raise DataError.of(problems, f"the folder {folder.name} is broken")
    files = len(records)
    records = _each_once(folder, records)
    published = "the" if _are_published(records) else "not the"
    source = f"Apparel layout {folder.resolve().name} ({published} published files)"
    if skipped := passed_over(folder, others):
        source += f", {skipped}"
    if files > len(records):
        source += f", {files - len(records):,} in several folders taken from the last"
    if split == "all":
        source += f", all {len(records):,} images"
    else:
        random.Random(SEED).shuffle(records)
        half = len(records) // 2
        source += f", split {split} as published (seed {SEED}): half of {len(records):,} images"
        records = records[:half] if split == "train" else records[half:]
    space = labels or LabelSpace(found if options.order == "published" else sorted(found))
    return Manifest(tuple(records), space, split, folder, source)


def _each_once(root: Path, records: list[Record]) -> list[Record]:
    """Files of the same name and bytes as one image: in the place of the first, with the labels of the last."""
    places = defaultdict[str, list[int]](list)
    once: list[Record] = []
    for record in records:
        same_name = places[os.path.basename(record.image)]
        for place in same_name:
            if filecmp.cmp(root / once[place].image, root / record.image, shallow=False):
                once[place] = record
                break
        else:
            same_name.append(len(once))
            once.append(record)
    return once


def _are_published(records: list[Record]) -> bool:
    paths = "\n".join(record.image for record in records)
    return hashlib.sha256(paths.encode("utf-8", "surrogateescape")).hexdigest() == PUBLISHED


def _image_names(folder: os.DirEntry[str], others: Counter[str], problems: list[Problem]) -> list[str]:
    names = []
    for entry in visible_entries(folder.path):
        if entry.is_dir():
            problems.append(Problem("expected images in the folder, got a folder", entry.path, "move it out"))
        elif is_image_name(entry.name):
            names.append(entry.name)
            if not entry.is_file():
                problems.append(Problem("the image is a link that leads nowhere", entry.path))
        else:
            others[os.path.splitext(entry.name)[1].lower()] += 1
    if not names:
        problems.append(Problem("the folder holds no images", folder.path, "remove it"))
    return names
