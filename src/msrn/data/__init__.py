"""Which data sets can be read? A new format is one function in a file of its own, and one entry here.

A reader takes ``(data, split, labels)``: the settings, of which it reads ``root`` and ``reader``; the split's name or
file; and the label space to bind to (None: what the split names). It returns a ``Manifest`` and opens no picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from msrn.config import DataSettings
from msrn.data.archives.containers import find_containers
from msrn.data.manifest import Manifest
from msrn.data.readers.apparel import read_apparel
from msrn.data.readers.coco import read_coco
from msrn.data.readers.folders import read_folders, read_textfiles
from msrn.data.readers.nuswide import read_nuswide
from msrn.data.readers.parquet import parquet_files, read_parquet
from msrn.data.readers.table import read_table
from msrn.data.readers.voc import read_voc
from msrn.data.readers.webdataset import read_shards
from msrn.errors import DataError, Problem
from msrn.labels.space import LabelSpace

__all__ = ["READERS"]


def _table(data: DataSettings, split: str, labels: LabelSpace | None) -> Manifest:
    manifest = read_table(
        _file(data.root, split),
        labels,
        root=data.root or None,
        image_column=data.reader.image_column or None,
        label_column=data.reader.label_column or None,
        delimiter=data.reader.delimiter or None,
    )
    return _kept(manifest, data)


def _manifest(data: DataSettings, split: str, labels: LabelSpace | None) -> Manifest:
    path = _file(data.root, split)
    manifest = Manifest.read(path, root=data.root or None)
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


def _voc(data: DataSettings, split: str, labels: LabelSpace | None) -> Manifest:
    return read_voc(_root(data), split, labels)


def _coco(data: DataSettings, split: str, labels: LabelSpace | None) -> Manifest:
    return read_coco(
        data.root,
        split,
        labels,
        images=data.reader.images,
        keep_empty=data.reader.without_labels == "keep",
        count_crowd=data.reader.crowd == "count",
        by_id=data.reader.order == "id",
    )


def _nuswide(data: DataSettings, split: str, labels: LabelSpace | None) -> Manifest:
    return read_nuswide(
        _root(data),
        split,
        labels,
        images=data.reader.images,
        keep_empty=data.reader.without_labels == "keep",
        published_order=data.reader.order == "id",
    )


def _apparel(data: DataSettings, split: str, labels: LabelSpace | None) -> Manifest:
    return read_apparel(_root(data), split, labels, colours_first=data.reader.order == "id")


def _scenes(data: DataSettings, split: str, labels: LabelSpace | None) -> Manifest:
    return read_table(Path(data.root) / f"{split}.csv", labels)


def _folders(data: DataSettings, split: str, labels: LabelSpace | None) -> Manifest:
    return read_folders(_below(data.root, split), labels)


def _textfiles(data: DataSettings, split: str, labels: LabelSpace | None) -> Manifest:
    return _kept(read_textfiles(_below(data.root, split), labels, delimiter=data.reader.delimiter or None), data)


def _parquet(data: DataSettings, split: str, labels: LabelSpace | None) -> Manifest:
    manifest = read_parquet(
        parquet_files(data.root, split),
        labels,
        split=Path(split).stem,
        image_column=data.reader.image_column or None,
        label_column=data.reader.label_column or None,
        delimiter=data.reader.delimiter or None,
    )
    return _kept(manifest, data)


def _webdataset(data: DataSettings, split: str, labels: LabelSpace | None) -> Manifest:
    manifest = read_shards(
        find_containers(data.root, split, (".tar",)),
        labels,
        split=Path(split).stem,
        label_column=data.reader.label_column or None,
        delimiter=data.reader.delimiter or None,
    )
    return _kept(manifest, data)


def _root(data: DataSettings) -> str:
    if not data.root:
        raise DataError(f"no folder is set for format {data.format}", "data.root", "pass --data.root FOLDER")
    return data.root


def _file(root: str, split: str) -> Path:
    """A split's file: as it is named, or else below the root."""
    path = Path(split)
    return Path(root) / path if root and not path.exists() and (Path(root) / path).exists() else path


def _kept(manifest: Manifest, data: DataSettings) -> Manifest:
    """The manifest, without pictures that are known to show no label if the settings say so."""
    if data.reader.without_labels != "drop":
        return manifest
    records = tuple(r for r in manifest.records if r.positives or r.difficult or r.unknown)
    if not records:
        raise DataError("no picture has a label, and pictures without one are dropped", manifest.source)
    dropped = len(manifest) - len(records)
    return replace(manifest, records=records, source=f"{manifest.source}, pictures without labels dropped ({dropped})")


def _below(root: str, split: str) -> Path:
    """A split's folder: below the root, or else as it is named."""
    path = Path(root) / split
    return path if path.is_dir() else Path(split)


READERS: dict[str, Callable[[DataSettings, str, LabelSpace | None], Manifest]] = {
    "voc": _voc,
    "coco": _coco,
    "nuswide": _nuswide,
    "apparel": _apparel,
    "table": _table,
    "manifest": _manifest,
    "scenes": _scenes,
    "folders": _folders,
    "textfiles": _textfiles,
    "parquet": _parquet,
    "webdataset": _webdataset,
}
