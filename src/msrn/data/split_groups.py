"""Split groups: images that stay together in a split. Groups that share an image are joined into one."""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np

from msrn.data.manifest import Manifest
from msrn.data.readers.table import IMAGE_COLUMNS, read_rows
from msrn.data.rows import pick_column
from msrn.errors import ConfigError, DataError

__all__ = ["SplitGroups", "equal_groups", "joined", "read_split_groups", "split_group_numbers", "split_groups_by_name"]

_log = logging.getLogger(__name__)

SplitGroups = Sequence[tuple[str, str]]
"""Pairs of an image and its group."""


def split_group_numbers(manifest: Manifest, split_groups: Iterable[SplitGroups]) -> np.ndarray:
    """``(n,)`` intp: images that share a group, also by way of others, have the same number, from 0 on.

    Images are identified by their name in the manifest or by their whole path; an image that no grouping names is
    alone.

    Raises:
        DataError: a grouping names no image of the manifest.
    """
    known = {posixpath.normpath(record.image): index for index, record in enumerate(manifest.records)}
    known |= {posixpath.normpath(str(manifest.path(index))): index for index in range(len(manifest))}
    together: list[list[int]] = []
    for grouping in split_groups:
        members: dict[str, list[int]] = {}
        others = 0
        for image, group in grouping:
            index = known.get(posixpath.normpath(image))
            if index is None:
                others += 1
            else:
                members.setdefault(group, []).append(index)
        together += members.values()
        if grouping and others == len(grouping):
            message = f"none of the {others:,} grouped images is in {manifest.source or 'the manifest'}"
            raise DataError(message, grouping[0][0], "name images as the data set does, or by their whole path")
        if others:
            _log.info("%d of %d grouped images are not in the data set", others, len(grouping))
    first = np.arange(len(manifest))
    for group_members in joined(len(manifest), together):
        first[group_members] = group_members[0]
    return np.unique(first, return_inverse=True)[1].astype(np.intp)


def split_groups_by_name(manifest: Manifest, pattern: str) -> SplitGroups:
    """A grouping by a regular expression: what its first bracket matches in the image name, or else the whole match.

    Raises:
        ConfigError: the expression is invalid, or matches nothing in some name.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"expected a regular expression, got {pattern!r}: {error}", "group_pattern") from error
    found = [(record.image, expression.search(record.image)) for record in manifest.records]
    unmatched = [image for image, match in found if match is None]
    if unmatched:
        message = f"{pattern!r} matches nothing in {len(unmatched):,} of {len(found):,} image names"
        raise ConfigError(message, unmatched[0], "end it with |.* to keep those together, or group by a file")
    return [(image, match[1] or "" if expression.groups else match[0]) for image, match in found if match]


def read_split_groups(path: str | Path, *, column: str = "group") -> SplitGroups:
    """A grouping from a CSV, TSV or JSON lines file with a column of images and one of groups; blank: alone.

    Raises:
        DataError: the file cannot be read, or lacks the column.
    """
    path = Path(path)
    columns, rows = read_rows(path, path.parent)
    where = f"{path}, line 1"
    group = pick_column(column, (), columns, where, "group_column")
    image = pick_column(None, IMAGE_COLUMNS, columns, where, "") or columns[0]
    pairs = [(row.cells.get(image), row.cells.get(str(group))) for row in rows]
    return [(str(name), str(value)) for name, value in pairs if name and value not in (None, "")]


def equal_groups(keys: Sequence[Hashable]) -> list[list[int]]:
    """Positions with equal keys, two or more each, in order; None equals nothing."""
    found: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        if key is not None:
            found.setdefault(key, []).append(index)
    return [group for group in found.values() if len(group) > 1]


def joined(count: int, groups: Iterable[Iterable[int]]) -> list[list[int]]:
    """Groups that share a position become one; groups of two or more, in order of their first position.

    Args:
        count: number of positions.
        groups: of positions; a group of one or none does nothing.
    """
    leader = list(range(count))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for group in groups:
        first, *rest = [int(index) for index in group]
        for index in rest:
            one, other = sorted((find(first), find(index)))
            leader[other] = one
    return equal_groups([find(index) for index in range(count)])
