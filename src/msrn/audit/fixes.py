"""Fix what ``check_data`` found wrong with images: write new manifests without them. No image is changed or deleted."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from msrn.audit.check import Check, contradictions, in_order
from msrn.audit.issues import ImageRef
from msrn.data.manifest import Manifest, Record
from msrn.errors import DataError, printable
from msrn.files import atomic_paths, refuse_to_overwrite, write_atomically
from msrn.labels.space import LabelSpace

__all__ = ["Change", "changes_text", "fix_data", "fixed_files", "write_fixed"]

LEFT_OUT = "left-out.jsonl"

Reason = Literal["missing", "unreadable", "leak", "duplicate", "conflict"]


@dataclass(frozen=True, slots=True)
class Change:
    """An image that was left out, or (reason ``conflict``) kept with some of its labels unknown.

    Fields: image; reason; because_of, the image that is kept in its place; labels, those that are now unknown.
    """

    image: ImageRef
    reason: Reason
    because_of: ImageRef | None = None
    labels: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A line of ``left-out.jsonl``."""
        kept = self.because_of
        return {
            "split": self.image.split,
            "image": self.image.image,
            "reason": self.reason,
            "because_of": kept and {"split": kept.split, "image": kept.image},
            "labels": list(self.labels),
        }


def fix_data(check: Check) -> tuple[list[Manifest], list[Change]]:
    """The manifests without missing and unreadable images, without leaks, and with each image once.

    - An image in splits of several ranks is kept in the last of them (test before validation before training).
    - Of identical images in splits of one rank, the first is kept. Labels that the others contradict become unknown.
      A label that is unknown in one copy and known in another is known.

    Near duplicates are kept: a person must decide whether they are too similar.

    Raises:
        DataError: a split would be left empty.
    """
    changes: dict[int, Change] = {}
    records: dict[int, Record] = {}
    for number, (image, probe) in enumerate(zip(check.images, check.probes, strict=True)):
        if probe.problem:
            changes[number] = Change(image, "missing" if probe.missing else "unreadable")
    for group in check.identical:
        last = max(check.rank(number) for number in group)
        kept, *same = [number for number in group if check.rank(number) == last]
        leaked = [number for number in group if check.rank(number) < last]
        changes |= {number: Change(check.images[number], "leak", check.images[kept]) for number in leaked}
        changes |= {number: Change(check.images[number], "duplicate", check.images[kept]) for number in same}
        copies = [check.record(number) for number in (kept, *same)]
        records[kept] = merged(copies, check.manifests[check.place(kept)[0]].labels)
        if wrong := contradictions(copies):
            changes[kept] = Change(check.images[kept], "conflict", None, tuple(wrong))
    left_out = {number for number, change in changes.items() if change.reason != "conflict"}
    manifests, start = [], 0
    for manifest in check.manifests:
        members = range(start, start + len(manifest))
        start += len(manifest)
        left = tuple(records.get(number, check.record(number)) for number in members if number not in left_out)
        if not left:
            raise DataError("the fix would leave the split empty", manifest.split, "see the report of msrn data check")
        reasons = Counter(changes[number].reason for number in members if number in changes)
        counted = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
        source = f"{manifest.source}; checked" + (f", left out or changed: {counted}" if counted else "")
        manifests.append(replace(manifest, records=left, source=source))
    return manifests, [changes[number] for number in sorted(changes)]


def merged(copies: Sequence[Record], labels: LabelSpace) -> Record:
    """The first of several records of one image, with what all of them together know about these labels."""
    wrong = set(contradictions(copies))
    positives = {name for copy in copies for name in copy.positives} - wrong
    difficult = {name for copy in copies for name in copy.difficult} - wrong - positives
    # Unknown in all copies, or contradictory.
    unknown = set(copies[0].unknown).intersection(*(copy.unknown for copy in copies)) | wrong
    order = [name for copy in copies for name in (*copy.positives, *copy.difficult, *copy.unknown) if name in labels]
    states = [
        tuple(name for name in dict.fromkeys(order) if name in chosen) for chosen in (positives, difficult, unknown)
    ]
    return Record(copies[0].image, *states)


def fixed_files(manifests: Sequence[Manifest], folder: str | Path) -> list[Path]:
    """The files that ``write_fixed`` writes: one per split, in the order of ``Check.manifests``, then the list."""
    names = [re.sub(r"[^\w.-]+", "_", manifest.split) for manifest in in_order(manifests)[0]]
    differ = [name if names.count(name) == 1 else f"{number}-{name}" for number, name in enumerate(names, start=1)]
    return [Path(folder) / f"{name}.jsonl" for name in differ] + [Path(folder) / LEFT_OUT]


def write_fixed(check: Check, folder: str | Path, *, force: bool = False) -> tuple[list[Path], list[Change]]:
    """Write the fixed manifests, and ``left-out.jsonl`` with one line per change, into a folder.

    Raises:
        DataError: a file already exists (without ``force``), or a split would be left empty.
    """
    folder = Path(folder)
    manifests, changes = fix_data(check)
    paths = fixed_files(check.manifests, folder)
    refuse_to_overwrite(paths, force=force)
    with atomic_paths(paths, parents=True) as (*partials, left_out):
        for manifest, partial in zip(manifests, partials, strict=True):
            manifest.write(partial)
        write_atomically(left_out, "".join(json.dumps(change.to_json()) + "\n" for change in changes))
    return paths, changes


def changes_text(changes: Sequence[Change]) -> str:
    """Lines for people: how many images of each split were left out or changed, and why."""
    counts = Counter((change.image.split, change.reason) for change in changes)
    lines = [f"{printable(split)}: {count:,} {EXPLAINED[reason]}" for (split, reason), count in counts.items()]
    return "\n".join(lines) or "no image was left out"


EXPLAINED: dict[Reason, str] = {
    "missing": "left out: the file does not exist",
    "unreadable": "left out: the file cannot be read",
    "leak": "left out: the same image is in a later split",
    "duplicate": "left out: the same image comes earlier in the split",
    "conflict": "kept, with labels marked unknown where copies disagree",
}
