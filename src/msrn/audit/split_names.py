"""Name splits by what tells their files apart, so that ``train/labels.csv`` and ``test/labels.csv`` differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from msrn.data.manifest import Manifest

__all__ = ["name_splits", "names_use"]


def names_use(name: str) -> re.Match[str] | None:
    """The word of a name that tells the use of a split: the first of train, val, dev and test that begins a word."""
    return re.search(r"(?<![a-z])(train|val|dev|test)", name.lower())


def name_splits(manifests: Sequence[Manifest], sources: Sequence[str]) -> list[Manifest]:
    """The manifests, named by the parts of their paths that differ where their own names do not tell them apart.

    Args:
        manifests: the splits.
        sources: the file, folder or name of each.

    Returns:
        The manifests as they are if their names differ and one of them tells its use, or if the paths tell no more.
    """
    own = [manifest.split for manifest in manifests]
    if len(manifests) < 2 or (len(set(own)) == len(own) and any(names_use(name) for name in own)):
        return list(manifests)
    paths = [PurePath(source).parts for source in sources]
    depth = max(len(parts) for parts in paths)
    # Counted from the end: the file names first, then the folders above them.
    aligned = [(("",) * (depth - len(parts))) + parts for parts in paths]
    differing = [place for place in range(depth) if len({parts[place] for parts in aligned}) > 1]
    names = ["/".join(_name(parts, place, depth) for place in differing if parts[place]) for parts in aligned]
    if not all(names) or len(set(names)) < len(names):
        return list(manifests)
    if len(set(own)) == len(own) and not any(names_use(name) for name in names):
        return list(manifests)
    return [replace(manifest, split=name) for manifest, name in zip(manifests, names, strict=True)]


def _name(parts: Sequence[str], place: int, depth: int) -> str:
    return PurePath(parts[place]).stem if place == depth - 1 else parts[place]
