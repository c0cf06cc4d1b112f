"""A split of a data set: images, their labels by state, and the label space they are bound to."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from msrn.data.archives.members import read_bytes
from msrn.data.archives.names import archive_and_member
from msrn.data.image_paths import repeated_images
from msrn.errors import DataError, LabelError, Problem, reason
from msrn.files import parse_json, write_atomically
from msrn.labels.space import LabelSpace

__all__ = ["DIFFICULT", "MAX_ENTRIES", "NEGATIVE", "POSITIVE", "UNKNOWN", "Manifest", "Record", "require_entries"]

POSITIVE, NEGATIVE, UNKNOWN, DIFFICULT = 1, 0, -1, 2
"""Codes of ``Manifest.codes``."""

MAX_ENTRIES = 2**31
"""Largest number of images times labels of a split: its targets take 8 GiB then."""

Difficult = Literal["positive", "negative", "ignore"]


def require_entries(images: int, labels: int, where: str) -> None:
    """Refuse a split of too many images and labels before anything of that size is made.

    Raises:
        DataError: there are more than ``MAX_ENTRIES`` entries.
    """
    if images * labels > MAX_ENTRIES:
        message = f"expected at most {MAX_ENTRIES:,} entries (images x labels), got {images:,} x {labels:,}"
        raise DataError(message, where, "leave out labels, or part the data set")


@dataclass(frozen=True, slots=True)
class Record:
    """One image: its path (absolute, or relative to the root of the manifest) and label names by state.

    An image in an archive is named as in ``000.tar::dog/1.jpg`` (``data.archives``). Every label that none of the three
    tuples names is negative.
    """

    image: str
    positives: tuple[str, ...] = ()
    difficult: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A split: records and the label space they are bound to, by name.

    ``source`` describes in words where the records came from; results repeat it. ``reading`` describes how a table was
    understood: its columns, delimiter and form; it is no part of a written manifest.
    """

    records: tuple[Record, ...]
    labels: LabelSpace
    split: str
    root: Path
    source: str = ""
    reading: str = ""

    def __post_init__(self) -> None:
        require_entries(len(self.records), len(self.labels), self.source or self.split)

    def __len__(self) -> int:
        return len(self.records)

    def path(self, index: int) -> Path:
        """The path of an image; ``open_image`` opens it, also in an archive."""
        return self.root / self.records[index].image

    def image_bytes(self, index: int) -> bytes:
        """An image as it is stored, encoded.

        Raises:
            DataError: the file cannot be read, or the archive is missing or damaged, or has no such member.
        """
        path = self.path(index)
        try:
            return read_bytes(path) if archive_and_member(path) else path.read_bytes()
        except OSError as error:
            raise DataError(f"the image cannot be read: {reason(error)}", str(path)) from error

    def first(self, count: int) -> Manifest:
        """A manifest of the first images."""
        return replace(self, records=self.records[:count])

    @property
    def unknown_entries(self) -> int:
        """Number of (image, label) entries that are unknown."""
        return sum(len(record.unknown) for record in self.records)

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
        targets: np.ndarray = table[self.codes()]  # a code of -1 picks the last entry, that of UNKNOWN
        return targets

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over image names and labels in order: equal digests mean the same split."""
        hasher = hashlib.sha256(self.labels.digest.encode())
        for record in self.records:
            hasher.update(_json_line(_row(record)).rstrip(b"\n"))
        return hasher.hexdigest()

    def write(self, path: str | Path) -> None:
        """Write as JSON lines: a header with labels, split, source and root, then one record a line.

        The root is written relative to the folder of the file, so that both can move together. An interrupted write
        leaves no partial file; missing folders are created.
        """
        path = Path(path)
        root = os.path.relpath(self.root, os.path.abspath(path.parent)).replace(os.sep, "/")
        header = {"msrn_manifest": 1, "labels": list(self.labels.names), "split": self.split, "source": self.source}
        lines = [header | {"root": root}, *(_row(record) for record in self.records)]
        write_atomically(path, b"".join(_json_line(line) for line in lines), parents=True)

    @staticmethod
    def read(path: str | Path, *, root: str | Path | None = None) -> Manifest:
        """Read a file that ``write`` wrote. The images are not looked for; ``msrn data check`` opens them.

        Args:
            path: the JSON lines file.
            root: the folder that relative image paths start from; None: that of the header, or else of the file.

        Raises:
            DataError: the file is missing or not a manifest, or lines are broken (all of them, by number).
        """
        path = Path(path)
        try:
            # Not splitlines(): it also breaks at characters that a name may hold (U+0085, U+2028).
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            hint = "write one with Manifest.write"
            raise DataError(f"cannot read the manifest: {reason(error)}", str(path), hint) from error
        try:
            header = parse_json(lines[0])
            labels = LabelSpace(header["labels"])
            if header["msrn_manifest"] != 1:
                raise DataError(f"expected manifest version 1, got {header['msrn_manifest']}", f"{path}, line 1")
        except LabelError as error:
            raise DataError(
                f"the manifest's labels are broken: {error.message}", f"{path}, line 1", error.hint
            ) from error
        except (IndexError, ValueError, KeyError, TypeError) as error:
            hint = 'its first line is {"msrn_manifest": 1, "labels": [...], "split": "train", "source": ""}'
            raise DataError("expected a manifest with a header line", f"{path}, line 1", hint) from error
        records, problems = [], []
        places: list[str] = []
        for number, line in enumerate(lines[1:], start=2):
            where = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                records.append(_record(parse_json(line), labels))
                places.append(where)
            except LabelError as error:
                problems += [Problem(problem.message, where, problem.hint) for problem in error.problems]
            except (ValueError, TypeError, KeyError) as error:
                problems.append(Problem(f"broken record: {str(error).splitlines()[0]}", where))
        problems += repeated_images([record.image for record in records], places)
        if not records and not problems:
            problems.append(Problem("the manifest holds no images", str(path)))
        if problems:
            raise DataError.of(problems, f"the manifest {path.name} is broken")
        folder = Path(root) if root else Path(os.path.normpath(path.parent / str(header.get("root", "."))))
        return Manifest(tuple(records), labels, str(header.get("split", "")), folder, str(header.get("source", "")))


def _json_line(value: dict[str, Any]) -> bytes:
    try:
        return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:  # a file name that is not text; the escapes of JSON can hold it
        return (json.dumps(value) + "\n").encode("ascii")


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"image": record.image, "positives": list(record.positives)}
    row |= {"difficult": list(record.difficult)} if record.difficult else {}
    row |= {"unknown": list(record.unknown)} if record.unknown else {}
    return row


def _record(row: dict[str, Any], labels: LabelSpace) -> Record:
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, got {type(row).__name__}")
    unexpected = set(row) - {"image", "positives", "difficult", "unknown"}
    if unexpected or not isinstance(row.get("image"), str):
        raise ValueError(f"expected image, positives, difficult, unknown; got {', '.join(sorted(row))}")
    if "positives" not in row:  # the record would pass for an image that shows none of the labels
        raise ValueError("expected positives: [] for none; if nothing is known, list every label in unknown")
    if not row["image"] or "\0" in row["image"]:
        raise ValueError(f"expected a file name, got {row['image']!r}")
    lists = [row.get(state, []) for state in ("positives", "difficult", "unknown")]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise ValueError("expected positives, difficult and unknown to be lists of label names")
    states = [tuple(names) for names in lists]
    named = [name for names in states for name in names]
    labels.columns(named)
    if len(set(named)) != len(named):
        raise ValueError("a label is named twice")
    return Record(row["image"], *states)
