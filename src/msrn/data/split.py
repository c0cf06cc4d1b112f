"""Split a data set so that each part has its share of every label, and images of one split group stay together.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): the rarest label is assigned first, each image to the
part that lacks that label most. We differ in two points. A whole split group (one patient, one film, near duplicates)
is assigned at once and counts as often as it has images; large groups come first. And a full part receives no more:
the parts of the paper miss their sizes by up to one per cent.

Hand-written, because the package iterative-stratification has no groups, and scikit-learn's StratifiedGroupKFold takes
one label per image.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from msrn.data.manifest import DIFFICULT, POSITIVE, Manifest
from msrn.data.split_groups import SplitGroups, split_group_numbers
from msrn.errors import ConfigError, DataError

__all__ = ["split_manifest", "split_report", "stratify"]

_log = logging.getLogger(__name__)


def split_manifest(
    manifest: Manifest, parts: Mapping[str, float], *, seed: int = 0, split_groups: Iterable[SplitGroups] = ()
) -> dict[str, Manifest]:
    """Split a manifest into named parts; images keep their order.

    Args:
        manifest: the data set. Difficult labels count as present; unknown labels do not count.
        parts: name and share of each; the shares sum to 1.
        seed: of the choice between parts that lack a label equally.
        split_groups: any number of groupings; images that share a group in one of them stay together.

    Raises:
        ConfigError: the shares are not above 0, or do not sum to 1. DataError: a part would be empty.
    """
    shares = np.array(list(parts.values()), np.float64)
    if not len(parts) or not np.all(shares > 0) or abs(shares.sum() - 1) > 1e-6:
        got = ", ".join(f"{name}={share}" for name, share in parts.items()) or "none"
        raise ConfigError(f"expected shares above 0 that sum to 1, got {got}", "parts", "train=0.8,val=0.2")
    numbers = split_group_numbers(manifest, split_groups)
    codes = manifest.codes()
    chosen = stratify((codes == POSITIVE) | (codes == DIFFICULT), shares, split_groups=numbers, seed=seed)
    count = int(numbers.max()) + 1
    how = f"iterative stratification, seed {seed}" + (f", {count:,} split groups" if count < len(manifest) else "")
    split: dict[str, Manifest] = {}
    for part, (name, share) in enumerate(parts.items()):
        records = tuple(manifest.records[index] for index in np.flatnonzero(chosen == part))
        if not records:
            message = f"part {name} would get none of {len(manifest):,} images in {count:,} split groups"
            raise DataError(message, manifest.source, "ask for fewer parts or larger shares")
        source = f"{manifest.source}; {name}: a share of {share:g} by {how}"
        split[name] = replace(manifest, records=records, split=name, source=source)
    return split


def stratify(
    present: np.ndarray, shares: np.ndarray, *, split_groups: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Assign images to parts.

    Args:
        present: ``(n, L)`` bool, whether an image has a label.
        shares: ``(parts,)``, summing to 1.
        split_groups: ``(n,)`` number of the split group of each image, from 0 on; None: each image is alone.
        seed: of ties.

    Returns:
        ``(n,)`` intp, the part of each image.
    """
    rng = np.random.default_rng([seed, 30])
    images, labels = present.shape
    groups = np.arange(images) if split_groups is None else split_groups
    sizes = np.bincount(groups)
    # Split groups with their labels and how often they have them, as sparse rows.
    rows, columns = np.nonzero(present)
    cells, counts = np.unique(groups[rows] * max(labels, 1) + columns, return_counts=True)
    owner, column = cells // max(labels, 1), cells % max(labels, 1)
    start = np.searchsorted(owner, np.arange(len(sizes) + 1))
    # The split groups of each label: those that have it most often first, then large ones, then at random.
    draw = rng.permutation(len(sizes))
    order = np.lexsort((draw[owner], -sizes[owner], -counts, column))
    bounds = np.searchsorted(column[order], np.arange(labels + 1))

    left = present.sum(0).astype(np.int64)
    lacks = np.outer(shares, left)
    room = shares * images
    chosen = np.full(len(sizes), -1, np.intp)

    def assign(group: int, wish: np.ndarray) -> None:
        free = room >= sizes[group] / 2
        wish = np.where(free, wish, -np.inf) if free.any() else room
        best = np.flatnonzero(wish >= wish.max() - 1e-9)
        best = best[room[best] >= room[best].max() - 1e-9]
        part = best[rng.integers(len(best))] if len(best) > 1 else best[0]
        its = slice(start[group], start[group + 1])
        chosen[group] = part
        lacks[part, column[its]] -= counts[its]
        left[column[its]] -= counts[its]
        room[part] -= sizes[group]

    while left.any():
        label = int(np.where(left > 0, left, np.iinfo(np.int64).max).argmin())
        for group in owner[order[bounds[label] : bounds[label + 1]]]:
            if chosen[group] < 0:
                assign(group, lacks[:, label])
    rest = np.flatnonzero(chosen < 0)
    for group in rest[np.lexsort((draw[rest], -sizes[rest]))]:
        assign(group, room)
    return chosen[groups]


def split_report(split: Mapping[str, Manifest]) -> str:
    """A text: sizes of the parts, and how far their labels are from equal shares."""
    totals = {name: (part.codes() == POSITIVE).sum(0) for name, part in split.items()}
    images = sum(len(part) for part in split.values())
    whole = np.sum(list(totals.values()), 0)
    lines = []
    for name, part in split.items():
        share = len(part) / images
        lines.append(f"{name:<8} {len(part):>9,} images  {100 * share:5.1f} %")
        if whole.any():
            labels = part.labels.names
            off = np.where(whole > 0, totals[name] / np.maximum(whole, 1) - share, 0)
            worst = int(np.abs(off).argmax())
            lines[-1] += f"   furthest label: {labels[worst]}, {100 * (share + off[worst]):.1f} % of its images"
            lost = [labels[column] for column in np.flatnonzero((totals[name] == 0) & (whole > 0))]
            lines += [f"{'':8} without any image here: {', '.join(lost)}"] if lost else []
    return "\n".join(lines)
