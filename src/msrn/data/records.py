"""What is a labelled set of pictures, whatever format it came in?"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from msrn.errors import DataError, LabelError, Problem
from msrn.labels.space import LabelSpace

__all__ = ["DIFFICULT", "NEGATIVE", "POSITIVE", "UNKNOWN", "Manifest", "Record", "missing_images"]

POSITIVE, NEGATIVE, UNKNOWN, DIFFICULT = 1, 0, -1, 2
"""Codes of ``Manifest.codes``."""

Difficult = Literal["positive", "negative", "ignore"]


@dataclass(frozen=True, slots=True)
class Record:
    """One picture: its path (absolute, or relative to the manifest's root) and label names by state.

    Every label named in none of the three tuples is negative.
    """

    image: str
    positives: tuple[str, ...] = ()
    difficult: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A split: records and the label space they are bound to, by name.

    ``source`` says in words where it came from; it is repeated in results.
    """

    records: tuple[Record, ...]
    labels: LabelSpace
    split: str
    root: Path
    source: str = ""

    def __len__(self) -> int:
        return len(self.records)

    def path(self, index: int) -> Path:
        """Where a picture lies."""
        return self.root / self.records[index].image

    def first(self, count: int) -> Manifest:
        """The first pictures, as a manifest."""
        return Manifest(self.records[:count], self.labels, self.split, self.root, self.source)

    def codes(self) -> np.ndarray:
        """``(n, L)`` int8: POSITIVE, NEGATIVE, UNKNOWN or DIFFICULT."""
        codes = np.zeros((len(self), len(self.labels)), np.int8)
        for row, record in enumerate(self.records):
            for names, code in (
                (record.positives, POSITIVE),
                (record.difficult, DIFFICULT),
                (record.unknown, UNKNOWN),
            ):
                if names:
                    codes[row, self.labels.columns(names)] = code
        return codes

    def targets(self, difficult: Difficult) -> np.ndarray:
        """``(n, L)`` float32 in {1, 0, nan}; nan is unknown, and difficult objects under the policy ``ignore``."""
        value = {"positive": 1.0, "negative": 0.0, "ignore": np.nan}[difficult]
        table = np.zeros(4, np.float32)
        table[POSITIVE], table[DIFFICULT], table[UNKNOWN] = 1.0, value, np.nan
        return table[self.codes()]  # a code of -1 picks the last entry, which is UNKNOWN's

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over picture names and labels in order: two equal digests are the same split."""
        hasher = hashlib.sha256(self.labels.digest.encode())
        for record in self.records:
            hasher.update(json.dumps(_row(record), ensure_ascii=False).encode())
        return hasher.hexdigest()

    def write(self, path: str | Path) -> None:
        """Write as JSON lines: a header with labels, split and source, then one record a line."""
        path = Path(path)
        header = {"msrn_manifest": 1, "labels": list(self.labels.names), "split": self.split, "source": self.source}
        lines = [header, *(_row(record) for record in self.records)]
        beside = path.with_name(f"{path.name}.partial")
        beside.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
        os.replace(beside, path)

    @staticmethod
    def read(path: str | Path, *, root: str | Path | None = None) -> Manifest:
        """Read what ``write`` wrote.

        Args:
            path: the JSON lines file.
            root: what relative picture paths start from; None: the file's folder.

        Raises:
            DataError: no such file, no manifest, or broken lines (all of them, by number).
        """
        path = Path(path)
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the manifest: {error}", str(path), "write one with Manifest.write") from error
        try:
            header = json.loads(lines[0])
            labels = LabelSpace(header["labels"])
            if header["msrn_manifest"] != 1:
                raise DataError(f"expected manifest version 1, got {header['msrn_manifest']}", f"{path}, line 1")
        except (IndexError, ValueError, KeyError, TypeError, LabelError) as error:
            hint = 'its first line is {"msrn_manifest": 1, "labels": [...], "split": "train", "source": ""}'
            raise DataError("expected a manifest with a header line", f"{path}, line 1", hint) from error
        records, problems = [], []
        for number, line in enumerate(lines[1:], start=2):
            try:
                records.append(_record(json.loads(line), labels))
            except (ValueError, TypeError, KeyError, LabelError) as error:
                problems.append(Problem(f"broken record: {str(error).splitlines()[0]}", f"{path}, line {number}"))
        if not records and not problems:
            problems.append(Problem("the manifest holds no pictures", str(path)))
        if problems:
            raise DataError.of(problems, f"the manifest {path.name} is broken")
        folder = Path(root) if root else path.parent
        return Manifest(tuple(records), labels, str(header.get("split", "")), folder, str(header.get("source", "")))

    def verify(self) -> None:
        """Open every picture.

        Raises:
            DataError: all pictures that are missing or cannot be decoded.
        """
        from msrn.data.transforms import open_image  # Pillow and torch are not needed before

        problems = []
        for index in range(len(self)):
            try:
                open_image(self.path(index))
            except DataError as error:
                problems.extend(error.problems)
        if problems:
            raise DataError.of(problems, f"pictures of {self.split} cannot be read")


def missing_images(root: Path, images: Sequence[tuple[str, str]]) -> list[Problem]:
    """Problems for pictures that are not there. ``images`` holds (path under root, where it is named).

    Each folder is listed once, which is much quicker than asking for every file.
    """
    listed: dict[Path, set[str]] = {}
    problems = []
    for image, where in images:
        path = root / image
        folder = path.parent
        if folder not in listed:
            listed[folder] = {entry.name for entry in os.scandir(folder)} if folder.is_dir() else set()
        if path.name not in listed[folder]:
            problems.append(Problem(f"expected a picture at {path}, found none", where, "check data.root and the name"))
    return problems


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"image": record.image, "positives": list(record.positives)}
    row |= {"difficult": list(record.difficult)} if record.difficult else {}
    row |= {"unknown": list(record.unknown)} if record.unknown else {}
    return row


def _record(row: dict[str, Any], labels: LabelSpace) -> Record:
    unexpected = set(row) - {"image", "positives", "difficult", "unknown"}
    if unexpected or not isinstance(row["image"], str):
        raise ValueError(f"expected image, positives, difficult, unknown; got {', '.join(sorted(row))}")
    states = [tuple(row.get(state, ())) for state in ("positives", "difficult", "unknown")]
    named = [name for names in states for name in names]
    labels.columns(named)
    if len(set(named)) != len(named):
        raise ValueError("a label is named twice")
    return Record(row["image"], *states)
