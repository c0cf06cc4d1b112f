"""The issues that ``msrn data check`` reports: every code with its severity, meaning and advice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["CODES", "Code", "ImageRef", "Issue", "Severity", "issue"]

Severity = Literal["error", "warning", "note"]


class Code(NamedTuple):
    """A kind of issue."""

    severity: Severity
    meaning: str
    hint: str


CODES: dict[str, Code] = {
    "source": Code("error", "splits that cannot be read", "correct the file; nothing else in it was checked"),
    "missing": Code("error", "images that do not exist", "check data.root, or leave them out with --fix"),
    "unreadable": Code("error", "images that cannot be decoded", "replace them, or leave them out with --fix"),
    "leak": Code(
        "error", "train/test leakage: the same image in several splits", "keep it only in the last split with --fix"
    ),
    "conflict": Code(
        "error", "the same image with contradictory labels", "correct the labels, or mark them unknown with --fix"
    ),
    "near-leak": Code(
        "warning",
        "likely train/test leakage: near duplicates in several splits",
        "inspect them; --split_groups keeps them together in a new split",
    ),
    "duplicate": Code("warning", "the same image several times in a split", "keep one copy with --fix"),
    "suffix": Code(
        "warning", "images whose suffix names another format", "rename them: other programs rely on the suffix"
    ),
    "blank": Code("warning", "images of a single colour", "inspect them: they may be failed downloads or exports"),
    "tiny": Code("warning", "very small images", "inspect them: they may be thumbnails or icons"),
    "narrow": Code("warning", "very wide or very tall images", "crop them: resizing to a square distorts them"),
    "label-compound": Code(
        "warning",
        "labels that look like several labels, or like remains of a list",
        "if cells hold several labels, name what separates them: --data.reader.delimiter, such as ' '",
    ),
    "label-number": Code(
        "warning", "labels that are numbers", "write names: label embeddings and reports know nothing of class numbers"
    ),
    "label-alike": Code("warning", "labels that differ only in spelling", "merge them if they mean the same"),
    "label-absent": Code("warning", "labels without an image in a split", "split again, or remove the label"),
    "label-rare": Code("warning", "labels with few images", "collect more images; their metrics are unreliable"),
    "label-always": Code(
        "warning", "labels that every image has", "remove them: there are no negative examples to train on"
    ),
    "nothing-known": Code("warning", "images without a known label", "label them: they add nothing to training"),
    "near-duplicate": Code("note", "near duplicates in a split", "--split_groups keeps them together in a new split"),
    "frames": Code(
        "note", "images with several frames or pages: the first is read", "save the others as images of their own"
    ),
    "large": Code("note", "very large images", "reduce them, or set data.cache: decoding is slow"),
    "label-typo": Code("note", "labels that differ by one or two letters", "merge them if one is a typing error"),
    "label-none": Code(
        "note",
        "labels that name the absence of all others",
        "if it does, remove it, and write - in its place: an image without labels needs no label that says so",
    ),
    "no-labels": Code("note", "images without labels", "no action if they show none of the labels"),
    "near-not-checked": Code("note", "near duplicates were not searched for", "pip install 'msrn[data]'"),
}
"""Code to severity, meaning and advice, in the order of the report: errors, warnings, notes."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image of a split.

    Fields: split; image, the name in the manifest; path, with the archive that holds it; position in the split, from 0.
    """

    split: str
    image: str
    path: str
    position: int


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue, with the images and labels that it concerns."""

    severity: Severity
    code: str
    message: str
    hint: str
    images: tuple[ImageRef, ...] = ()
    labels: tuple[str, ...] = ()


def issue(code: str, message: str, *, images: Sequence[ImageRef] = (), labels: Sequence[str] = ()) -> Issue:
    """An issue with the severity and advice of its code."""
    kind = CODES[code]
    return Issue(kind.severity, code, message, kind.hint, tuple(images), tuple(labels))
