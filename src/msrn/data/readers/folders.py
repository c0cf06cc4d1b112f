"""Read folders of images, one folder per label.

``cat/1.jpg`` has the label that its folder is named after, and no other. A folder within the folder of a label is
refused, because ``animal/dog`` could be one label or two. Files that are the same image in several folders (links to
one file, or the same name with the same bytes) are one image with all these labels; files of one name with different
bytes are different images. A folder with ``metadata.csv`` or ``metadata.jsonl`` (Hugging Face's ``imagefolder``) is
read as a table instead.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from msrn import registry
from msrn.data.columns import SPLIT_WORDS
from msrn.data.image_files import is_image_name, passed_over, visible_entries
from msrn.data.manifest import Manifest, Record
from msrn.data.readers.locate import split_folder
from msrn.data.readers.table import read_table
from msrn.errors import DataError, Problem, did_you_mean, reason
from msrn.labels.space import LabelSpace, same_names

__all__ = ["Options", "read"]


class Options(registry.Options):
    """The reader of folders has no options."""

    name: str = "folders"


def read(options: Options, root: str, split: str, labels: LabelSpace | None) -> Manifest:
    """Read a folder that holds one folder of images per label.

    Args:
        options: none.
        root: the folder that holds those of the splits, or empty.
        split: the folder, below ``root`` or as it is named. Hidden files and folders are skipped; files that are not
            images by their suffix are passed over and counted in ``source``.
        labels: bind to these; None: the names of the folders, in alphabetical order.

    Raises:
        DataError: there is no such folder; it holds no images, images outside the folder of a label or in a folder
            within it, folders that are not labels or hold no images, or broken links.
    """
    folder = split_folder(root, split)
    for name in ("metadata.csv", "metadata.jsonl"):
        if (folder / name).is_file():
            return read_table(folder / name, labels)
    problems: list[Problem] = []
    others: Counter[str] = Counter()
    images = defaultdict[str, list[tuple[str, os.stat_result]]](list)
    names = []
    for entry in visible_entries(folder):
        if not entry.is_dir():
            if is_image_name(entry.name):
                problems.append(Problem("the image is in no folder of a label", entry.path, "move it into one"))
            else:
                others[_suffix(entry.name)] += 1
            continue
        names.append(entry.name)
        if labels is not None and entry.name not in labels and entry.name not in same_names([entry.name], labels):
            hint = did_you_mean(entry.name, labels.names) or f"the label set has {len(labels)} names"
            problems.append(Problem(f"label {entry.name!r} is not in the label set", entry.path, hint))
        found = _images_of(Path(entry.path), others, problems)
        if not found and labels is None:
            problems.append(Problem("the folder of the label holds no images", entry.path, "remove it"))
        for name, status in found:
            images[name].append((f"{entry.name}/{name}", status))
    if names and not images and {name.lower() for name in names} <= set(SPLIT_WORDS):
        listed = " ".join(str(folder / name) for name in names)
        hint = f"name the splits: msrn data check {listed}; or --data.train {names[0]} --data.root {folder}"
        raise DataError("expected a folder per label, found a folder per split", str(folder), hint)
    records, shared = _records(folder, images)
    same = same_names(names, labels)
    if same:
        renamed = ((record.image, tuple(same.get(name, name) for name in record.positives)) for record in records)
        records = tuple(Record(image, tuple(dict.fromkeys(positives))) for image, positives in renamed)
        names = list(dict.fromkeys(same.get(name, name) for name in names))
    if not records and not problems:
        problems.append(Problem("expected a folder of images per label, found none", str(folder)))
    if problems:
        raise DataError.of(problems, f"the folder {folder.name} is broken")
    source = f"{folder.name}, a folder per label" + (f", {shared} images in several" if shared else "")
    if skipped := passed_over(folder, others):
        source += f", {skipped}"
    return Manifest(records, labels or LabelSpace(names), folder.name, folder, source)


def _images_of(folder: Path, others: Counter[str], problems: list[Problem]) -> list[tuple[str, os.stat_result]]:
    """Names and file status of the images of a label; other files are counted by suffix."""
    found = []
    for entry in visible_entries(folder):
        if entry.is_dir():
            hint = "one folder per label: move the images up, or write a table"
            problems.append(Problem("expected images in the folder of a label, got a folder", entry.path, hint))
        elif is_image_name(entry.name):
            try:
                found.append((entry.name, entry.stat()))
            except OSError as error:
                problems.append(Problem(f"cannot read the image: {reason(error)}", entry.path, "a broken link?"))
        else:
            others[_suffix(entry.name)] += 1
    return found


def _records(folder: Path, images: Mapping[str, list[tuple[str, os.stat_result]]]) -> tuple[tuple[Record, ...], int]:
    """One record per image, and how many are in several folders."""
    by_file = defaultdict[object, list[str]](list)
    for files in images.values():
        sizes = [status.st_size for _, status in files]
        for image, status in files:
            key: object = (status.st_dev, status.st_ino)  # a link has those of its target
            if sizes.count(status.st_size) > 1:
                key = (image.split("/", 1)[1], hashlib.sha256((folder / image).read_bytes()).digest())
            by_file[key].append(image)
    records = [Record(paths[0], _folder_names(paths)) for paths in by_file.values()]
    return tuple(sorted(records, key=lambda record: record.image)), sum(len(r.positives) > 1 for r in records)


def _folder_names(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({path.split("/", 1)[0] for path in paths}))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
