"""The settings that a bundle records, as the base of a command's own."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any

from msrn.cli.arguments import only

__all__ = ["recorded_settings"]

logger = logging.getLogger(__name__)

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
        left_out: list[str] = []
        recorded["data"] = _without_paths(recorded.get("data", {}), "data", left_out)
        if left_out:
            message = "left out, as the bundle is not in its run folder and they lead elsewhere: %s; give them as flags"
            logger.warning(message, ", ".join(left_out))
    return recorded


def _without_paths(data: Mapping[str, Any], at: str, left_out: list[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in data.items():
        path = f"{at}.{key}"
        if isinstance(value, Mapping):
            kept[key] = _without_paths(value, path, left_out)
        elif key in PATHS and isinstance(value, str) and _leads_out(value):
            left_out.append(path)
        else:
            kept[key] = value
    return kept


def _leads_out(path: str) -> bool:
    return path.startswith(("/", "~")) or ".." in PurePath(path).parts
