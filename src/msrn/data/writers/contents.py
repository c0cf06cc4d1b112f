"""What writers share: image names relative to the output, label states, and the comparison of two manifests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from msrn.data.manifest import Manifest

__all__ = ["image_names", "label_states", "same_labels", "written_text"]


def image_names(manifest: Manifest, folder: Path) -> tuple[list[str], Path]:
    """Image names, and the folder they start from: ``folder`` if all images are below it, else the manifest's root."""
    paths = [str(manifest.path(index)) for index in range(len(manifest))]
    for root in (folder, manifest.root):
        names = [os.path.relpath(path, root).replace(os.sep, "/") for path in paths]
        if not any(name.startswith("../") for name in names):
            return names, root
    return [record.image for record in manifest.records], manifest.root


def label_states(manifest: Manifest, index: int, *, every: bool) -> dict[str, Any]:
    """The labels of a record: a list of names, or with ``every`` the three lists of a manifest."""
    record = manifest.records[index]
    if not every:
        return {"labels": list(record.positives)}
    states = {"positives": record.positives, "difficult": record.difficult, "unknown": record.unknown}
    return {name: list(names) for name, names in states.items()}


def same_labels(one: Manifest, other: Manifest) -> bool:
    """Whether two manifests have the same labels for each image, in whatever order of columns."""
    if set(one.labels) != set(other.labels) or len(one) != len(other):
        return False
    return bool(np.array_equal(one.codes(), other.codes()[:, one.labels.align(other.labels)]))


def written_text(path: Path, root: Path) -> str:
    """The file that was written, and the root to read it with where that is not its own folder."""
    return str(path) if root == path.parent else f"{path} (image paths start from {root}: read it with --data.root)"
