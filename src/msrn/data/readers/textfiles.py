"""Read a folder of images that each have a text file of tags beside them.

``1.jpg`` and ``1.txt``, with tags between commas or on lines. Where the text file is missing or empty, every label is
unknown; a single ``-`` means that every label is absent: as in tables.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from msrn import registry
from msrn.data.image_files import is_image_name, passed_over, visible_files
from msrn.data.manifest import Manifest
from msrn.data.readers.locate import split_folder
from msrn.data.rows import Row, Table, drop_empty, manifest_of_rows, split_tags
from msrn.errors import DataError, Problem, reason
from msrn.labels.space import LabelSpace

__all__ = ["Options", "read"]

MAX_TEXT_BYTES = 2**20
_BOXES = re.compile(r"\d+( -?\d+(\.\d+)?){4,}")
"""A line of the YOLO format: class and box."""


class Options(registry.Options):
    """Options of the reader of text files."""

    name: str = "textfiles"
    delimiter: str = Field("", description="between the tags of one line; empty: a comma")
    empty: Literal["keep", "drop"] = Field("keep", description="images that show none of the labels")


def read(options: Options, root: str, split: str, labels: LabelSpace | None) -> Manifest:
    """Read a folder, with its subfolders, of images that each have a text file of the same name beside them.

    Args:
        options: delimiter, and whether images without labels are kept.
        root: the folder that holds those of the splits, or empty.
        split: the folder, below ``root`` or as it is named. Text files without an image and files that are not images
            by their suffix are passed over and counted in ``source``.
        labels: bind to these; None: the tags found, in alphabetical order.

    Raises:
        DataError: there is no such folder, or it holds no images; text files belong to two images, are not UTF-8, or
            hold boxes; tags are not labels.
    """
    folder = split_folder(root, split)
    rows: list[Row] = []
    problems: list[Problem] = []
    others: Counter[str] = Counter()
    untagged = alone = 0
    for files in _by_folder(folder):
        texts = {path.stem: path for path in files if path.suffix.lower() == ".txt"}
        owners: dict[str, str] = {}
        for path in files:
            if path.suffix.lower() == ".txt":
                continue
            if not is_image_name(path.name):
                others[path.suffix.lower()] += 1
                continue
            text = texts.get(path.stem)
            if text and path.stem in owners:
                message = f"the text file belongs to {owners[path.stem]} and to {path.name}"
                problems.append(Problem(message, str(text), "rename one of them"))
            owners[path.stem] = path.name
            tags = _tags(text, options.delimiter or ",", problems) if text else None
            untagged += tags is None
            image = os.path.relpath(path, folder).replace(os.sep, "/")
            rows.append(Row(str(text or path), {"image": image, "labels": tags}))
        alone += len(set(texts) - set(owners))
    if problems:
        raise DataError.of(problems, f"text files of {folder.name} are broken")
    counts = [(untagged, "images without tags"), (alone, "text files without an image passed over")]
    source = ", ".join([f"{folder.name}, a text file per image", *(f"{n} {what}" for n, what in counts if n)])
    if skipped := passed_over(folder, others):
        source += f", {skipped}"
    table = Table(
        rows,
        image_column="image",
        label_column="labels",
        columns=["labels"],
        delimiter=None,
        root=folder,
        split=folder.name,
        source=source,
        where=str(folder),
    )
    manifest = manifest_of_rows(table, labels)
    return drop_empty(manifest) if options.empty == "drop" else manifest


def _by_folder(folder: Path) -> Iterator[list[Path]]:
    """Visible files of each folder below ``folder``."""
    found = defaultdict[Path, list[Path]](list)
    for path in visible_files(folder):
        found[path.parent].append(path)
    yield from (found[parent] for parent in sorted(found))


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
        message = "expected tags, got the numbers and boxes of the YOLO format"
        problems.append(Problem(message, str(path), "pass --data.reader yolo"))
        return None
    return split_tags(text, delimiter)
