"""Check that the files of a bundle are those its metadata was written for."""

from __future__ import annotations

import hashlib
from pathlib import Path

from msrn.bundle.metadata import INPUTS_FILE, WEIGHTS_FILE, Metadata, no_bundle
from msrn.errors import BundleError

__all__ = ["file_digest", "require_file", "verify_files"]


def verify_files(folder: Path, metadata: Metadata) -> None:
    """Compare the digests of the files that prediction reads with the recorded ones.

    Raises:
        BundleError: a file is missing, or is not the recorded one.
    """
    for name in (WEIGHTS_FILE, INPUTS_FILE):
        require_file(folder, name, metadata)


def require_file(folder: Path, name: str, metadata: Metadata) -> None:
    """Compare one file's digest with the recorded one.

    Raises:
        BundleError: the file is missing, or is not the recorded one.
    """
    path = folder / name
    if not path.is_file():
        raise no_bundle(folder, name)
    if file_digest(path) != metadata.files.get(name):
        raise BundleError(
            f"{name} is not the file that bundle.json was written for",
            str(path),
            "copy the whole folder again; its files belong together",
        )


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
