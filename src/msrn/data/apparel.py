"""How is Apparel read? Folders ``<colour>_<garment>``; every picture has exactly these two labels.

The published split is drawn from the pictures in the order of folders and names, by Python's generator seeded with 10:
after a shuffle, the first half trains. It is the same for everyone who has the same files.
"""

from __future__ import annotations

import random
from pathlib import Path

from msrn.data.containers import IMAGE_SUFFIXES
from msrn.data.records import Manifest, Record
from msrn.errors import DataError, Problem, did_you_mean
from msrn.labels.space import LabelSpace

__all__ = ["read_apparel"]

SEED = 10


def read_apparel(
    root: str | Path, split: str = "all", labels: LabelSpace | None = None, *, colours_first: bool = False
) -> Manifest:
    """Read one split of a folder in Apparel's layout.

    Args:
        root: holds the folders. Hidden files and folders, and files that are no pictures, are left out.
        split: ``train`` or ``test``, the published halves; or ``all``, for a split of one's own.
        labels: bind to these; None: the colours and garments found.
        colours_first: columns are colours, then garments, as in MSRN's; else all by name.

    Raises:
        DataError: no such folder or split, no pictures, and every folder that is no colour and garment, is empty, or
            has a word that the labels lack or that is a colour here and a garment there.
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
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        colour, _, garment = folder.name.partition("_")
        if not colour or not garment or "_" in garment:
            hint = "name the folder such as black_dress"
            problems.append(Problem(f"expected <colour>_<garment>, got {folder.name!r}", str(folder), hint))
            continue
        names = sorted(path.name for path in folder.iterdir() if _is_picture(path))
        if not names:
            problems.append(Problem("the folder holds no pictures", str(folder), "remove it"))
        colours.setdefault(colour, str(folder))
        garments.setdefault(garment, str(folder))
        records += [Record(f"{folder.name}/{name}", (colour, garment)) for name in names]
    for word in colours.keys() & garments.keys():
        problems.append(Problem(f"{word!r} is a colour and a garment", f"{colours[word]}, {garments[word]}"))
    found = sorted(colours) + sorted(garments)
    for word in found:
        if labels is not None and word not in labels:
            where = (colours | garments)[word]
            problems.append(Problem(f"{word!r} is not in the label set", where, did_you_mean(word, labels.names)))
    if not records and not problems:
        problems.append(Problem("expected folders <colour>_<garment> with pictures, found none", str(root)))
    if problems:
        raise DataError.of(problems, f"the folder {root.name} is broken")
    told = f"Apparel layout {root.name}, all {len(records):,} pictures"
    if split != "all":
        random.Random(SEED).shuffle(records)
        half = len(records) // 2
        records = records[:half] if split == "train" else records[half:]
        told = f"Apparel layout {root.name}, published split {split} (seed {SEED}): {len(records):,} pictures"
    space = labels or LabelSpace(found if colours_first else sorted(found))
    return Manifest(tuple(records), space, split, root, told)


def _is_picture(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower().endswith(IMAGE_SUFFIXES)
