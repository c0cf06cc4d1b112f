"""Write WebDataset shards with copies of the images, which are read again and compared before they get their names."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
from pydantic import Field

from msrn import registry
from msrn.data.image_files import IMAGE_FORMATS, IMAGE_SUFFIXES
from msrn.data.manifest import DIFFICULT, UNKNOWN, Manifest
from msrn.data.readers.webdataset import CLASS_NAMES, read_shards
from msrn.data.writers.contents import label_states, same_labels
from msrn.errors import DataError
from msrn.files import refuse_to_overwrite, scratch_beside
from msrn.labels.space import LabelSpace

__all__ = ["Options", "write"]


class Options(registry.Options):
    """Options of the writer of WebDataset shards."""

    name: str = "webdataset"
    shard_size: int = Field(1000, ge=1, description="images per shard")


def write(options: Options, manifest: Manifest, path: Path, *, force: bool = False) -> str:
    """Write the shards of one split into a folder, which may hold those of other splits.

    Raises:
        DataError: ``path`` is a file; an image cannot be read; or the folder holds shards of this split or has other
            labels, and ``force`` is not set.
    """
    stem = "".join(letter if letter.isalnum() else "-" for letter in manifest.split) or "all"
    if path.exists() and not path.is_dir():
        raise DataError("expected a folder for the shards, got a file", str(path))
    refuse_to_overwrite(sorted(path.glob(f"{stem}-*.tar")), force=force)
    names = path / CLASS_NAMES
    if names.is_file() and LabelSpace.read(names) != manifest.labels and not force:
        raise DataError("the shards there have other labels", str(names), "choose another folder, or pass --force")
    with scratch_beside(path) as temporary:
        manifest.labels.write(temporary / CLASS_NAMES)
        shards = _write_shards(manifest, temporary, stem, options.shard_size)
        if not same_labels(manifest, read_shards(shards)):
            raise DataError("the shards would be read differently", str(path), "please report this as a bug of msrn")
        path.mkdir(exist_ok=True)
        written = {file.name for file in temporary.iterdir()}
        for file_name in sorted(written):
            os.replace(temporary / file_name, path / file_name)
        for outdated in path.glob(f"{stem}-*.tar"):
            if outdated.name not in written:
                outdated.unlink()
    return f"{path} ({len(shards):,} shards {stem}-*.tar)"


def _write_shards(manifest: Manifest, folder: Path, stem: str, shard_size: int) -> list[Path]:
    every = bool(np.isin(manifest.codes(), (UNKNOWN, DIFFICULT)).any())
    shards = []
    for number, start in enumerate(range(0, len(manifest), shard_size)):
        shards.append(folder / f"{stem}-{number:06}.tar")
        with tarfile.open(shards[-1], "w", format=tarfile.USTAR_FORMAT) as tar:
            for index in range(start, min(start + shard_size, len(manifest))):
                _add(tar, manifest, index, every=every)
    return shards


def _add(tar: tarfile.TarFile, manifest: Manifest, index: int, *, every: bool) -> None:
    """One sample. Its key is a number, because names may hold dots; the json keeps the name."""
    image = manifest.records[index].image
    content = manifest.image_bytes(index)
    suffix = os.path.splitext(image)[1].lower()
    metadata = {"name": image, **label_states(manifest, index, every=every)}
    for name, data in (
        (f"{index:08}{suffix if suffix in IMAGE_SUFFIXES else _suffix(content, image)}", content),
        (f"{index:08}.json", json.dumps(metadata).encode()),
    ):
        entry = tarfile.TarInfo(name)  # without times and owners: the same data give the same file
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))


def _suffix(content: bytes, image: str) -> str:
    """The usual suffix of an encoded image."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as opened:
            kind = str(opened.format)
    except Exception as error:  # Pillow raises nearly every kind of exception on damaged input
        raise DataError(f"the image cannot be read: {error}", image) from error
    kind = "JPEG" if kind == "MPO" else kind
    if kind not in IMAGE_FORMATS:
        raise DataError(f"shards cannot hold an image of format {kind}", image, "save it as PNG or JPEG")
    return IMAGE_FORMATS[kind][0]
