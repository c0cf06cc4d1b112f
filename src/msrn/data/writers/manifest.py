"""Write a manifest as JSON lines, which hold all that a manifest does."""

from __future__ import annotations

from pathlib import Path

from msrn import registry
from msrn.data.manifest import Manifest
from msrn.files import refuse_to_overwrite

__all__ = ["Options", "write"]


class Options(registry.Options):
    """The writer of manifests has no options."""

    name: str = "manifest"


def write(options: Options, manifest: Manifest, path: Path, *, force: bool = False) -> str:
    """Write a JSON lines file.

    Raises:
        DataError: the file exists, and ``force`` is not set.
    """
    refuse_to_overwrite([path], force=force)
    manifest.write(path)
    return str(path)
