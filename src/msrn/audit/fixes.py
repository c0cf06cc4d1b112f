"""What is left of a data set without the pictures that ``check`` found wrong? New manifests; nothing is deleted."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from msrn.audit.check import Check, contradictions, in_order
from msrn.audit.issues import Picture
from msrn.audit.output import printable, write_text
from msrn.data.manifest import Manifest, Record
from msrn.data.writers.convert import refuse_to_overwrite
from msrn.errors import DataError
from msrn.labels.space import LabelSpace

__all__ = ["Change", "changes_text", "mend", "mended_files", "write_mended"]

LEFT_OUT = "left-out.jsonl"


class Change(NamedTuple):
    """A picture that was left out, or (reason ``conflict``) kept with some of its labels unknown.

    Fields: picture; reason, ``missing``, ``unreadable``, ``leak``, ``duplicate`` or ``conflict``; because_of, the
    picture that stays in its place; labels, those that are now unknown.
    """

    picture: Picture
    reason: str
    because_of: Picture | None = None
    labels: tuple[str, ...] = ()


def mend(check: Check) -> tuple[list[Manifest], list[Change]]:
    """The manifests without unreadable pictures, without leaks, and with each picture once.

    - A picture that is in several ranks of splits stays in the last (test before val before train).
    - Of equal pictures in one rank the first stays. Labels that the others contradict become unknown; where one says
      unknown and another knows, the one that knows is believed.

    Near duplicates stay: whether they are too near is for a person to say.

    Raises:
        DataError: a split would be left empty.
    """
    changes: dict[int, list[Change]] = {}
    records: dict[int, Record] = {}
    for number, (picture, probe) in enumerate(zip(check.pictures, check.probes, strict=True)):
        if probe.problem:
            changes[number] = [Change(picture, "missing" if probe.missing else "unreadable")]
    for group in check.equal:
        last = max(check.rank(number) for number in group)
        kept, *same = [number for number in group if check.rank(number) == last]
        stays = check.pictures[kept]
        leaked = [number for number in group if check.rank(number) < last]
        for reason, numbers in (("leak", leaked), ("duplicate", same)):
            changes |= {number: [Change(check.pictures[number], reason, stays)] for number in numbers}
        copies = [check.record(number) for number in (kept, *same)]
        records[kept] = merged(copies, check.manifests[check.place(kept)[0]].labels)
        if wrong := contradictions(copies):
            changes[kept] = [Change(stays, "conflict", None, tuple(wrong))]
    gone = {number for number, found in changes.items() if found[0].reason != "conflict"}
    manifests, start = [], 0
    for manifest in check.manifests:
        members = range(start, start + len(manifest))
        start += len(manifest)
        left = tuple(records.get(number, check.record(number)) for number in members if number not in gone)
        if not left:
            raise DataError("nothing would be left of the split", manifest.split, "see what msrn data check says of it")
        reasons = Counter(changes[number][0].reason for number in members if number in changes)
        told = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
        source = f"{manifest.source}; checked" + (f", left out or changed: {told}" if told else "")
        manifests.append(replace(manifest, records=left, source=source))
    return manifests, [change for number in sorted(changes) for change in changes[number]]


def merged(copies: Sequence[Record], labels: LabelSpace) -> Record:
    """The first of several records of one picture, with what all of them know together of these labels."""
    first = copies[0]
    unknown = {name for copy in copies for name in copy.unknown}
    wrong = set(contradictions(copies))
    positives = {name for copy in copies for name in copy.positives} - wrong
    difficult = {name for copy in copies for name in copy.difficult} - wrong - positives
    # Unknown to all copies; what one of them knows, as present or absent, is known.
    still = {name for name in unknown if all(name in copy.unknown for copy in copies)} | wrong
    order = [name for copy in copies for name in (*copy.positives, *copy.difficult, *copy.unknown) if name in labels]
    states = [
        tuple(name for name in dict.fromkeys(order) if name in chosen) for chosen in (positives, difficult, still)
    ]
    return Record(first.image, *states)


def mended_files(manifests: Sequence[Manifest], folder: str | Path) -> list[Path]:
    """The files that ``write_mended`` writes: one per split, in the order of ``Check.manifests``, and the list."""
    names = [re.sub(r"[^\w.-]+", "_", manifest.split) for manifest in in_order(manifests)[0]]
    differ = [name if names.count(name) == 1 else f"{number}-{name}" for number, name in enumerate(names, start=1)]
    return [Path(folder) / f"{name}.jsonl" for name in differ] + [Path(folder) / LEFT_OUT]


def write_mended(check: Check, folder: str | Path, *, force: bool = False) -> tuple[list[Path], list[Change]]:
    """Write the mended manifests, and ``left-out.jsonl`` with one line per change, into a folder.

    Raises:
        DataError: something is there already (without ``force``), or as ``mend``.
    """
    folder = Path(folder)
    manifests, changes = mend(check)
    paths = mended_files(check.manifests, folder)
    refuse_to_overwrite(paths, force=force)
    folder.mkdir(parents=True, exist_ok=True)
    for manifest, path in zip(manifests, paths[:-1], strict=True):
        manifest.write(path)
    lines = [
        {
            "split": change.picture.split,
            "image": change.picture.image,
            "reason": change.reason,
            "because_of": change.because_of and {"split": change.because_of.split, "image": change.because_of.image},
            "labels": list(change.labels),
        }
        for change in changes
    ]
    write_text(paths[-1], "".join(json.dumps(line) + "\n" for line in lines))
    return paths, changes


def changes_text(changes: Sequence[Change]) -> str:
    """How many pictures of which split were left out or changed, and why, in lines for people."""
    counts = Counter((change.picture.split, change.reason) for change in changes)
    lines = [f"{printable(split)}: {count:,} {TOLD[reason]}" for (split, reason), count in counts.items()]
    return "\n".join(lines) or "nothing was left out"


TOLD = {
    "missing": "left out, for they are not there",
    "unreadable": "left out, for they cannot be read",
    "leak": "left out, for another split judges by the same picture",
    "duplicate": "left out, for the same picture stands before",
    "conflict": "kept, with the labels unknown on which its copies contradict one another",
}
