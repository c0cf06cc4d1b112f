"""Can these labelled pictures be trusted? Opens all of them, and names what would spoil training or its numbers.

Splits are looked at together. What a model learns from is told from what judges it by the splits' names
(``split_rank``), for the same duplicate is a blemish within a split and false praise across them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from PIL import Image

from msrn.audit.hashes import NEAR_BITS, imagehash_is_there, near_pairs
from msrn.audit.issues import CODES, Finding, Picture, finding
from msrn.audit.label_names import label_findings
from msrn.audit.probe import Probe, probe_all
from msrn.data.manifest import Manifest, Record
from msrn.data.split_groups import equal_groups, joined
from msrn.errors import Problem

__all__ = ["Check", "check_data", "contradictions", "in_order", "split_rank"]

SMALL_SIDE, MANY_PIXELS, LONG = 32, 24_000_000, 5.0
"""Short side in pixels below which a picture is tiny; pixels above which it is large; sides' ratio above which it is
narrow."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was found. Pictures of all splits are numbered through, in the order of ``manifests``.

    Fields: manifests, those that learn before those that judge, each with a name of its own; ranks, one per manifest;
    pictures and probes, one per picture; findings, the worst first; equal, groups of numbers of pictures with the
    same pixels; alike, those and near duplicates, joined; near_bits, bits in which hashes of near duplicates may
    differ, None: not looked for.
    """

    manifests: tuple[Manifest, ...]
    ranks: tuple[int, ...]
    pictures: tuple[Picture, ...]
    probes: tuple[Probe, ...]
    findings: tuple[Finding, ...]
    equal: tuple[tuple[int, ...], ...]
    alike: tuple[tuple[int, ...], ...]
    near_bits: int | None

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings by severity."""
        found = Counter(each.severity for each in self.findings)
        return {severity: found[severity] for severity in ("error", "warning", "note")}

    def place(self, number: int) -> tuple[int, int]:
        """Which manifest a picture is in, and its position there."""
        for split, manifest in enumerate(self.manifests):
            if number < len(manifest):
                return split, number
            number -= len(manifest)
        raise IndexError(number)

    def record(self, number: int) -> Record:
        """The record of a picture."""
        split, index = self.place(number)
        return self.manifests[split].records[index]

    def rank(self, number: int) -> int:
        """The rank of a picture's split."""
        return self.ranks[self.place(number)[0]]


def check_data(
    manifests: Sequence[Manifest],
    *,
    near_bits: int | None = NEAR_BITS,
    least_train: int = 10,
    least_test: int = 5,
    broken: Sequence[Problem] = (),
    workers: int = 1,
    advance: Callable[[int], None] = lambda _: None,
) -> Check:
    """Open every picture and look for what is wrong.

    Args:
        manifests: one or more splits.
        near_bits: bits of 64 in which hashes of near duplicates may differ, 0 to 15; None: do not look for them.
        least_train: pictures below which a label is too rare to learn.
        least_test: pictures below which a label is too rare to judge.
        broken: what is wrong with splits that could not be read at all; becomes findings.
        workers: processes at most.
        advance: called with 1 for every picture that is done.

    Without the package ImageHash near duplicates are not looked for, and a finding says so.
    """
    wanted, near_bits = near_bits is not None, near_bits if imagehash_is_there() else None
    named, ranks = in_order(manifests)
    pictures = tuple(
        Picture(each.split, record.image, str(each.path(index)), index)
        for each in named
        for index, record in enumerate(each.records)
    )
    paths = [picture.path for picture in pictures]
    probes = tuple(probe_all(paths, near=near_bits is not None, workers=workers, advance=advance))
    equal = equal_groups([probe.digest for probe in probes])
    near: list[list[int]] = []
    if near_bits is not None:
        # Of equal pictures one is enough.
        others = {number for group in equal for number in group[1:]}
        numbers = [number for number, probe in enumerate(probes) if probe.fingerprint and number not in others]
        prints = [mark for number in numbers if (mark := probes[number].fingerprint)]
        near = [[numbers[one], numbers[other]] for one, other in near_pairs(prints, bits=near_bits).tolist()]
    alike = joined(len(pictures), [*equal, *near])
    check = Check(named, ranks, pictures, probes, (), tuple(map(tuple, equal)), tuple(map(tuple, alike)), near_bits)
    findings = [
        *(replace(finding("source", _told(problem)), hint=problem.hint or CODES["source"].hint) for problem in broken),
        *_picture_findings(check),
        *_equal_findings(check),
        *_near_findings(check),
        *label_findings(named, ranks, least_train=least_train, least_test=least_test),
    ]
    if wanted and near_bits is None:
        findings.append(finding("near-not-checked", "the package ImageHash is not installed"))
    order_of = list(CODES)
    return replace(check, findings=tuple(sorted(findings, key=lambda each: order_of.index(each.code))))


def in_order(manifests: Sequence[Manifest]) -> tuple[tuple[Manifest, ...], tuple[int, ...]]:
    """Splits and their ranks: those that learn first, each with a name of its own (a number is added if need be)."""
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
    """0 for a split to learn from, 1 to choose by, 2 to judge by.

    The first of train, val, dev and test that begins a word in the name decides. Without any, the first split given
    learns and others judge.
    """
    found = re.search(r"(?<![a-z])(train|val|dev|test)", name.lower())
    return {"train": 0, "val": 1, "dev": 1, "test": 2}[found[1]] if found else 0 if first else 2


def contradictions(records: Sequence[Record]) -> list[str]:
    """Labels that one of these records says are present and another says are not, in alphabetical order."""
    present = [{*record.positives, *record.difficult} for record in records]
    denied = [
        {name for name in set().union(*present) if name not in shows and name not in record.unknown}
        for shows, record in zip(present, records, strict=True)
    ]
    return sorted(set().union(*present) & set().union(*denied))


def _picture_findings(check: Check) -> Iterator[Finding]:
    formats = Image.registered_extensions()
    for picture, probe in zip(check.pictures, check.probes, strict=True):
        if probe.problem:
            yield finding("missing" if probe.missing else "unreadable", probe.problem, pictures=[picture])
            continue
        suffix = PurePosixPath(picture.image).suffix.lower()
        said = formats.get(suffix, probe.kind).replace("MPO", "JPEG").replace("DIB", "BMP")
        if said != probe.kind:
            yield finding("suffix", f"{suffix} holds {probe.kind}", pictures=[picture])
        size = f"{probe.width} x {probe.height} pixels"
        short, long = sorted((probe.width, probe.height))
        if probe.blank:
            yield finding("blank", f"a single colour, {size}", pictures=[picture])
        if short < SMALL_SIDE:
            yield finding("tiny", size, pictures=[picture])
        elif long / short > LONG:
            yield finding("narrow", size, pictures=[picture])
        if short * long > MANY_PIXELS:
            yield finding("large", size, pictures=[picture])
    for manifest in check.manifests:
        rows = [
            (Picture(manifest.split, record.image, str(manifest.path(index)), index), record)
            for index, record in enumerate(manifest.records)
            if not record.positives and not record.difficult
        ]
        silent = [picture for picture, record in rows if len(record.unknown) == len(manifest.labels)]
        none = [picture for picture, record in rows if len(record.unknown) < len(manifest.labels)]
        for code, found in (("nothing-known", silent), ("no-labels", none)):
            if found:
                told = f"{len(found):,} of {len(manifest):,} pictures of {manifest.split}"
                yield finding(code, told, pictures=found)


def _equal_findings(check: Check) -> Iterator[Finding]:
    for group in check.equal:
        pictures = [check.pictures[number] for number in group]
        if wrong := contradictions([check.record(number) for number in group]):
            yield finding("conflict", f"some say {_list(wrong)}, some say not", pictures=pictures, labels=wrong)
        ranks = Counter(check.rank(number) for number in group)
        if len(ranks) > 1:
            yield finding("leak", f"the same pixels in {_list(_splits(pictures))}", pictures=pictures)
        if max(ranks.values()) > 1:
            yield finding("duplicate", f"{len(group)} with the same pixels", pictures=pictures)


def _near_findings(check: Check) -> Iterator[Finding]:
    for group in check.alike:
        if len({check.probes[number].digest for number in group}) == 1:
            continue
        pictures = [check.pictures[number] for number in group]
        wrong = contradictions([check.record(number) for number in group])
        labels = f"; labels differ: {_list(wrong)}" if wrong else ""
        if len({check.rank(number) for number in group}) > 1:
            told = f"{len(group)} in {_list(_splits(pictures))}{labels}"
            yield finding("near-leak", told, pictures=pictures, labels=wrong)
        else:
            yield finding("near-duplicate", f"{len(group)} look alike{labels}", pictures=pictures, labels=wrong)


def _told(problem: Problem) -> str:
    return f"{problem.where}: {problem.message}" if problem.where else problem.message


def _splits(pictures: Sequence[Picture]) -> list[str]:
    return list(dict.fromkeys(picture.split for picture in pictures))


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]
