"""What is a labelled set of pictures, whatever format it came in?"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from msrn.data.archives.containers import inside, read_inside
from msrn.errors import DataError, LabelError, Problem, reason
from msrn.labels.space import LabelSpace

__all__ = [
    "DIFFICULT",
    "NEGATIVE",
    "POSITIVE",
    "UNKNOWN",
    "Manifest",
    "Record",
    "folder_of_images",
    "missing_images",
    "outside_images",
    "repeated_images",
]

POSITIVE, NEGATIVE, UNKNOWN, DIFFICULT = 1, 0, -1, 2
"""Codes of ``Manifest.codes``."""

Difficult = Literal["positive", "negative", "ignore"]


@dataclass(frozen=True, slots=True)
class Record:
    """One picture: its path (absolute, or relative to the manifest's root) and label names by state.

    A picture inside a tar shard or a parquet file is named ``000.tar::dog/1.jpg`` (``data.archives.containers``).

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
        """Where a picture lies; ``open_image`` opens it, also inside a tar shard or a parquet file."""
        return self.root / self.records[index].image

    def picture(self, index: int) -> Path | bytes:
        """A picture as it was stored: its file's path, or the bytes that a container holds.

        Raises:
            DataError: the container is missing or damaged, or has no such member.
        """
        path = self.path(index)
        return read_inside(path) if inside(path) else path

    def first(self, count: int) -> Manifest:
        """The first pictures, as a manifest."""
        return Manifest(self.records[:count], self.labels, self.split, self.root, self.source)

    @property
    def unknown_entries(self) -> int:
        """How many of the (picture, label) entries are unknown."""
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
        targets: np.ndarray = table[self.codes()]  # a code of -1 picks the last entry, which is UNKNOWN's
        return targets

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over picture names and labels in order: two equal digests are the same split."""
        hasher = hashlib.sha256(self.labels.digest.encode())
        for record in self.records:
            hasher.update(_json_line(_row(record)).rstrip(b"\n"))
        return hasher.hexdigest()

    def write(self, path: str | Path) -> None:
        """Write as JSON lines: a header with labels, split, source and root, then one record a line.

        The root is written relative to the file's folder, so that both can move together. The file appears whole or
        not at all.
        """
        path = Path(path)
        root = os.path.relpath(self.root, os.path.abspath(path.parent)).replace(os.sep, "/")
        header = {"msrn_manifest": 1, "labels": list(self.labels.names), "split": self.split, "source": self.source}
        lines = [header | {"root": root}, *(_row(record) for record in self.records)]
        beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            beside.write_bytes(b"".join(_json_line(line) for line in lines))
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)

    @staticmethod
    def read(path: str | Path, *, root: str | Path | None = None) -> Manifest:
        """Read what ``write`` wrote.

        Args:
            path: the JSON lines file.
            root: what relative picture paths start from; None: what the header says, or else the file's folder.

        Raises:
            DataError: no such file, no manifest, or broken lines (all of them, by number).

        Whether the pictures are there is not looked at; ``verify`` does that.
        """
        path = Path(path)
        try:
            # Not splitlines(): it also breaks at characters that a name may hold (U+0085, U+2028).
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            hint = "write one with Manifest.write"
            raise DataError(f"cannot read the manifest: {reason(error)}", str(path), hint) from error
        try:
            header = json.loads(lines[0])
            labels = LabelSpace(header["labels"])
            if header["msrn_manifest"] != 1:
                raise DataError(f"expected manifest version 1, got {header['msrn_manifest']}", f"{path}, line 1")
        except (IndexError, ValueError, KeyError, TypeError, LabelError) as error:
            hint = 'its first line is {"msrn_manifest": 1, "labels": [...], "split": "train", "source": ""}'
            raise DataError("expected a manifest with a header line", f"{path}, line 1", hint) from error
        records, problems = [], []
        places: list[str] = []
        for number, line in enumerate(lines[1:], start=2):
            where = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                records.append(_record(json.loads(line), labels))
                places.append(where)
            except LabelError as error:
                problems += [Problem(problem.message, where, problem.hint) for problem in error.problems]
            except (ValueError, TypeError, KeyError) as error:
                problems.append(Problem(f"broken record: {str(error).splitlines()[0]}", where))
        problems += repeated_images([record.image for record in records], places)
        if not records and not problems:
            problems.append(Problem("the manifest holds no pictures", str(path)))
        if problems:
            raise DataError.of(problems, f"the manifest {path.name} is broken")
        folder = Path(root) if root else Path(os.path.normpath(path.parent / str(header.get("root", "."))))
        return Manifest(tuple(records), labels, str(header.get("split", "")), folder, str(header.get("source", "")))

    def verify(self, *, workers: int = 4) -> None:
        """Open and decode every picture, in ``workers`` threads.

        Raises:
            DataError: all pictures that are missing or cannot be decoded.
        """
        from msrn.data.transforms import open_image  # Pillow and torch are not needed before

        def check(index: int) -> Sequence[Problem]:
            try:
                open_image(self.path(index))
            except DataError as error:
                return error.problems
            return ()

        with ThreadPoolExecutor(max(1, workers)) as pool:
            problems = [problem for found in pool.map(check, range(len(self))) for problem in found]
        if problems:
            raise DataError.of(problems, f"pictures of {self.split} cannot be read")


def folder_of_images(places: Sequence[Path], images: Sequence[str]) -> Path | None:
    """The first place where any of the first hundred pictures is (more than one, for one may be missing), or None."""
    some = [(image, "") for image in images[:100]]
    return next((place for place in places if len(missing_images(place, some)) < len(some)), None)


def missing_images(root: Path, images: Sequence[tuple[str, str]]) -> list[Problem]:
    """Problems for pictures that are not there. ``images`` holds (path under root, where it is named).

    Each folder is listed once, which is much quicker than asking for every file. Of a picture inside a container, only
    the container is looked for.
    """
    listed: dict[Path, set[str]] = {}
    problems = []
    for image, where in images:
        place = inside(image)
        path = root / (place[0] if place else image)
        folder = path.parent
        if folder not in listed:
            listed[folder] = _file_names(folder)
        if path.name not in listed[folder]:
            hint = "write folders with forward slashes" if "\\" in image else "check data.root and the name"
            problems.append(Problem(f"expected a picture at {path}, found none", where, hint))
    return problems


def outside_images(root: Path, images: Sequence[tuple[str, str]]) -> list[Problem]:
    """Problems for pictures that lie outside the root, by their name or because a link leads there.

    ``images`` as in ``missing_images``. The root itself may be a link. For readers of files that come from others.
    """
    top = os.path.join(os.path.realpath(root), "")
    folders: dict[str, tuple[bool, set[str]]] = {}
    problems = []
    for image, where in images:
        folder, name = os.path.split(os.path.join(root, image))
        if folder not in folders:
            folders[folder] = _lies_in(top, folder), _link_names(folder)
        inside_root, links = folders[folder]
        if not inside_root:
            hint = "picture names are relative to the folder of pictures, links in it may not leave it"
            problems.append(Problem(f"picture {image!r} lies outside {root}", where, hint))
        elif name in links and not _lies_in(top, os.path.join(folder, name)):
            hint = "put the file there in place of the link"
            problems.append(Problem(f"picture {image!r} is a link that leaves {root}", where, hint))
    return problems


def repeated_images(images: Sequence[str], places: Sequence[str]) -> list[Problem]:
    """Problems for pictures that are named more than once (``a.jpg`` and ``./a.jpg`` are the same)."""
    first: dict[str, str] = {}
    problems = []
    for image, where in zip(images, places, strict=True):
        key = posixpath.normpath(image) if image else ""
        if key and key in first:
            problems.append(Problem(f"picture {image!r} is named twice", where, f"first at {first[key]}"))
        first.setdefault(key, where)
    return problems


def _file_names(folder: Path) -> set[str]:
    """Names of a folder's files; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir()}
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return set()


def _link_names(folder: str) -> set[str]:
    """Names of a folder's links; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_symlink()}
    except (OSError, ValueError):
        return set()


def _lies_in(top: str, path: str) -> bool:
    """Whether a path, all links followed, is the folder ``top`` (which ends in a slash) or lies below it."""
    try:
        return os.path.join(os.path.realpath(path), "").startswith(top)
    except (OSError, ValueError):  # ValueError: a NUL in the name, or no text; such a picture is missing
        return True


def _json_line(value: dict[str, Any]) -> bytes:
    try:
        return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:  # a file name that is no text; JSON's escapes can hold it
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
    if "positives" not in row:  # it would pass for a picture that shows none of the labels
        raise ValueError("expected positives: [] for none, and every label in unknown where nothing is known")
    if not row["image"] or "\0" in row["image"]:
        raise ValueError(f"{row['image']!r} is no file name")
    said = [row.get(state, []) for state in ("positives", "difficult", "unknown")]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in said):
        raise ValueError("expected positives, difficult and unknown to be lists of label names")
    states = [tuple(names) for names in said]
    named = [name for names in states for name in names]
    labels.columns(named)
    if len(set(named)) != len(named):
        raise ValueError("a label is named twice")
    return Record(row["image"], *states)
