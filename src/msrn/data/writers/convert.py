"""How is a data set written in another format, losing nothing?

Tables and shards are read again, and compared, before they get their names; a format that cannot hold the labels'
states is refused. Nothing that is there is overwritten unless that is asked for.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from msrn.data.archives.containers import IMAGE_SUFFIXES
from msrn.data.manifest import DIFFICULT, UNKNOWN, Manifest
from msrn.data.readers.table import read_table
from msrn.data.readers.webdataset import CLASS_NAMES, read_shards
from msrn.errors import DataError, MsrnError, reason
from msrn.labels.space import LabelSpace

__all__ = ["FORMS", "convert", "refuse_to_overwrite"]

_log = logging.getLogger(__name__)

CELLS = {0: "0", 1: "1", -1: ""}


def convert(manifest: Manifest, out: str | Path, form: str, *, force: bool = False, shard_size: int = 1000) -> Path:
    """Write a manifest in another format.

    Args:
        manifest: what to write.
        out: a file; for ``webdataset`` a folder, which may hold other splits already.
        form: ``manifest``, ``table`` (CSV, TSV or JSON lines, by suffix), ``coco`` or ``webdataset``.
        force: overwrite.
        shard_size: pictures per shard.

    Returns:
        What was written.

    Raises:
        DataError: something is there already, the format cannot hold what the manifest says, or pictures that have to
            be copied cannot be read.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if form == "webdataset":
        return _write_shards(manifest, out, force=force, shard_size=shard_size)
    refuse_to_overwrite([out], force=force)
    if form == "manifest":
        manifest.write(out)
    else:
        beside = out.with_name(f".{os.getpid()}.{out.name}")
        try:
            FORMS[form](manifest, beside, out)
            os.replace(beside, out)
        finally:
            beside.unlink(missing_ok=True)
    return out


def refuse_to_overwrite(paths: list[Path], *, force: bool) -> None:
    """Raises DataError for files that are there already, unless ``force``."""
    there = [str(path) for path in paths if path.exists()]
    if there and not force:
        raise DataError("something is there already", ", ".join(there), "name another place, or pass --force")


def _write_table(manifest: Manifest, path: Path, out: Path) -> None:
    images, root = _names_from(manifest, out.parent)
    difficult = int((manifest.codes() == DIFFICULT).any(1).sum())
    tries: list[Callable[[], str]]
    if path.suffix.lower() in {".jsonl", ".ndjson", ".json"}:
        tries = [lambda: _json_lines(manifest, images)]
        tries += [] if difficult else [lambda: _json_columns(manifest, images)]
    elif difficult:
        told = f"a table has no place for difficult objects ({difficult:,} pictures have some)"
        raise DataError(told, str(out), "write a manifest, JSON lines (.jsonl) or webdataset")
    else:
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        tries = [lambda: _names(manifest, images, separator), lambda: _columns(manifest, images, separator)]
    problem: MsrnError | None = None
    for text in tries:
        try:
            path.write_text(text(), encoding="utf-8", newline="")
            back = read_table(path, root=root)
        except (MsrnError, UnicodeEncodeError) as error:
            problem = error if isinstance(error, MsrnError) else DataError(f"a name is no text: {error}", str(out))
            continue
        problem = None
        if [record.image for record in back.records] == images and _same(manifest, back):
            if root != out.parent:
                _log.info("picture paths start from %s: read the table with --data.root", root)
            return
    if problem is not None:
        raise problem
    told = "the table would not say the same: a name looks like something else there, or no picture has a label"
    raise DataError(told, str(out), "write a manifest: it holds any name")


def _names(manifest: Manifest, images: list[str], separator: str) -> str:
    """One column of names."""
    rows = []
    for image, record in zip(images, manifest.records, strict=True):
        known_of_none = len(record.unknown) == len(manifest.labels)
        rows.append([image, "" if known_of_none else "|".join(record.positives) or "-"])
    return _csv([["image", "labels"], *rows], separator)


def _columns(manifest: Manifest, images: list[str], separator: str) -> str:
    """One column per label."""
    codes = manifest.codes()
    rows = [[image, *(CELLS[int(code)] for code in row)] for image, row in zip(images, codes, strict=True)]
    return _csv([["image", *manifest.labels], *rows], separator)


def _csv(rows: list[list[str]], separator: str) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _json_lines(manifest: Manifest, images: list[str]) -> str:
    rows = [{"image": image, **_states(manifest, index, every=True)} for index, image in enumerate(images)]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _json_columns(manifest: Manifest, images: list[str]) -> str:
    states = {0: 0, 1: 1, -1: None}
    rows = [
        {"image": image, **{name: states[int(code)] for name, code in zip(manifest.labels, row, strict=True)}}
        for image, row in zip(images, manifest.codes(), strict=True)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _write_coco(manifest: Manifest, path: Path, out: Path) -> None:
    """Pictures, categories and one annotation per label, without boxes."""
    codes = manifest.codes()
    for code, what in ((UNKNOWN, "unknown labels"), (DIFFICULT, "difficult objects")):
        if count := int((codes == code).any(1).sum()):
            told = f"COCO has no place for {what} ({count:,} pictures have some)"
            raise DataError(told, str(out), "write a manifest, a table (unknown labels only) or webdataset")
    images, root = _names_from(manifest, out.parent)
    pairs = np.argwhere(codes == 1).tolist()
    tree = {
        "info": {"description": f"{manifest.source}; labels of pictures, no boxes"},
        "images": [{"id": index, "file_name": image} for index, image in enumerate(images, start=1)],
        "categories": [{"id": index, "name": name} for index, name in enumerate(manifest.labels, start=1)],
        "annotations": [
            {"id": number, "image_id": image + 1, "category_id": label + 1, "iscrowd": 0}
            for number, (image, label) in enumerate(pairs, start=1)
        ],
    }
    path.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
    if root != out.parent:
        _log.info("picture paths start from %s", root)


FORMS: dict[str, Callable[[Manifest, Path, Path], None]] = {"table": _write_table, "coco": _write_coco}
"""Formats of one file, beside the manifest: (manifest, file to write, its later name)."""


def _write_shards(manifest: Manifest, out: Path, *, force: bool, shard_size: int) -> Path:
    if shard_size < 1:
        raise DataError(f"expected at least 1 picture per shard, got {shard_size}", "shard_size")
    stem = "".join(letter if letter.isalnum() else "-" for letter in manifest.split) or "all"
    if out.exists() and not out.is_dir():
        raise DataError("expected a folder for the shards, got a file", str(out))
    refuse_to_overwrite(sorted(out.glob(f"{stem}-*.tar")), force=force)
    names = out / CLASS_NAMES
    if names.is_file() and LabelSpace.read(names) != manifest.labels and not force:
        raise DataError("the shards there have other labels", str(names), "name another folder, or pass --force")
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    beside.mkdir()
    try:
        manifest.labels.write(beside / CLASS_NAMES)
        every = bool(np.isin(manifest.codes(), (UNKNOWN, DIFFICULT)).any())
        shards = []
        for number, start in enumerate(range(0, len(manifest), shard_size)):
            shards.append(beside / f"{stem}-{number:06}.tar")
            with tarfile.open(shards[-1], "w", format=tarfile.USTAR_FORMAT) as tar:
                for index in range(start, min(start + shard_size, len(manifest))):
                    _add(tar, manifest, index, every=every)
            _log.info("%s: %s pictures", shards[-1].name, f"{min(start + shard_size, len(manifest)):,}")
        back = read_shards(shards)
        if not _same(manifest, back):
            raise DataError("the shards would not say the same", str(out), "report this as a mistake of msrn")
        out.mkdir(exist_ok=True)
        for stale in out.glob(f"{stem}-*.tar"):
            stale.unlink()
        for path in sorted(beside.iterdir()):
            os.replace(path, out / path.name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return out


def _add(tar: tarfile.TarFile, manifest: Manifest, index: int, *, every: bool) -> None:
    """One sample. Keys are numbers, for names may hold dots; the name is told in the json."""
    image = manifest.records[index].image
    picture = manifest.picture(index)
    try:
        content = picture if isinstance(picture, bytes) else picture.read_bytes()
    except OSError as error:
        raise DataError(f"the picture cannot be read: {reason(error)}", str(picture)) from error
    suffix = os.path.splitext(image)[1].lower()
    said = {"name": image, **_states(manifest, index, every=every)}
    for name, data in (
        (f"{index:08}{suffix if suffix in IMAGE_SUFFIXES else _suffix(content, image)}", content),
        (f"{index:08}.json", json.dumps(said).encode()),
    ):
        entry = tarfile.TarInfo(name)  # no times and owners: the same data give the same file
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))


def _suffix(content: bytes, image: str) -> str:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as opened:
            kind = f".{(opened.format or '').lower()}"
    except Exception as error:  # Pillow raises nearly every kind of exception on damaged input
        raise DataError(f"the picture cannot be read: {error}", image) from error
    if kind not in IMAGE_SUFFIXES:
        raise DataError(f"shards do not hold pictures of kind {kind[1:]}", image, "save it as PNG or JPEG")
    return kind


def _states(manifest: Manifest, index: int, *, every: bool) -> dict[str, Any]:
    """A record's labels, as a list or in the form of a manifest."""
    record = manifest.records[index]
    if not every:
        return {"labels": list(record.positives)}
    states = {"positives": record.positives, "difficult": record.difficult, "unknown": record.unknown}
    return {name: list(names) for name, names in states.items()}


def _names_from(manifest: Manifest, folder: Path) -> tuple[list[str], Path]:
    """Picture names relative to the folder, if all lie below it, or else to the manifest's root; and which it is."""
    paths = [str(manifest.path(index)) for index in range(len(manifest))]
    for root in (folder, manifest.root):
        names = [os.path.relpath(path, root).replace(os.sep, "/") for path in paths]
        if not any(name.startswith("../") for name in names):
            return names, root
    return [record.image for record in manifest.records], manifest.root


def _same(one: Manifest, other: Manifest) -> bool:
    """Whether two manifests say the same of each picture, label by label, whatever the order of the labels."""
    if set(one.labels) != set(other.labels) or len(one) != len(other):
        return False
    return bool(np.array_equal(one.codes(), other.codes()[:, one.labels.align(other.labels)]))
