"""How are folders of pictures read? By folder, one label each, or with a text file of tags beside each picture.

**Folders** (``read_folders``): ``cat/1.jpg``. A picture has the one label that its folder is called, and none of the
others. A folder in a folder is refused: nobody can tell whether ``animal/dog`` is one label or two. Files that are the
same picture in several folders (links to one file, or the same name with the same bytes) are one picture with all
these labels; files of one name and different bytes are different pictures. A ``metadata.csv`` or ``metadata.jsonl`` in
the folder (Hugging Face's ``imagefolder``) is read as a table instead.

**Text files** (``read_textfiles``): ``1.jpg`` and ``1.txt``, tags between commas or on lines. No file, or an empty
one, says that nothing is known; a single ``-`` that there is none of the labels: as in tables.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from msrn.data.archives.containers import IMAGE_SUFFIXES
from msrn.data.manifest import Manifest, Record
from msrn.data.readers.table import read_table
from msrn.data.rows import Row, manifest_of_rows, split_tags
from msrn.errors import DataError, Problem, did_you_mean, reason
from msrn.labels.space import LabelSpace

__all__ = ["read_folders", "read_textfiles"]

MAX_TEXT_BYTES = 2**20
_BOXES = re.compile(r"\d+( -?\d+(\.\d+)?){4,}")
"""A line of the YOLO format: class and box."""


def read_folders(folder: str | Path, labels: LabelSpace | None = None) -> Manifest:
    """Read a folder that holds one folder of pictures per label.

    Args:
        folder: holds the labels' folders. Hidden files and folders, and files that are no pictures, are left out.
        labels: bind to these; None: the folders' names, in alphabetical order.

    Raises:
        DataError: no such folder, no pictures, pictures outside a label's folder or in a folder within it, folders
            that are no labels or hold nothing, broken links.
    """
    folder = _folder(folder)
    for name in ("metadata.csv", "metadata.jsonl"):
        if (folder / name).is_file():
            return read_table(folder / name, labels)
    problems: list[Problem] = []
    pictures = defaultdict[str, list[tuple[str, os.stat_result]]](list)
    names = []
    for entry in _entries(folder):
        if not entry.is_dir():
            if _is_picture(entry.name):
                problems.append(Problem("the picture lies in no label's folder", entry.path, "move it into one"))
            continue
        names.append(entry.name)
        if labels is not None and entry.name not in labels:
            hint = did_you_mean(entry.name, labels.names) or f"the label set has {len(labels)} names"
            problems.append(Problem(f"label {entry.name!r} is not in the label set", entry.path, hint))
        found = _pictures_of(Path(entry.path), problems)
        if not found and labels is None:
            problems.append(Problem("the label's folder holds no pictures", entry.path, "remove it"))
        for name, facts in found:
            pictures[name].append((f"{entry.name}/{name}", facts))
    records, shared = _records(folder, pictures)
    if not records and not problems:
        problems.append(Problem("expected a folder per label with pictures in it, found none", str(folder)))
    if problems:
        raise DataError.of(problems, f"the folder {folder.name} is broken")
    source = f"{folder.name}, a folder per label" + (f", {shared} pictures in several" if shared else "")
    return Manifest(records, labels or LabelSpace(names), folder.name, folder, source)


def read_textfiles(folder: str | Path, labels: LabelSpace | None = None, *, delimiter: str | None = None) -> Manifest:
    """Read a folder, and those in it, of pictures that each have a text file of the same name beside them.

    Args:
        folder: holds pictures and text files. Text files without a picture are left out and counted in ``source``.
        labels: bind to these; None: the tags found, in alphabetical order.
        delimiter: between the tags of one line; None: a comma.

    Raises:
        DataError: no such folder, no pictures, text files that belong to two pictures, are no UTF-8, or hold boxes;
            tags that are no labels.
    """
    folder = _folder(folder)
    rows: list[Row] = []
    problems: list[Problem] = []
    silent = lonely = 0
    for directory, inner, files in os.walk(folder, followlinks=False):
        inner[:] = sorted(name for name in inner if not _is_hidden(name))
        texts = {Path(name).stem: name for name in files if name.lower().endswith(".txt")}
        owners: dict[str, str] = {}
        for name in sorted(name for name in files if _is_picture(name)):
            image = os.path.relpath(os.path.join(directory, name), folder).replace(os.sep, "/")
            stem = Path(name).stem
            text = os.path.join(directory, texts[stem]) if stem in texts else None
            if text and stem in owners:
                hint = "give one of them another name"
                problems.append(Problem(f"the text file belongs to {owners[stem]} and to {name}", text, hint))
            owners[stem] = name
            tags = _tags(Path(text), delimiter or ",", problems) if text else None
            silent += tags is None
            rows.append(Row(text or os.path.join(directory, name), {"image": image, "labels": tags}))
        lonely += len(set(texts) - set(owners))
    if problems:
        raise DataError.of(problems, f"text files of {folder.name} are broken")
    counted = [(silent, "pictures without tags"), (lonely, "text files without a picture left out")]
    source = ", ".join([f"{folder.name}, a text file per picture", *(f"{n} {what}" for n, what in counted if n)])
    return manifest_of_rows(
        rows,
        labels,
        image_column="image",
        label_column="labels",
        columns=["labels"],
        delimiter=None,
        root=folder,
        split=folder.name,
        source=source,
        where=str(folder),
    )


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        hint = "name a folder, or set data.root to the one that holds it"
        raise DataError("expected a folder of pictures, found none", str(folder), hint)
    return folder


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_picture(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not _is_hidden(name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not _is_hidden(entry.name)), key=lambda entry: entry.name)


def _pictures_of(folder: Path, problems: list[Problem]) -> list[tuple[str, os.stat_result]]:
    """Names and facts of a label's pictures."""
    found = []
    for entry in _entries(folder):
        if entry.is_dir():
            hint = "one folder per label: move the pictures up, or write a table"
            problems.append(Problem("expected pictures in a label's folder, got a folder", entry.path, hint))
        elif _is_picture(entry.name):
            try:
                found.append((entry.name, entry.stat()))
            except OSError as error:
                problems.append(Problem(f"cannot read the picture: {reason(error)}", entry.path, "a broken link?"))
    return found


def _records(folder: Path, pictures: dict[str, list[tuple[str, os.stat_result]]]) -> tuple[tuple[Record, ...], int]:
    """One record per picture, and how many lie in several folders."""
    by_file = defaultdict[object, list[str]](list)
    for files in pictures.values():
        sizes = [facts.st_size for _, facts in files]
        for image, facts in files:
            key: object = (facts.st_dev, facts.st_ino)  # a link has those of what it leads to
            if sizes.count(facts.st_size) > 1:
                key = (image.split("/", 1)[1], hashlib.sha256((folder / image).read_bytes()).digest())
            by_file[key].append(image)
    records = [Record(images[0], _folder_names(images)) for images in by_file.values()]
    return tuple(sorted(records, key=lambda record: record.image)), sum(len(r.positives) > 1 for r in records)


def _folder_names(images: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({image.split("/", 1)[0] for image in images}))


def _tags(path: Path, delimiter: str, problems: list[Problem]) -> list[str] | None:
    """The tags of a text file, each once; None if it is empty."""
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise ValueError(f"expected at most {MAX_TEXT_BYTES:,} bytes of tags")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        problems.append(Problem(f"cannot read the tags: {reason(error)}", str(path), "expected a text file in UTF-8"))
        return None
    if any(_BOXES.fullmatch(line.strip()) for line in text.split("\n")):
        problems.append(Problem("expected tags, got the numbers and boxes of the YOLO format", str(path)))
        return None
    return split_tags(text, delimiter)
