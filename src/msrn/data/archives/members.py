"""Read images inside archives, in place.

Nothing is written to disk and no file stays open between two reads, so processes may fork and threads may read at the
same time. The index of each archive is kept as long as the file does not change.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from msrn.data.archives import parquet, tar
from msrn.data.archives.names import archive_and_member
from msrn.data.image_files import is_image_name
from msrn.errors import DataError

__all__ = ["images_in_archive", "open_file", "read_bytes"]


def open_file(path: str | Path) -> BinaryIO:
    """An image file, or an image inside an archive, opened for reading.

    Raises:
        OSError: the plain file cannot be opened. DataError: as ``read_bytes``; or it is a pipe or device, which has no
            end, or larger than ``MAX_MEMBER_BYTES``.
    """
    if archive_and_member(path):
        return io.BytesIO(read_bytes(path))
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise DataError("expected an image file, got a pipe or device", str(path), "save the image to a file first")
    if status.st_size > tar.MAX_MEMBER_BYTES:
        message = f"expected an image of at most {tar.MAX_MEMBER_BYTES:,} bytes, got {status.st_size:,}"
        raise DataError(message, str(path))
    return Path(path).open("rb")


def read_bytes(path: str | Path) -> bytes:
    """The bytes of one image inside an archive.

    Raises:
        DataError: the archive is missing or damaged, or has no such member. DependencyError: pyarrow is missing.
    """
    parts = archive_and_member(path)
    if parts is None:
        raise DataError("expected a name such as shards/000.tar::dog/1.jpg", str(path))
    archive, member = parts
    read = tar.read_member if archive.lower().endswith(".tar") else parquet.read_cell
    return read(archive, member)


def images_in_archive(archive: str | Path) -> Iterator[str]:
    """Names of all images of an archive, in its order, as ``read_bytes`` takes them.

    Raises:
        DataError: the archive is missing or damaged, or has no image column. DependencyError: pyarrow is missing.
    """
    if str(archive).lower().endswith(".tar"):
        names: Iterator[str] = (name for name in tar.tar_members(archive) if is_image_name(name))
    else:
        names = parquet.image_cells(archive)
    return (f"{archive}::{name}" for name in names)
