"""Read a manifest: a JSON lines file that ``msrn data`` or ``Manifest.write`` wrote."""

from __future__ import annotations

from dataclasses import replace

from msrn import registry
from msrn.data.manifest import Manifest
from msrn.data.readers.locate import split_file
from msrn.errors import DataError, Problem
from msrn.labels.space import LabelSpace

__all__ = ["Options", "read"]


class Options(registry.Options):
    """The reader of manifests has no options."""

    name: str = "manifest"


def read(options: Options, root: str, split: str, labels: LabelSpace | None) -> Manifest:
    """Read one split.

    Args:
        options: none.
        root: the folder that relative image paths start from; empty: that of the file's header.
        split: the file, also below ``root``.
        labels: bind to these, which must have the names of the manifest; None: the manifest's, in its order.

    Raises:
        DataError: as ``Manifest.read``, or the labels have other names.
    """
    path = split_file(root, split)
    manifest = Manifest.read(path, root=root or None)
    if labels is None:
        return manifest
    where = f"{path}, line 1"
    problems = [
        *(Problem(f"label {name!r} is not in the label set", where) for name in manifest.labels if name not in labels),
        # Otherwise a label that the manifest does not list would count as absent everywhere.
        *(Problem(f"the manifest lacks label {name!r}", where) for name in labels if name not in manifest.labels),
    ]
    if problems:
        raise DataError.of(problems, "the manifest and the label set have different labels")
    return replace(manifest, labels=labels)
