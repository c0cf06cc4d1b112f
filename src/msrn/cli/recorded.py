"""The settings that a bundle records, as the base of a command's own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any

from msrn.cli.arguments import only

__all__ = ["recorded_settings"]

PATHS = ("root", "train", "val", "test", "labels", "images")
"""Settings of ``data``, and options of readers, that name files."""


def recorded_settings(bundle: str, reads: Collection[str]) -> dict[str, Any]:
    """What a bundle records of the settings that a command reads; what another version had is left out, and named.

    A bundle opens no file elsewhere: unless it lies in its run folder, paths that lead out of the current one are left
    out too.

    Raises:
        BundleError: as ``read_metadata``.
    """
    from msrn.bundle.metadata import in_run_folder, read_metadata

    sections = dict.fromkeys(path.partition(".")[0] for path in reads)
    recorded = only(read_metadata(bundle).training_settings(*sections), reads, "")
    if not in_run_folder(bundle):
        recorded["data"] = _without_paths(recorded.get("data", {}))
    return recorded


def _without_paths(data: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            kept[key] = _without_paths(value)
        elif key not in PATHS or (isinstance(value, str) and not _leads_out(value)):
            kept[key] = value
    return kept


def _leads_out(path: str) -> bool:
    return path.startswith(("/", "~")) or ".." in PurePath(path).parts
