"""Which label names look like one another, and which labels have too few pictures to learn or to judge?"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from msrn.audit.issues import Finding, finding
from msrn.data.manifest import Manifest
from msrn.data.split_groups import joined

__all__ = ["alike_names", "label_findings", "nearly_alike_names"]


def label_findings(
    manifests: Sequence[Manifest], ranks: Sequence[int], *, least_train: int, least_test: int
) -> Iterator[Finding]:
    """Findings about names, and about numbers of pictures; difficult objects count.

    Args:
        manifests: of the splits.
        ranks: 0 for a split to learn from, more for one to judge by.
        least_train: pictures below which a label is too rare to learn.
        least_test: pictures below which it is too rare to judge.
    """
    counts = {
        manifest.split: Counter(name for record in manifest.records for name in (*record.positives, *record.difficult))
        for manifest in manifests
    }
    names = list(dict.fromkeys(name for manifest in manifests for name in manifest.labels))
    total = {name: sum(found[name] for found in counts.values()) for name in names}
    for group in alike_names(names):
        told = ", ".join(f"{name!r} ({total[name]:,})" for name in group)
        yield finding("label-alike", f"{told}: differ in case, blanks, signs or plural", labels=group)
    for pair in nearly_alike_names(names):
        told = ", ".join(f"{name!r} ({total[name]:,})" for name in pair)
        yield finding("label-typo", f"{told}: a letter or two apart", labels=pair)
    for name in names:
        without = [split for split, found in counts.items() if not found[name]]
        if without:
            yield finding("label-absent", f"{name!r}: no picture in {', '.join(without)}", labels=[name])
        for manifest, rank in zip(manifests, ranks, strict=True):
            count, least = counts[manifest.split][name], least_test if rank else least_train
            purpose = "judge" if rank else "learn"
            if 0 < count < least:
                told = f"{name!r}: {count} in {manifest.split}, fewer than {least} to {purpose}"
                yield finding("label-rare", told, labels=[name])
            if count == len(manifest) > 1 and not rank:
                yield finding("label-always", f"{name!r}: all {count:,} pictures of {manifest.split}", labels=[name])


LEAST_LETTERS = {1: 5, 2: 7}
"""Letters that both names must have to be one or two edits apart by mistake; cat and car are so by right."""


def alike_names(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of names that differ in case, blanks, punctuation, accents or a plural ending alone.

    Example:
        >>> alike_names(["tv monitor", "TV_monitors", "dog"])
        [('tv monitor', 'TV_monitors')]
    """
    plain = [_plain(name) for name in names]
    places: dict[str, list[int]] = {}
    for place, key in enumerate(plain):
        places.setdefault(key, []).append(place)
    groups = list(places.values())
    for key, members in places.items():
        groups += [[members[0], places[single][0]] for single in _singulars(key) if single in places]
    return [tuple(names[place] for place in group) for group in joined(len(names), groups)]


def nearly_alike_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names one edit apart (a letter more, less, other, or two swapped), or two if they are long.

    Names of fewer than five letters (seven for two edits), those whose digits differ (``class 1``, ``class 2``), and
    those that are ``alike_names`` are no pairs.

    Example:
        >>> nearly_alike_names(["bicycle", "bycicle", "bicycles", "cat", "car"])
        [('bicycle', 'bycicle')]
    """
    alike = {frozenset(pair) for group in alike_names(names) for pair in combinations(group, 2)}
    keys = [_plain(name) for name in names]
    # An edit changes the number of at most two letters: most pairs need no closer look.
    letters = np.zeros((len(keys), 64), np.int16)
    for row, key in enumerate(keys):
        np.add.at(letters[row], [ord(letter) % 64 for letter in key], 1)
    found = []
    for row, key in enumerate(keys):
        for other in (row + 1 + np.flatnonzero(np.abs(letters[row + 1 :] - letters[row]).sum(1) <= 4)).tolist():
            apart = _edits(key, keys[other])
            short = min(len(key), len(keys[other]))
            if apart in LEAST_LETTERS and short >= LEAST_LETTERS[apart] and _digits(key) == _digits(keys[other]):
                pair = names[row], names[other]
                found += [] if frozenset(pair) in alike else [pair]
    return found


def _plain(name: str) -> str:
    """Small letters and digits alone, without accents."""
    letters = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in letters if letter.isalnum()) or letters


def _singulars(name: str) -> list[str]:
    """What a plural may be the plural of."""
    endings = {"s": "", "es": "", "ies": "y"}
    return [
        name.removesuffix(end) + instead
        for end, instead in endings.items()
        if len(name) > len(end) + 2 and name.endswith(end)
    ]


def _digits(name: str) -> str:
    return "".join(letter for letter in name if letter.isdigit())


def _edits(one: str, other: str) -> int:
    """Letters put in, taken out, changed or swapped with the next, at least (optimal string alignment)."""
    before, last = [0] * (len(other) + 1), list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        row = [i]
        for j, b in enumerate(other, start=1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
