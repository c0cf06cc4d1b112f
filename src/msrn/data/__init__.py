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
from msrn.errors import DataError, LabelError
from msrn.labels.space import LabelSpace

__all__ = ["READERS"]


def _table(root: str, split: str, labels: LabelSpace | None) -> Manifest:
    path = Path(split)
    if root and not path.exists() and (Path(root) / split).exists():
        path = Path(root) / split
    return read_table(path, labels, root=root or None)


def _manifest(root: str, split: str, labels: LabelSpace | None) -> Manifest:
    manifest = Manifest.read(split, root=root or None)
    if labels is None:
        return manifest
    try:
        labels.columns(manifest.labels.names)
    except LabelError as error:
        raise DataError(f"the manifest's labels are not all in the label set: {error.message}", split) from error
    return Manifest(manifest.records, labels, manifest.split, manifest.root, manifest.source)


def _voc(root: str, split: str, labels: LabelSpace | None) -> Manifest:
    if not root:
        raise DataError("no folder is set for format voc", "data.root", "pass --data.root VOCdevkit")
    return read_voc(root, split, labels)


def _scenes(root: str, split: str, labels: LabelSpace | None) -> Manifest:
    return read_table(Path(root) / f"{split}.csv", labels)


READERS: dict[str, Callable[[str, str, LabelSpace | None], Manifest]] = {
    "voc": _voc,
    "table": _table,
    "manifest": _manifest,
    "scenes": _scenes,
}
