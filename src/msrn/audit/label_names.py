"""Checks of labels: names that resemble one another, and labels with too few images to train on or evaluate."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import OSA

from msrn.audit.issues import Issue, issue
from msrn.data.compounds import compound_labels, means_none
from msrn.data.manifest import Manifest
from msrn.data.split_groups import joined

__all__ = ["equivalent_names", "label_issues", "similar_names"]


def label_issues(
    manifests: Sequence[Manifest], ranks: Sequence[int], *, min_train: int, min_test: int
) -> Iterator[Issue]:
    """Issues of label names and of numbers of images; difficult objects count as present.

    Args:
        manifests: of the splits.
        ranks: 0 for a split to train on, more for validation and test splits.
        min_train: images below which a label is rare in a training split.
        min_test: images below which it is rare in another split.
    """
    counts = {
        manifest.split: Counter(name for record in manifest.records for name in (*record.positives, *record.difficult))
        for manifest in manifests
    }
    names = list(dict.fromkeys(name for manifest in manifests for name in manifest.labels))
    total = {name: sum(found[name] for found in counts.values()) for name in names}
    yield from _odd_names(names)
    for group in equivalent_names(names):
        listed = ", ".join(f"{name!r} ({total[name]:,})" for name in group)
        yield issue(
            "label-alike", f"{listed}: differ in case, spaces, punctuation, plural or number only", labels=group
        )
    for pair in similar_names(names):
        listed = ", ".join(f"{name!r} ({total[name]:,})" for name in pair)
        yield issue("label-typo", f"{listed}: one or two letters apart", labels=pair)
    for name in names:
        without = [split for split, found in counts.items() if not found[name]]
        if without:
            yield issue("label-absent", f"{name!r}: no image in {', '.join(without)}", labels=[name])
        for manifest, rank in zip(manifests, ranks, strict=True):
            count, required = counts[manifest.split][name], min_test if rank else min_train
            if 0 < count < required:
                message = f"{name!r}: {count} in {manifest.split}, expected at least {required}"
                yield issue("label-rare", message, labels=[name])
            if count == len(manifest) > 1 and not rank:
                yield issue("label-always", f"{name!r}: all {count:,} images of {manifest.split}", labels=[name])


def _odd_names(names: Sequence[str]) -> Iterator[Issue]:
    """Issues of names that a reader may have made of something else."""
    if compound := compound_labels(names):
        first = ", ".join(f"{name!r} ({why})" for name, why in list(compound.items())[:3])
        found = issue("label-compound", f"{len(compound):,} of {len(names):,}: {first}", labels=tuple(compound))
        yield replace(found, severity="error") if 2 * len(compound) > len(names) else found
    if numbers := [name for name in names if name.isdecimal()]:
        yield issue("label-number", ", ".join(numbers[:5]), labels=numbers)
    if none := [name for name in names if means_none(name)]:
        yield issue("label-none", ", ".join(map(repr, none)), labels=none)


MIN_LETTERS = {1: 5, 2: 7}
"""Edits to the letters that both names must have: shorter names, such as cat and car, often differ by so little."""

NAMES_AT_A_TIME = 512


def equivalent_names(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of names that differ only in case, spaces, punctuation, accents, a plural ending or a copy's number.

    Example:
        >>> equivalent_names(["tv monitor", "TV_monitors", "dog"])
        [('tv monitor', 'TV_monitors')]
    """
    plain = [_plain(name) for name in names]
    places: dict[str, list[int]] = {}
    for place, key in enumerate(plain):
        places.setdefault(key, []).append(place)
    groups = list(places.values())
    for key, members in places.items():
        groups += [[members[0], places[single][0]] for single in _singulars(key) if single in places]
    # pandas writes the second column of a name as name.1
    copies = {name: found[1] for name in names if (found := re.fullmatch(r"(.+)\.\d+", name))}
    groups += [[names.index(base), names.index(name)] for name, base in copies.items() if base in names]
    return [tuple(names[place] for place in group) for group in joined(len(names), groups)]


def similar_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names one edit apart (a letter more, less, other, or two swapped), or two if they are long.

    Left out are names of fewer than five letters (seven for two edits), names whose digits differ (``class 1``,
    ``class 2``), and ``equivalent_names``. The distance is optimal string alignment, by rapidfuzz.

    Example:
        >>> similar_names(["bicycle", "bycicle", "bicycles", "cat", "car"])
        [('bicycle', 'bycicle')]
    """
    equivalent = {frozenset(pair) for group in equivalent_names(names) for pair in combinations(group, 2)}
    keys = [_plain(name) for name in names]
    most = max(MIN_LETTERS)
    found = []
    for start in range(0, len(keys), NAMES_AT_A_TIME):
        block = keys[start : start + NAMES_AT_A_TIME]
        # (block, L), above the cutoff: cutoff + 1
        edits = process.cdist(block, keys, scorer=OSA.distance, score_cutoff=most, dtype=np.uint8)
        for row, column in np.argwhere(edits <= most).tolist():
            one, other, apart = start + row, column, int(edits[row, column])
            if one >= other or apart == 0 or min(len(keys[one]), len(keys[other])) < MIN_LETTERS[apart]:
                continue
            pair = names[one], names[other]
            if frozenset(pair) not in equivalent and _digits(keys[one]) == _digits(keys[other]):
                found.append(pair)
    return found


def _plain(name: str) -> str:
    """Lower-case letters and digits only, without accents."""
    letters = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in letters if letter.isalnum()) or letters


def _singulars(name: str) -> list[str]:
    """Names of which this may be the plural."""
    endings = {"s": "", "es": "", "ies": "y"}
    return [
        name.removesuffix(end) + instead
        for end, instead in endings.items()
        if len(name) > len(end) + 2 and name.endswith(end)
    ]


def _digits(name: str) -> str:
    return "".join(letter for letter in name if letter.isdigit())
