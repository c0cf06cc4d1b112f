"""Which data sets can be read? A new format is one function in a file of its own, and one entry here.

A reader takes ``(root, split, labels)``: the folder of settings ``data.root`` (may be empty), the split's name or file,
and the label space to bind to (None: what the split names). It returns a ``Manifest`` and opens no picture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msrn.data.records import Manifest
from msrn.data.tables import read_table
from msrn.data.voc import read_voc
from msrn.errors import DataError, Problem
from msrn.labels.space import LabelSpace

__all__ = ["READERS"]


def _table(root: str, split: str, labels: LabelSpace | None) -> Manifest:
    return read_table(_file(root, split), labels, root=root or None)


def _manifest(root: str, split: str, labels: LabelSpace | None) -> Manifest:
    path = _file(root, split)
    manifest = Manifest.read(path, root=root or None)
    if labels is None:
        return manifest
    where = f"{path}, line 1"
    problems = [
        *(Problem(f"label {name!r} is not in the label set", where) for name in manifest.labels if name not in labels),
        # A label that the manifest does not speak of would silently count as absent everywhere.
        *(Problem(f"the manifest lacks label {name!r}", where) for name in labels if name not in manifest.labels),
    ]
    if problems:
        raise DataError.of(problems, "the manifest and the label set have different labels")
    return Manifest(manifest.records, labels, manifest.split, manifest.root, manifest.source)


def _voc(root: str, split: str, labels: LabelSpace | None) -> Manifest:
    if not root:
        raise DataError("no folder is set for format voc", "data.root", "pass --data.root VOCdevkit")
    return read_voc(root, split, labels)


def _scenes(root: str, split: str, labels: LabelSpace | None) -> Manifest:
    return read_table(Path(root) / f"{split}.csv", labels)


def _file(root: str, split: str) -> Path:
    """A split's file: as it is named, or else below the root."""
    path = Path(split)
    return Path(root) / path if root and not path.exists() and (Path(root) / path).exists() else path


READERS: dict[str, Callable[[str, str, LabelSpace | None], Manifest]] = {
    "voc": _voc,
    "table": _table,
    "manifest": _manifest,
    "scenes": _scenes,
}
