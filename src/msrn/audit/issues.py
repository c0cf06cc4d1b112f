"""What can be wrong with a data set, how bad is it, and what is to be done? Every code of ``msrn data check``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["CODES", "Code", "Finding", "Picture", "Severity", "finding"]

Severity = Literal["error", "warning", "note"]


class Code(NamedTuple):
    """A kind of finding."""

    severity: Severity
    what: str
    hint: str


CODES: dict[str, Code] = {
    "source": Code("error", "a source that cannot be read", "mend it; nothing else in it was checked"),
    "missing": Code("error", "pictures that are not there", "check data.root, or drop them with --fix"),
    "unreadable": Code("error", "pictures that cannot be decoded", "replace them, or drop them with --fix"),
    "leak": Code(
        "error", "train/test leakage: the same picture in several splits", "drop it from all but the last with --fix"
    ),
    "conflict": Code("error", "the same picture with contradictory labels", "decide, or call them unknown with --fix"),
    "near-leak": Code(
        "warning",
        "likely train/test leakage: nearly the same picture in several splits",
        "look at them; --groups keeps them together in a new split",
    ),
    "duplicate": Code("warning", "the same picture several times in a split", "keep one with --fix"),
    "suffix": Code("warning", "pictures whose suffix names another format", "rename them: other programs trust it"),
    "blank": Code("warning", "pictures of a single colour", "look at them: failed downloads or exports?"),
    "tiny": Code("warning", "very small pictures", "look at them: thumbnails or icons?"),
    "narrow": Code("warning", "very wide or very high pictures", "cut them: squashed to a square they lose all shape"),
    "label-alike": Code("warning", "labels that differ in spelling alone", "merge them if they mean the same"),
    "label-absent": Code("warning", "labels without a picture in a split", "split anew, or leave the label out"),
    "label-rare": Code("warning", "labels with few pictures", "collect more, or trust their figures little"),
    "label-always": Code("warning", "labels that every picture has", "leave them out: there is nothing to learn"),
    "nothing-known": Code("warning", "pictures of which no label is known", "label them: they train nothing"),
    "near-duplicate": Code("note", "pictures that look nearly the same", "--groups keeps them together in a new split"),
    "large": Code("note", "very large pictures", "make them smaller, or set data.cache: decoding takes long"),
    "label-typo": Code("note", "labels a letter or two apart", "merge them if one is a slip"),
    "no-labels": Code("note", "pictures without any label", "right if they show none of the labels"),
    "near-not-checked": Code("note", "near duplicates were not looked for", "pip install 'msrn[data]'"),
}
"""Code to severity, meaning and advice, the worst first."""


class Picture(NamedTuple):
    """A picture of a split: name in its manifest, path (with the container it lies in), and position there from 0."""

    split: str
    image: str
    path: str
    position: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, with the pictures and labels it is about."""

    severity: Severity
    code: str
    message: str
    hint: str
    pictures: tuple[Picture, ...] = ()
    labels: tuple[str, ...] = ()


def finding(code: str, message: str, *, pictures: Sequence[Picture] = (), labels: Sequence[str] = ()) -> Finding:
    """A finding with its code's severity and advice."""
    kind = CODES[code]
    return Finding(kind.severity, code, message, kind.hint, tuple(pictures), tuple(labels))
