"""How is Apparel read? Folders ``<colour>_<garment>``; every picture has exactly these two labels.

The published split starts from the pictures in the order of folders and names. Python's generator, seeded with 10,
shuffles them, and the first half trains: who has the same files has the same split. One of the 11,385 files lies in two
folders; as published, it is one picture, in the place of the first and with the labels of the last.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import random
from collections import defaultdict
from pathlib import Path

from msrn.data.archives.containers import IMAGE_SUFFIXES
from msrn.data.manifest import Manifest, Record, outside_images
from msrn.errors import DataError, Problem, did_you_mean
from msrn.labels.space import LabelSpace

__all__ = ["read_apparel"]

SEED = 10
PUBLISHED = "a3155109a9b7c9865c895b2bf88c67762d07238d68853a4b05dff2fdf6e40131"
"""SHA-256 over the paths of the 11,384 published pictures in their order, joined by line feeds."""


def read_apparel(
    root: str | Path, split: str = "all", labels: LabelSpace | None = None, *, colours_first: bool = False
) -> Manifest:
    """Read one split of a folder in Apparel's layout.

    Args:
        root: holds the folders. Hidden files and folders, and files that are no pictures, are left out.
        split: ``train`` or ``test``, the published halves; or ``all``, for a split of one's own.
        labels: bind to these; None: the colours and garments found.
        colours_first: columns are colours, then garments, as in MSRN's; else all by name.

    Returns:
        Records with two labels each. A file that lies in several folders, of one name and the same bytes, is one
        picture. ``source`` says whether the files are the published ones.

    Raises:
        DataError: no such folder or split, no pictures, and everything wrong with them: folders that are no colour and
            garment, or empty, or hold folders; pictures in no folder, broken links, and links that leave the root; a
            word that the labels lack, or that is a colour here and a garment there.
    """
    root = Path(root)
    if split not in {"train", "test", "all"}:
        hint = did_you_mean(split, ["train", "test", "all"]) or "all leaves the choice to data.val_fraction"
        raise DataError(f"expected split train, test or all, got {split!r}", str(root), hint)
    if not root.is_dir():
        raise DataError("expected a folder of folders <colour>_<garment>", str(root), "pass --data.root FOLDER")
    problems: list[Problem] = []
    records = []
    colours, garments = dict[str, str](), dict[str, str]()
    for entry in _entries(root):
        if not entry.is_dir():
            if _is_picture(entry.name):
                problems.append(Problem("the picture lies in no folder <colour>_<garment>", entry.path))
            continue
        colour, _, garment = entry.name.partition("_")
        if "_" in garment or not all(word and word == word.strip() for word in (colour, garment)):
            hint = "name the folder such as black_dress"
            problems.append(Problem(f"expected <colour>_<garment>, got {entry.name!r}", entry.path, hint))
            continue
        names = _picture_names(entry, problems)
        colours.setdefault(colour, entry.path)
        garments.setdefault(garment, entry.path)
        records += [Record(f"{entry.name}/{name}", (colour, garment)) for name in names]
    for word in sorted(colours.keys() & garments.keys()):
        problems.append(Problem(f"{word!r} is a colour and a garment", f"{colours[word]}, {garments[word]}"))
    found = sorted(colours) + sorted(garments)
    for word in found:
        if labels is not None and word not in labels:
            where = (colours | garments)[word]
            problems.append(Problem(f"{word!r} is not in the label set", where, did_you_mean(word, labels.names)))
    problems += outside_images(root, [(record.image, str(root / record.image)) for record in records])
    if not records and not problems:
        problems.append(Problem("expected folders <colour>_<garment> with pictures, found none", str(root)))
    if problems:
        raise DataError.of(problems, f"the folder {root.name} is broken")
    files = len(records)
    records = _each_once(root, records)
    told = f"Apparel layout {root.resolve().name} ({'the' if _are_published(records) else 'not the'} published files)"
    if files > len(records):
        told += f", {files - len(records):,} in several folders taken from the last"
    if split == "all":
        told += f", all {len(records):,} pictures"
    else:
        random.Random(SEED).shuffle(records)
        half = len(records) // 2
        told += f", split {split} as published (seed {SEED}): half of {len(records):,} pictures"
        records = records[:half] if split == "train" else records[half:]
    space = labels or LabelSpace(found if colours_first else sorted(found))
    return Manifest(tuple(records), space, split, root, told)


def _each_once(root: Path, records: list[Record]) -> list[Record]:
    """Files of one name and the same bytes as one picture, where the first is and as the last says."""
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


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"]
    return sorted(seen, key=lambda entry: entry.name)


def _picture_names(folder: os.DirEntry[str], problems: list[Problem]) -> list[str]:
    names = []
    for entry in _entries(folder.path):
        if entry.is_dir():
            problems.append(Problem("expected pictures in the folder, got a folder", entry.path, "move it out"))
        elif _is_picture(entry.name):
            names.append(entry.name)
            if not entry.is_file():
                problems.append(Problem("the picture is a link that leads nowhere", entry.path))
    if not names:
        problems.append(Problem("the folder holds no pictures", folder.path, "remove it"))
    return names


def _is_picture(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)
