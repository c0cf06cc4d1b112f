"""Check labelled images: decode all of them, and report what would spoil training or its metrics.

Splits are checked together, because a duplicate within a split wastes a little time, but a duplicate across splits
inflates the metrics. The name of a split decides what it is used for (``split_rank``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from PIL import Image

from msrn.audit.hashes import NEAR_BITS, imagehash_installed, near_pairs
from msrn.audit.issues import CODES, ImageRef, Issue, issue
from msrn.audit.label_names import label_issues
from msrn.audit.probe import Probe, probe_all
from msrn.audit.result import CheckedSplit, CheckResult
from msrn.audit.split_names import names_use
from msrn.data.manifest import Manifest, Record
from msrn.data.split_groups import equal_groups, joined
from msrn.errors import Problem

__all__ = ["Check", "check_data", "contradictions", "in_order", "split_rank"]

SMALL_SIDE, MANY_PIXELS, LONG = 32, 24_000_000, 5.0
"""Short side in pixels below which an image is tiny; pixels above which it is large; ratio of the sides above which it
is narrow."""


@dataclass(frozen=True, slots=True)
class Check:
    """The issues of a data set, with the data they were found in. Images are numbered through all splits.

    Fields: manifests, training splits first, each with a name of its own; ranks, one per manifest; images and probes,
    one per image; issues, in the order of ``CODES``; identical, groups of numbers of images with equal pixels; similar,
    those groups joined with near duplicates; near_bits, bits in which the hashes of near duplicates may differ (None:
    not searched for).
    """

    manifests: tuple[Manifest, ...]
    ranks: tuple[int, ...]
    images: tuple[ImageRef, ...]
    probes: tuple[Probe, ...]
    issues: tuple[Issue, ...]
    identical: tuple[tuple[int, ...], ...]
    similar: tuple[tuple[int, ...], ...]
    near_bits: int | None

    @property
    def result(self) -> CheckResult:
        """What was found, without the data."""
        splits = tuple(
            CheckedSplit(each.split, each.source, len(each), len(each.labels), rank)
            for each, rank in zip(self.manifests, self.ranks, strict=True)
        )
        labels = {name for each in self.manifests for name in each.labels}
        return CheckResult(self.near_bits, splits, len(labels), self.issues)

    def place(self, number: int) -> tuple[int, int]:
        """The number of the manifest that holds an image, and the position of the image in it."""
        for split, manifest in enumerate(self.manifests):
            if number < len(manifest):
                return split, number
            number -= len(manifest)
        raise IndexError(number)

    def record(self, number: int) -> Record:
        """The record of an image."""
        split, index = self.place(number)
        return self.manifests[split].records[index]

    def rank(self, number: int) -> int:
        """The rank of the split of an image."""
        return self.ranks[self.place(number)[0]]


def check_data(
    manifests: Sequence[Manifest],
    *,
    near_bits: int | None = NEAR_BITS,
    min_train: int = 10,
    min_test: int = 5,
    broken: Sequence[Problem] = (),
    workers: int = 1,
    advance: Callable[[int], None] = lambda _: None,
) -> Check:
    """Decode every image and search for issues.

    Args:
        manifests: one or more splits.
        near_bits: bits of 64 in which the hashes of near duplicates may differ, 0 to 15; None: do not search for them.
        min_train: images below which a label is rare in a training split.
        min_test: images below which a label is rare in a validation or test split.
        broken: problems of splits that could not be read; they become issues.
        workers: largest number of processes.
        advance: called with 1 after each image.

    Without the package ImageHash, near duplicates are not searched for, and an issue of severity ``note`` reports that.
    """
    wanted, near_bits = near_bits is not None, near_bits if imagehash_installed() else None
    named, ranks = in_order(manifests)
    images = tuple(
        ImageRef(each.split, record.image, str(each.path(index)), index)
        for each in named
        for index, record in enumerate(each.records)
    )
    paths = [image.path for image in images]
    probes = tuple(probe_all(paths, near=near_bits is not None, workers=workers, advance=advance))
    identical = equal_groups([probe.digest for probe in probes])
    near: list[list[int]] = []
    if near_bits is not None:
        # One of several identical images is enough.
        others = {number for group in identical for number in group[1:]}
        numbers = [number for number, probe in enumerate(probes) if probe.fingerprint and number not in others]
        prints = [mark for number in numbers if (mark := probes[number].fingerprint)]
        near = [[numbers[one], numbers[other]] for one, other in near_pairs(prints, bits=near_bits).tolist()]
    similar = joined(len(images), [*identical, *near])
    check = Check(named, ranks, images, probes, (), tuple(map(tuple, identical)), tuple(map(tuple, similar)), near_bits)
    issues = [
        *(_source_issue(problem) for problem in broken),
        *_image_issues(check),
        *_duplicate_issues(check),
        *_near_issues(check),
        *label_issues(named, ranks, min_train=min_train, min_test=min_test),
    ]
    if wanted and near_bits is None:
        issues.append(issue("near-not-checked", "the package ImageHash is not installed"))
    order_of = list(CODES)
    return replace(check, issues=tuple(sorted(issues, key=lambda each: order_of.index(each.code))))


def in_order(manifests: Sequence[Manifest]) -> tuple[tuple[Manifest, ...], tuple[int, ...]]:
    """Splits and their ranks, training splits first, each with a name of its own (a number is added if necessary)."""
    ranks = [split_rank(manifest.split, first=place == 0) for place, manifest in enumerate(manifests)]
    order = sorted(range(len(manifests)), key=lambda place: ranks[place])
    taken: set[str] = set()
    named = []
    for place in order:
        name, number = manifests[place].split or "data", 2
        while name in taken:
            name, number = f"{manifests[place].split or 'data'}-{number}", number + 1
        taken.add(name)
        named.append(replace(manifests[place], split=name))
    return tuple(named), tuple(ranks[place] for place in order)


def split_rank(name: str, *, first: bool = False) -> int:
    """0 for a split to train on, 1 for validation, 2 for testing.

    The first of train, val, dev and test that begins a word in the name decides. If there is none, the first split
    given is for training and the others are for testing.
    """
    found = names_use(name)
    return {"train": 0, "val": 1, "dev": 1, "test": 2}[found[1]] if found else 0 if first else 2


def contradictions(records: Sequence[Record]) -> list[str]:
    """Labels that are present in one of these records and absent in another, in alphabetical order."""
    present = [{*record.positives, *record.difficult} for record in records]
    absent = [
        {name for name in set().union(*present) if name not in shown and name not in record.unknown}
        for shown, record in zip(present, records, strict=True)
    ]
    return sorted(set().union(*present) & set().union(*absent))


def _source_issue(problem: Problem) -> Issue:
    message = f"{problem.where}: {problem.message}" if problem.where else problem.message
    return replace(issue("source", message), hint=problem.hint or CODES["source"].hint)


def _image_issues(check: Check) -> Iterator[Issue]:
    formats = Image.registered_extensions()
    for image, probe in zip(check.images, check.probes, strict=True):
        if probe.problem:
            yield issue("missing" if probe.missing else "unreadable", probe.problem, images=[image])
            continue
        suffix = PurePosixPath(image.image).suffix.lower()
        expected = formats.get(suffix, probe.kind).replace("MPO", "JPEG").replace("DIB", "BMP")
        if expected != probe.kind:
            yield issue("suffix", f"{suffix} holds {probe.kind}", images=[image])
        size = f"{probe.width} x {probe.height} pixels"
        short, long = sorted((probe.width, probe.height))
        if probe.frames > 1:
            yield issue("frames", f"{probe.frames} frames", images=[image])
        if probe.blank:
            yield issue("blank", f"a single colour, {size}", images=[image])
        if short < SMALL_SIDE:
            yield issue("tiny", size, images=[image])
        elif long / short > LONG:
            yield issue("narrow", size, images=[image])
        if short * long > MANY_PIXELS:
            yield issue("large", size, images=[image])
    for manifest in check.manifests:
        rows = [
            (ImageRef(manifest.split, record.image, str(manifest.path(index)), index), record)
            for index, record in enumerate(manifest.records)
            if not record.positives and not record.difficult
        ]
        unknown = [image for image, record in rows if len(record.unknown) == len(manifest.labels)]
        none = [image for image, record in rows if len(record.unknown) < len(manifest.labels)]
        for code, found in (("nothing-known", unknown), ("no-labels", none)):
            if found:
                message = f"{len(found):,} of {len(manifest):,} images of {manifest.split}"
                yield issue(code, message, images=found)


def _duplicate_issues(check: Check) -> Iterator[Issue]:
    for group in check.identical:
        images = [check.images[number] for number in group]
        if wrong := contradictions([check.record(number) for number in group]):
            message = f"copies disagree about {_listed(wrong)}"
            yield issue("conflict", message, images=images, labels=wrong)
        ranks = Counter(check.rank(number) for number in group)
        if len(ranks) > 1:
            yield issue("leak", f"the same pixels in {_listed(_splits(images))}", images=images)
        if max(ranks.values()) > 1:
            yield issue("duplicate", f"{len(group)} with the same pixels", images=images)


def _near_issues(check: Check) -> Iterator[Issue]:
    for group in check.similar:
        if len({check.probes[number].digest for number in group}) == 1:
            continue
        images = [check.images[number] for number in group]
        wrong = contradictions([check.record(number) for number in group])
        labels = f"; labels differ: {_listed(wrong)}" if wrong else ""
        if len({check.rank(number) for number in group}) > 1:
            message = f"{len(group)} in {_listed(_splits(images))}{labels}"
            yield issue("near-leak", message, images=images, labels=wrong)
        else:
            yield issue("near-duplicate", f"{len(group)} near duplicates{labels}", images=images, labels=wrong)


def _splits(images: Sequence[ImageRef]) -> list[str]:
    return list(dict.fromkeys(image.split for image in images))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]
